"""How seconds and memory grow with tiles and with dates, from adopted tiffs to maps; how long a run takes to begin.

    python -m tests.benchmarks.scaling [--tiles 1 2 4 8 16] [--dates 1 12 36 72] [--rounds 2]

Scenes of 853 x 853 pixels, 12 dates where tiles are counted and 2 tiles where dates are; a model of 100 trees of 100
leaves. Prints a table, writes build/scaling.json and a section of docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.peer import table
from tests.benchmarks.peer.bench import Bench, Peers, model_parameters
from tests.benchmarks.peer.document import put_section
from tests.benchmarks.peer.measure import Processes, forget_pages
from tests.benchmarks.peer.runs import Row
from tests.benchmarks.peer.scene import Scene

DATES, TILES = 12, 2
TREES, LEAVES, SAMPLES = 100, 100, 3000
"""A smaller model than that of `make bench`, of so many samples of a scene in all: one is trained for each scene."""

SIGNS = {"Ray is there": "raylet", "first tile at work": "ray::call"}
"""What is seen of a run from outside: a process whose command line says so."""


@dataclass(frozen=True)
class Point:
    """Medians of one scene."""

    tiles: int
    dates: int
    wall_s: float
    cpu_s: float
    worker_mb: float
    largest_mb: float

    @property
    def cells(self) -> list[str]:
        """A line of the table."""
        per_tile = (self.wall_s / self.tiles, self.cpu_s / self.tiles)
        memory = (self.worker_mb, self.largest_mb)
        figures = [f"{value:.1f}" for value in (self.wall_s, self.cpu_s, *per_tile)]
        return [str(self.tiles), str(self.dates), *figures, *(f"{value:.0f}" for value in memory)]


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(prog="scaling", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tiles", type=int, nargs="*", default=[1, 2, 4, 8, 16])
    parser.add_argument("--dates", type=int, nargs="*", default=[1, 12, 36, 72])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--build", type=Path, default=Path("build"))
    asked = parser.parse_args()
    before, folder = table.machine(), asked.build.resolve() / "scaling"
    by_tiles = [measured(Scene(number, DATES), folder, asked.rounds) for number in asked.tiles]
    by_dates = [measured(Scene(TILES, number), folder, asked.rounds) for number in asked.dates]
    begun = beginnings(Scene(1, DATES), folder, asked.rounds + 1)
    found = {"by_tiles": list(map(vars, by_tiles)), "by_dates": list(map(vars, by_dates)), "begun": begun, **before}
    (asked.build / "scaling.json").write_text(json.dumps(found, indent=1))
    section = markdown(by_tiles, by_dates, begun, before, asked.rounds)
    print(section)
    put_section(Path("docs/performance.md"), "scaling", section, table.explained())


def measured(scene: Scene, folder: Path, rounds: int) -> Point:
    """Medians of some walks over a scene, whose files are deleted again."""
    bench = _bench(scene, folder)
    rows = bench.walks(rounds)
    shutil.rmtree(bench.folder)
    point = Point(
        scene.tiles, scene.dates, *(_median(rows, name) for name in ("wall_s", "cpu_s", "worker_mb", "largest_mb"))
    )
    print(" ".join(point.cells), flush=True)
    return point


def beginnings(scene: Scene, folder: Path, rounds: int) -> dict[str, float]:
    """Seconds from `eo-assets run`, which starts its own Ray, until each sign; medians."""
    bench = _bench(scene, folder)
    bench.walks(0)
    found = [_beginning(bench) for _ in range(rounds)]
    shutil.rmtree(bench.folder)
    return {sign: round(statistics.median(one[sign] for one in found), 2) for sign in SIGNS}


def _beginning(bench: Bench) -> dict[str, float]:
    ours, log = bench.ours, bench.conditions.log
    ours.prepare(bench.given)
    with Processes.watched() as processes:
        processes.start(ours.adopt(), ours.environment(), log, ours.folder).wait()
        forget_pages(*bench.conditions.cold, ours.folder)
        begun, seen = time.perf_counter(), dict[str, float]()
        child = processes.start(ours.run("maps", given_model=True), ours.environment(), log, ours.folder)
        while child.poll() is None and len(seen) < len(SIGNS):
            running = _command_lines(processes)
            for sign, word in SIGNS.items():
                if sign not in seen and any(word in line for line in running):
                    seen[sign] = time.perf_counter() - begun
            time.sleep(0.02)
        if child.wait():
            raise SystemExit(log.read_text()[-4000:])
    return seen


def _command_lines(processes: Processes) -> list[str]:
    lines = []
    for pid in processes.alive():
        with suppress(OSError):
            lines.append(Path(f"/proc/{pid}/cmdline").read_text())
    return lines


def _bench(scene: Scene, folder: Path) -> Bench:
    return Bench(scene, folder / scene.key, model_parameters(TREES, LEAVES), SAMPLES // scene.tiles, Peers())


def _median(rows: Sequence[Row], name: str) -> float:
    return round(statistics.median(getattr(row.usage, name) for row in rows), 2)


def markdown(
    by_tiles: Sequence[Point], by_dates: Sequence[Point], begun: dict[str, float], machine: dict[str, Any], rounds: int
) -> str:
    """A section of docs/performance.md."""
    head = [
        "tiles",
        "dates",
        "wall s",
        "CPU s",
        "wall s a tile",
        "CPU s a tile",
        "largest worker MB",
        "largest process MB",
    ]
    lines = [
        f"| {' | '.join(cells)} |"
        for cells in (head, ["---:"] * len(head), *(one.cells for one in (*by_tiles, *by_dates)))
    ]
    first, last = by_tiles[0], by_tiles[-1]
    more = (last.cpu_s - first.cpu_s) / max(1, last.tiles - first.tiles)
    signs = ", ".join(f"{sign.lower() if sign[0] != 'R' else sign} {seconds:.1f}" for sign, seconds in begun.items())
    return (
        "### Tiles and dates\n\n"
        f"{machine['date']}, {machine['machine']}; load before {machine['load_before']}. "
        f"`python -m tests.benchmarks.scaling`: tile stages and maps by one command as above, ours alone, {TREES} "
        f"trees of {LEAVES} leaves, medians of {rounds} rounds.\n\n" + "\n".join(lines) + "\n\n"
        f"A tile more costs {more:.1f} CPU seconds; what is beyond that, {first.cpu_s - more:.1f}, is paid once a run: "
        "Python, Dagster, Ray and its workers begin, and the model is compared. The start of a run that starts its own "
        f"Ray, seconds from the command: {signs}."
    )


if __name__ == "__main__":
    main()
