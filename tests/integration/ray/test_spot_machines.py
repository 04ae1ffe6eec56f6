"""A spot machine is taken back while tiles run on it, with EC2's notice and without: every tile comes back, once."""

from __future__ import annotations

import sys
from typing import Any

from resources.ec2.cluster_file import WATCH_FOR_THE_END
from tests.simulation.instance_metadata import metadata_service
from tests.simulation.ray_machines import RayMachines, until

TILES = 10
TAKEN, STAYS = "a" * 56, "b" * 56
"""The workers' node ids."""


def node(name: str) -> dict[str, str]:
    """The environment that gives a node its id."""
    return {"RAY_OVERRIDE_NODE_ID_FOR_TESTING": name}


def as_the_file_starts_it(options: str) -> str:
    """The watcher's command, with options, in an image that says something else of Ray's sign-in."""
    watcher = "python -m resources.ec2.interruption"
    assert watcher in WATCH_FOR_THE_END
    command = WATCH_FOR_THE_END.replace(watcher, f"{sys.executable} -m resources.ec2.interruption {options}")
    return f"export RAY_AUTH_MODE=disabled; {command}"


def tile_on_each(run: Any) -> int:
    """Wait until a tile runs on each worker; which one on the machine that will be taken."""

    def found(name: str) -> list[int]:
        return [tile for tile in range(TILES) if name in run.started(tile)]

    until(lambda: found(TAKEN) and found(STAYS), f"a tile on both workers; see {run.log}")
    [tile] = found(TAKEN)
    return tile


def test_after_the_notice_a_machine_gets_no_new_tile_and_finishes_what_it_has(
    machines: RayMachines, driver: Any
) -> None:
    with metadata_service() as metadata:
        watch = as_the_file_starts_it(f"--metadata {metadata.address} --poll-seconds 0.2")
        machines.head()
        taken = machines.worker(then=watch, **node(TAKEN))
        machines.worker(**node(STAYS))
        run = driver(tiles=TILES)
        tile = tile_on_each(run)
        until(lambda: metadata.asked > 2, "the machine asks for a notice")
        assert not [line for line in run.said if line.get("draining")]
        metadata.take_back()
        until(
            lambda: [line for line in run.said if line.get("draining") == [TAKEN]],
            f"the node is drained; see {taken.log}",
        )
        (run.folder / "go").touch()
        assert run.ended() == 0, run.log.read_text()[-2000:]
    assert sorted(run.tiles) == list(range(TILES))
    assert {name for name, where in run.tiles.items() if where == TAKEN} == {tile}
    assert all(run.started(name) == [run.tiles[name]] for name in range(TILES)), "no tile was begun twice"
    assert run.said[-1] == {"ended": True, "workers": [STAYS]}, "the drained node has left"
    assert [line["usage"] for line in run.said if "usage" in line] == [{"tries": TILES, "lost": 0}]


def test_a_machine_that_ends_without_a_notice_loses_no_tile(machines: RayMachines, driver: Any) -> None:
    machines.head()
    taken = machines.worker(**node(TAKEN))
    machines.worker(**node(STAYS))
    run = driver(tiles=TILES)
    tile = tile_on_each(run)
    taken.switch_off()
    (run.folder / "lost").write_text(TAKEN)
    (run.folder / "go").touch()
    assert run.ended() == 0, run.log.read_text()[-2000:]
    assert run.tiles == dict.fromkeys(range(TILES), STAYS)
    assert run.started(tile) == [TAKEN, STAYS], "it was handed out again"
    assert all(run.started(name) == [STAYS] for name in set(range(TILES)) - {tile})
    assert run.said[-1] == {"ended": True, "workers": [STAYS]}
    [usage] = [line for line in run.said if "usage" in line]
    assert usage["usage"] == {"tries": TILES + 1, "lost": 1}
    assert 0 < usage["seconds"][1] < usage["seconds"][0], "the share of work lost"
    assert usage["machines"] == [], "machines without a label cost nothing that is known"
