"""The simulated project that measurements stand on: its outputs can be compared, its leftovers are found and swept."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from eo_assets.stages.build import tile_store
from resources.sweeping import sweep
from resources.tile_store import GRACE_SECONDS
from tests.benchmarks.chaos import forget
from tests.integration.conftest import Graph, graph_of
from tests.simulation.killing import DAEMON, DAGSTER, RUN, TARGETS, kill_at_random, orphans, plan_rounds
from tests.simulation.outputs import differences, fingerprints, leftovers
from tests.simulation.world import Simulation, simulated

LONG_AGO = time.time() - 2 * GRACE_SECONDS


@pytest.fixture(scope="module")
def simulation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulation]:
    """Six tiles, nothing made yet."""
    with simulated(tmp_path_factory.mktemp("simulation") / "project", 6) as project:
        yield project


@pytest.fixture(scope="module")
def made(simulation: Simulation, local_ray: None) -> Graph:
    """The six tiles through the whole graph."""
    graph = graph_of(simulation.open())
    assert [result.failure for result in graph.run() if not result.success] == []
    return graph


def test_what_is_forgotten_is_made_as_it_was_and_leftovers_of_the_killed_are_swept_on_the_way(made: Graph) -> None:
    clean, store = fingerprints(made.loaded), tile_store(made.loaded)
    assert len(clean) == 3 + 6 * 6 + 4 and leftovers(made.loaded) == []

    forget(made.loaded, random.Random(2))
    lost = set(clean) - set(fingerprints(made.loaded))
    assert {"features", "predictions", "model"} <= {asset for asset, _ in lost}
    tile = next(key for asset, key in sorted(lost) if asset == "features")
    left = store.store.path(f"{store.folder('features')}/{tile}/20200101T000000-0123abcd")
    fresh = store.store.path(f"{store.folder('features')}/{tile}/20200101T000000-4567abcd")
    for folder, age in ((left, LONG_AGO), (fresh, time.time())):
        folder.mkdir(parents=True)
        os.utime(folder, (age, age))
    assert [Path(path).name for path in leftovers(made.loaded)] == [left.name, fresh.name]

    assert [result.failure for result in made.run() if not result.success] == []
    assert differences(fingerprints(made.loaded), clean) == []
    assert not left.exists() and fresh.exists(), "a run sweeps what nobody has written to for long, of its own tiles"
    sweep(store, "features", grace_seconds=-1)
    assert leftovers(made.loaded) == []


def test_differences_name_the_output_and_the_file(made: Graph) -> None:
    clean = fingerprints(made.loaded)
    place = ("model", "model")
    other = {**clean, place: {**clean[place], "model.txt": "another"}, ("maps", "32634"): {}}
    assert differences(clean, other) == ["maps of 32634 is on one side only", "model of model: model.txt"]


def test_rounds_are_spread_evenly_and_the_same_for_a_seed() -> None:
    planned = plan_rounds(20, seed=1)
    assert planned == plan_rounds(20, seed=1) != plan_rounds(20, seed=2)
    assert Counter(plan.target for plan in planned) == dict.fromkeys(TARGETS, 5)
    assert {plan.kind for plan in planned if plan.target == DAEMON} == {DAGSTER}
    assert {plan.kind for plan in planned if plan.target == RUN} == {"command", DAGSTER}


def test_a_kill_tells_whose_processes_are_left() -> None:
    parent = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
    process = subprocess.Popen([sys.executable, "-c", parent + "time.sleep(600)"])
    chance = random.Random(0)
    over = lambda: process.poll() is not None  # noqa: E731
    family = kill_at_random(RUN, lambda: process.pid, over, 1.0, chance)
    assert family is not None and process.wait() == -signal.SIGKILL
    assert kill_at_random(RUN, lambda: process.pid, over, 0.0, chance) is None
    assert len(orphans(family, patience_s=0.5)) == len(family)
