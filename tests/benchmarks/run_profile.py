"""Where the CPU seconds of a whole run go, and what each kind of work would cost at its floor.

    python -m tests.benchmarks.run_profile [--tiles 8] [--dates 12]

Samples every process of the machine with Debian's `linux-perf` (as root) while one command makes all tile stages and
maps of the benchmark's scene. A sample belongs to the first of `KINDS` whose test it passes. The floors are measured
afterwards, alone, on the same bytes: what the kernel, the codec, GDAL or the compiled loop takes for that work and
nothing else. Writes build/run_profile.json and a section of docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.benchmarks.floors import Floor, floors
from tests.benchmarks.peer import table
from tests.benchmarks.peer.bench import Bench, Peers, model_parameters
from tests.benchmarks.peer.document import put_section
from tests.benchmarks.peer.scene import Scene

HERTZ = 199
WORKER, DRIVER = "ray::", "eo-assets"
KERNEL = "[kernel.kallsyms]"
DECODING = ("libdeflate", "libz", "libtiff", "libgdal")
WRITING, READING = ("sys_write", "sys_pwrite", "vfs_write"), ("sys_read", "sys_pread", "vfs_read")
UNPACKING = ("decompress", "decode", "unshuffle", "untrans")


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at one CPU: the process, the thread's name, and (symbol, library) of its frames, innermost first."""

    pid: int
    process: str
    frames: Sequence[tuple[str, str]]

    @property
    def library(self) -> str:
        """Of the innermost frame."""
        return self.frames[0][1]

    def inside(self, *words: str) -> bool:
        """Does the symbol of a frame of the innermost library have one of these words in it?"""
        return any(word in symbol for symbol, library in self.frames if library == self.library for word in words)


Test = Callable[[Sample], bool]


def _of(process: str, test: Test) -> Test:
    return lambda sample: sample.process.startswith(process) and test(sample)


def _library(*names: str) -> Test:
    return lambda sample: sample.library.startswith(names)


KINDS: dict[str, Test] = {
    "workers: writing files": _of(WORKER, lambda sample: sample.library == KERNEL and sample.inside(*WRITING)),
    "workers: reading files": _of(WORKER, lambda sample: sample.library == KERNEL and sample.inside(*READING)),
    "workers: new memory": _of(WORKER, lambda sample: sample.library == KERNEL and sample.inside("fault")),
    "workers: unpacking arrays": _of(WORKER, lambda sample: "blosc" in sample.library and sample.inside(*UNPACKING)),
    "workers: packing arrays": _of(WORKER, lambda sample: "blosc" in sample.library),
    "workers: decoding tiffs": _of(WORKER, _library(*DECODING)),
    "workers: trees, bins and columns": _of(WORKER, lambda sample: sample.library.startswith(("perf-", "[JIT]"))),
    "workers: moving arrays": _of(WORKER, _library("_multiarray_umath", "libc.so")),
    "workers: everything else (Python, Ray, numba's start)": _of(WORKER, lambda sample: True),
    "driver: writing and reading maps": _of(DRIVER, _library(*DECODING)),
    "driver: everything else (Python, Dagster, the model compared)": _of(DRIVER, lambda sample: True),
    "Ray's own processes": lambda sample: sample.process.startswith(
        ("raylet", "gcs_server", "python", "client.poll", "log_monitor", "event_engine", "grpc")
    ),
}


