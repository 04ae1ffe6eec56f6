"""What a command costs with all its descendants: wall and CPU seconds, and the most memory that was resident.

Ray's processes detach from whoever starts them. They are kept in a control group (v2), whose counters miss nothing;
where none can be made, this process becomes the parent of orphans and looks at its descendants every TICK_S, so that
what a process does in the last TICK_S of its life is not seen.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

TICK_S = 0.1
STOP_S = 10.0
_SUBREAPER = 36
_ENTER = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
_WORKERS = ("ray::", "default_worker.py", "multiprocessing")

PopenBytes = subprocess.Popen[bytes]


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one command. `tree_mb` is the most private memory of all processes at one time, `largest_mb` the peak (VmHWM)
    of the largest process, `worker_mb` that of the largest worker. `exact`: were all CPU seconds seen?"""

    wall_s: float
    cpu_s: float
    tree_mb: float
    largest_mb: float
    worker_mb: float
    exact: bool


@dataclass
class Processes:
    """The processes of one system: started here, with all that comes of them."""

    group: Path | None = None
    _besides: frozenset[int] = frozenset()
    _started: list[PopenBytes] = field(default_factory=list)
    _seen: dict[tuple[int, float], float] = field(default_factory=dict)

    @classmethod
    @contextlib.contextmanager
    def watched(cls) -> Iterator[Processes]:
        """Make them ready; at the end all are ended and waited for."""
        processes = cls(_control_group(), frozenset(_descendants()))
        if processes.group is None:
            _adopt_orphans(True)
        try:
            yield processes
        finally:
            processes.end()
            if processes.group is None:
                _adopt_orphans(False)
            else:
                _removed(processes.group)

    def start(self, command: Sequence[str | Path], environment: Mapping[str, str], log: Path, cwd: Path) -> PopenBytes:
        """Start a command; what it says goes to the end of a file."""
        entered = ["sh", "-c", _ENTER, str(self.group)] if self.group is not None else []
        with log.open("ab") as output:
            child = subprocess.Popen(
                [*entered, *map(str, command)], env=dict(environment), stdout=output, stderr=output,
                stdin=subprocess.DEVNULL, cwd=cwd, start_new_session=True,
            )  # fmt: skip
        self._started.append(child)
        return child

    def alive(self) -> list[int]:
        """The ids of those that run now."""
        if self.group is not None:
            inside = {int(line) for line in (self.group / "cgroup.procs").read_text().split()}
            entering = {child.pid for child in self._started if child.poll() is None}
            return sorted(inside | entering)
        return [pid for pid in _descendants() if pid not in self._besides]

    def cpu_seconds(self) -> float:
        """Since the beginning, of the living and the dead."""
        if self.group is not None:
            said = dict(line.split() for line in (self.group / "cpu.stat").read_text().splitlines())
            return int(said["usage_usec"]) / 1e6
        for pid in self.alive():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                times = process.cpu_times()
                self._seen[pid, process.create_time()] = times.user + times.system
        return sum(self._seen.values())

    def end(self) -> None:
        """Ask those that run to end, force the rest, and wait for the orphans among them."""
        for kind in (signal.SIGTERM, signal.SIGKILL):
            for pid in self.alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, kind)
            limit = time.monotonic() + STOP_S
            while self.alive() and time.monotonic() < limit:
                self._reap()
                time.sleep(TICK_S)

    def _reap(self) -> None:
        """Wait for those that have ended: the children, and orphans, where they are this process's now."""
        for child in self._started:
            child.poll()
        own = {child.pid for child in self._started}
        for pid in self.alive() if self.group is None else ():
            if pid not in own:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)


def measured(
    processes: Processes, command: Sequence[str | Path], environment: Mapping[str, str], log: Path, cwd: Path
) -> Usage:
    """Run a command to its end. CalledProcessError, with the end of its log, if it fails."""
    before, begun = processes.cpu_seconds(), time.perf_counter()
    sampler = _Sampler(processes, frozenset(processes.alive()))
    child = processes.start(command, environment, log, cwd)
    sampler.start()
    try:
        code = child.wait()
    finally:
        wall = time.perf_counter() - begun
        sampler.finish()
    cpu = processes.cpu_seconds() - before
    if code:
        raise subprocess.CalledProcessError(
            code, [str(part) for part in command], log.read_text(errors="replace")[-4000:]
        )
    return Usage(wall, cpu, sampler.tree, sampler.largest, sampler.worker, processes.group is not None)


class _Sampler(threading.Thread):
    """Looks at all processes every TICK_S. Of those that were there before, the peak of then is not counted."""

    def __init__(self, processes: Processes, older: frozenset[int]) -> None:
        super().__init__(daemon=True)
        self._processes, self._older, self._halt = processes, older, threading.Event()
        self.tree = self.largest = self.worker = 0.0

    def run(self) -> None:
        while not self._halt.wait(TICK_S):
            self._look()

    def finish(self) -> None:
        self._halt.set()
        self.join()

    def _look(self) -> None:
        private = 0.0
        if self._processes.group is None:
            self._processes.cpu_seconds()
        for pid in self._processes.alive():
            with contextlib.suppress(OSError, KeyError):
                memory = _memory_mb(pid)
                private += memory["RssAnon"] + memory["RssShmem"]
                peak = memory["VmRSS" if pid in self._older else "VmHWM"]
                self.largest = max(self.largest, peak)
                if any(word in Path(f"/proc/{pid}/cmdline").read_text() for word in _WORKERS):
                    self.worker = max(self.worker, peak)
        self.tree = max(self.tree, private)


def _memory_mb(pid: int) -> dict[str, float]:
    """The lines of /proc/PID/status that are about memory; empty for a process that has ended."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 / 1e6 for words in lines if words[-1] == "kB"}


def forget_pages(*folders: Path) -> None:
    """Have the kernel forget what it holds of the files under these folders, so that reading them is reading a disk."""
    os.sync()
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def space_of(folder: Path) -> tuple[int, int]:
    """Bytes and files under a folder; links are not followed."""
    files = [path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return sum(files), len(files)


def emptied(folder: Path) -> Path:
    """The folder, new."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _adopt_orphans(wanted: bool) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, int(wanted), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "this process can't become the parent of orphans")


def _descendants() -> list[int]:
    return [process.pid for process in psutil.Process().children(recursive=True)]


def _control_group() -> Path | None:
    """A new group of version 2 below this process's own, or None where there is none or it can't be made."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    roots = [Path(words[1]) for words in mounts if words[2] == "cgroup2"]
    own = [line.partition("::")[2] for line in Path("/proc/self/cgroup").read_text().splitlines() if "::" in line]
    if not roots or not own:
        return None
    group = roots[0] / own[0].lstrip("/") / f"eo-assets-bench-{os.getpid()}-{time.monotonic_ns()}"
    try:
        group.mkdir()
        with subprocess.Popen(["sh", "-c", _ENTER, str(group), "true"], stderr=subprocess.DEVNULL) as tried:
            entered = tried.wait() == 0
        if entered and (group / "cpu.stat").exists():
            return group
        _removed(group)
    except OSError:
        pass
    return None


def _removed(group: Path) -> None:
    with contextlib.suppress(OSError):
        group.rmdir()
