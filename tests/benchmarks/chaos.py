"""`make chaos`: kill -9 at random moments over one project, and at the end every output as of a clean run.

    python -m tests.benchmarks.chaos --rounds 20 --seed 1

A clean project is made once, undisturbed. Its twin is disturbed: each round forgets some of its outputs at random, has
them made anew by `eo-assets run` or by Dagster's webserver and daemon, and kills -9 a Ray worker, the raylet, the run's
process or the daemon at a random moment. The model trains with 1, 2 or 4 threads. What the round does not finish, the
next one does. After every round, and after a last undisturbed run, each output is compared with the clean project's,
file by file (in between only those of an equal recipe); then leftovers are swept, and looked for. Moments and victims
come from the seed; what they hit depends on the machine.

Writes build/chaos.json:

- `rounds`, `kills` by target, `missed`: rounds that were over before their victim was there or was hit.
- `stuck`: runs that had not ended by themselves `PATIENCE_S` after the kill. `orphans`: processes that outlived a run.
- `trained`: models made by number of threads. `mismatches`: outputs that differ from the clean run's.
- `swept`: what the last sweep removed. `leftovers`: temporary files and attempts without a record after it.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eo_assets.project import LoadedProject
from eo_assets.stages.build import tile_store
from jobs.graph import ASSETS
from jobs.project_jobs import AREA
from resources.sweeping import sweep
from tests.simulation.daemon import ROOT, Servers, servers
from tests.simulation.killing import COMMAND, RUN, THREADS, Round, kill_at_random, orphans, plan_rounds
from tests.simulation.launching import CommandLaunch, DagsterLaunch, run_command
from tests.simulation.measures import write_figures
from tests.simulation.outputs import Place, differences, fingerprints, leftovers
from tests.simulation.world import Simulation, simulated

TILES, PIXELS = 48, 64
PARAMETERS = {"n_estimators": 60, "num_leaves": 15, "min_data_in_leaf": 5, "learning_rate": 0.1}
PATIENCE_S = 180.0
FORGOTTEN = 0.6
"""The share of outputs that a round forgets."""


@dataclass
class Chaos:
    """The disturbed project, what its outputs should be, and what has happened so far."""

    project: Simulation
    loaded: LoadedProject
    clean: Mapping[Place, Mapping[str, str]]
    usual_s: float
    kills: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    trained: Counter[int] = field(default_factory=Counter)
    missed: int = 0
    stuck: int = 0
    orphans: list[str] = field(default_factory=list)
    mismatches: set[str] = field(default_factory=set)

    def disturb(self, plan: Round, started: Servers) -> None:
        """One round: forget, launch, kill, let it go on, compare."""
        chance = random.Random(plan.seed)
        self.project.open(_model(plan.threads))
        forget(self.loaded, chance)
        before = _model_attempt(self.loaded)
        launch = CommandLaunch(self.loaded) if plan.kind == COMMAND else DagsterLaunch(started, self.loaded)
        with launch as run:
            wait_s = plan.share * self._span(plan)
            family = kill_at_random(plan.target, lambda: run.pid(plan.target), run.over, wait_s, chance)
            if family is None:
                self.missed += 1
            else:
                self.kills[plan.target] += 1
                self.kinds[plan.kind] += 1
                self.stuck += not run.goes_on(plan.target, PATIENCE_S)
                self.orphans += orphans(family) if plan.target == RUN else []
        if isinstance(run, DagsterLaunch) and run.errors:
            print(f"  refused: {run.errors}", flush=True)
        after = _model_attempt(self.loaded)
        self.trained[plan.threads] += after is not None and after != before
        self._compare_what_should_be_equal()

    def finish(self) -> None:
        """One undisturbed run, which has to leave everything as in the clean project."""
        self.project.open(_model(None))
        run_command(self.loaded)
        self.mismatches |= set(differences(fingerprints(self.loaded), self.clean))

    def _compare_what_should_be_equal(self) -> None:
        """Equal recipes, equal bytes. In mid-chaos a map may rightly have another recipe: tiles are missing from it."""
        now = fingerprints(self.loaded)
        clean = {place: files["recipe"] for place, files in self.clean.items()}
        same = {place: files for place, files in now.items() if files["recipe"] == clean.get(place)}
        found = differences(same, {place: self.clean[place] for place in same})
        if found:
            print(f"  differ: {found}", flush=True)
        self.mismatches |= set(found)

    def _span(self, plan: Round) -> float:
        """Over how many seconds a kill is spread, from its victim's first sign of life on."""
        return self.usual_s if plan.target == RUN else self.usual_s / 2