def main() -> None:
    """Sample, measure the floors, tell."""
    parser = argparse.ArgumentParser(prog="run_profile", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tiles", type=int, default=8)
    parser.add_argument("--dates", type=int, default=12)
    parser.add_argument("--build", type=Path, default=Path("build"))
    asked = parser.parse_args()
    if shutil.which("perf") is None:
        sys.exit("this needs perf: apt-get install linux-perf")
    before, scene = table.machine(), Scene(asked.tiles, asked.dates)
    folder = asked.build.resolve() / "run_profile" / scene.key
    bench, recorded = Bench(scene, folder, model_parameters(), 1500, Peers()), folder / "perf.data"
    bench.walks(0)
    [row] = bench.walks(1, _recording(recorded))
    seconds = seconds_by_kind(named_by_process(list(samples(recorded))))
    seconds["not seen, or of no kind"] = max(0.0, row.usage.cpu_s - sum(seconds.values()))
    found = floors(bench.ours, bench.given)
    rows = sorted(((kind, spent, found.get(kind)) for kind, spent in seconds.items()), key=lambda row: -row[1])
    told = {
        kind: {"cpu_s": round(spent, 2), "floor_s": floor and round(floor.seconds, 2)} for kind, spent, floor in rows
    }
    (asked.build / "run_profile.json").write_text(
        json.dumps({"cpu_s": row.usage.cpu_s, "kinds": told, **before}, indent=1)
    )
    section = markdown(rows, row.usage.cpu_s, scene, before)
    print(section)
    put_section(Path("docs/performance.md"), "run profile", section, table.explained())
    shutil.rmtree(folder)


@contextmanager
def _recording(target: Path) -> Iterator[None]:
    """Sample all CPUs meanwhile."""
    command = ["perf", "record", "--all-cpus", "-g", "-F", str(HERTZ), "-o", str(target)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as recorder:
        try:
            yield
        finally:
            recorder.send_signal(signal.SIGINT)


def samples(recorded: Path) -> Iterator[Sample]:
    """What perf has seen."""
    command = ["perf", "script", "-i", str(recorded), "-F", "comm,pid,ip,sym,dso"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace"
    ) as told:
        assert told.stdout is not None
        process, pid, frames = "", "0", list[tuple[str, str]]()
        for line in told.stdout:
            if frame := re.match(r"\s+[0-9a-f]+ (.*) \((.*)\)$", line):
                frames.append((frame[1], frame[2].rpartition("/")[2]))
            elif line.strip():
                process, pid = line.rsplit(maxsplit=1)
                process, frames = process.strip(), []
            elif frames:
                yield Sample(int(pid), process, frames)
                frames = []
        if frames:
            yield Sample(int(pid), process, frames)


def named_by_process(found: Sequence[Sample]) -> Iterator[Sample]:
    """The samples of a worker's or the driver's threads, which have names of their own, as the process's."""
    own = {one.pid: one.process for one in found if one.process.startswith((WORKER, DRIVER))}
    return (replace(one, process=own.get(one.pid, one.process)) for one in found if one.pid)


def seconds_by_kind(found: Iterator[Sample]) -> dict[str, float]:
    """CPU seconds of each kind of work; what is none of them is other programs' work."""
    counts = Counter(next((kind for kind, test in KINDS.items() if test(sample)), "") for sample in found)
    return {kind: count / HERTZ for kind, count in counts.items() if kind}


def markdown(
    rows: Sequence[tuple[str, float, Floor | None]], cpu_s: float, scene: Scene, machine: dict[str, object]
) -> str:
    """A section of docs/performance.md."""
    lines = ["| work | CPU s | floor | factor | the floor is |", "|---|---:|---:|---:|---|"]
    for kind, spent, floor in rows:
        known = (f"{floor.seconds:.1f}", f"{spent / floor.seconds:.1f}", floor.told) if floor else ("-", "-", "")
        lines.append(f"| {kind} | {spent:.1f} | {' | '.join(known)} |")
    return (
        "### Where the CPU seconds of a run go\n\n"
        f"{machine['date']}, {machine['machine']}; load before {machine['load_before']}. "
        f"`python -m tests.benchmarks.run_profile`: {scene.tiles} tiles of T={scene.dates}, from adopted tiffs to "
        f"maps, {cpu_s:.1f} CPU seconds in all by the kernel's count, sampled {HERTZ} times a second.\n\n"
        + "\n".join(lines)
    )


if __name__ == "__main__":
    main()