def forget(loaded: LoadedProject, chance: random.Random) -> None:
    """Lose outputs at random, with their records; of imagery the delivery, or only the record."""
    store = tile_store(loaded)
    for asset in ASSETS:
        for key, record in sorted(store.records(asset).items()) if asset not in AREA else ():
            if chance.random() < FORGOTTEN:
                Path(store.record_place(asset, key)).unlink()
                if asset != "tiffs" or chance.random() < 0.5:
                    shutil.rmtree(store.store.path(record.attempt))


def main(rounds: int, seed: int, target: Path, keep: Path | None = None) -> int:
    """Disturb, compare, sweep, write; the exit code is 1 if anything differs or is left behind."""
    started_at = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as name:
        # Ray's files of killed runs go with the folder; its sockets ask for a short path.
        os.environ["RAY_TMPDIR"] = f"{name}/ray"
        folder = keep or Path(name)
        with simulated(folder / "clean", TILES, pixels=PIXELS) as twin:
            loaded = twin.open(_model(None))
            usual = run_command(loaded)
            clean = fingerprints(loaded)
        print(f"the clean run took {usual:.0f} s and made {len(clean)} outputs", flush=True)
        with simulated(folder / "chaos", TILES, pixels=PIXELS) as project:
            loaded = project.open(_model(None))
            chaos = Chaos(project, loaded, clean, usual)
            run_command(loaded)
            with servers(loaded, quick=True) as started:
                for plan in plan_rounds(rounds, seed):
                    chaos.disturb(plan, started)
                    print(f"{plan}: {_so_far(chaos)}", flush=True)
            chaos.finish()
            store = tile_store(loaded)
            left = leftovers(loaded)
            swept = [path for asset in ASSETS for path in sweep(store, asset, grace_seconds=-1)]
            figures = {**_figures(chaos, rounds, seed), "swept": len(swept), "leftovers": leftovers(loaded)}
    print(f"before the sweep: {len(left)} leftovers; swept: {swept[:5]}")
    write_figures(target, {**figures, "wall_s": round(time.monotonic() - started_at, 1)})
    return 1 if figures["mismatches"] or figures["leftovers"] else 0


def _figures(chaos: Chaos, rounds: int, seed: int) -> dict[str, Any]:
    return {
        "rounds": rounds,
        "seed": seed,
        "kills": dict(chaos.kills),
        "launched_by": dict(chaos.kinds),
        "missed": chaos.missed,
        "stuck": chaos.stuck,
        "orphans": chaos.orphans,
        "trained": {str(threads): chaos.trained[threads] for threads in THREADS},
        "mismatches": sorted(chaos.mismatches),
    }


def _so_far(chaos: Chaos) -> str:
    kills = ", ".join(f"{count} {target}" for target, count in sorted(chaos.kills.items()))
    return f"killed {kills or 'nobody'}; {chaos.missed} missed, {len(chaos.mismatches)} mismatches"


def _model(threads: int | None) -> dict[str, dict[str, Any]]:
    extra = {} if threads is None else {"num_threads": threads}
    return {"model": {"parameters": {**PARAMETERS, **extra}}}


def _model_attempt(loaded: LoadedProject) -> str | None:
    record = tile_store(loaded).record("model", "model")
    return None if record is None else record.attempt


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=ROOT / "build/chaos.json")
    parser.add_argument("--keep", type=Path, help="a folder in which the two projects stay")
    given = parser.parse_args()
    sys.exit(main(given.rounds, given.seed, given.output, given.keep))
