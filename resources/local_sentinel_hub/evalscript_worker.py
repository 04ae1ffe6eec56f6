"""The child process in which one evalscript runs: V8, no environment, no files, no sockets, bounded memory and time.

Started by file path with `python -I` and an empty environment; imports nothing of eo-assets. Reads one JSON command a
line from stdin, answers one JSON line on stdout. Pixels pass through a shared file, mapped here and in the parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from py_mini_racer import JSEvalException, MiniRacer

FOLDER = Path(__file__).parent
# Sandboxed by reach: none of these is needed by a script, each widens what a script can touch.
HIDDEN = ("WebAssembly", "SharedArrayBuffer", "Atomics", "setTimeout", "clearTimeout", "setInterval")
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38


class Runner:
    """One script in one V8 context."""

    def __init__(self, shared: mmap.mmap, heap_bytes: int) -> None:
        self._racer = MiniRacer()
        self._racer.set_hard_memory_limit(heap_bytes)
        for name in ("evalscript_prelude.js", "evalscript_driver.js"):
            self._racer.eval((FOLDER / name).read_text(encoding="utf-8"))
        self._racer.eval(";".join(f"globalThis.{name} = undefined" for name in HIDDEN))
        self._shared = memoryview(shared)
        self._inputs: list[memoryview] = []
        self._results: list[memoryview] = []

    def load(self, script: str) -> Any:
        """Evaluate the script and answer what its setup() declares."""
        self._racer.eval(script)
        return self._call("describe()")

    def begin(self, plan: Any) -> Any:
        """Hand over the scenes; answer which of them to read, and the final number of bands of each output."""
        return self._call(f"begin({_quoted(plan)})")

    def allocate(self, layout: dict[str, Any]) -> None:
        """Make the typed arrays of one block of pixels."""
        self._call(f"allocate({_quoted(layout)})")
        self._inputs = [self._buffer("input", i) for i in range(len(layout["inputs"]))]
        self._results = [self._buffer("result", i) for i in range(layout["results"])]

    def run(self, count: int) -> None:
        """Evaluate the first `count` pixels of the block: inputs lie first in the shared file, results behind them."""
        position = 0
        for array in self._inputs:
            array[:] = self._shared[position : position + array.nbytes]
            position += array.nbytes
        self._call(f"run({count})")
        for array in self._results:
            self._shared[position : position + array.nbytes] = array
            position += array.nbytes

    def finish(self, _: None = None) -> Any:
        """Call updateOutputMetadata() and answer the user data."""
        return self._call("finish()")

    def _buffer(self, kind: str, position: int) -> memoryview:
        view = self._racer.eval(f"__evalscript_driver__.{kind}({position})")
        return memoryview(view).cast("B")

    def _call(self, call: str) -> Any:
        answer = self._racer.eval(f"__evalscript_driver__.{call}")
        return json.loads(answer) if isinstance(answer, str) else None


def _quoted(value: Any) -> str:
    """A JSON text as a JavaScript string literal."""
    return json.dumps(json.dumps(value))


def _drop_rights(cpu_s: int, data_bytes: int) -> None:
    """Give up what a script never needs. Called when V8, its threads and every descriptor are there, before any script.

    RLIMIT_AS is of no use, because V8 reserves a terabyte of address space. With no descriptor left to open there are
    no files and no sockets. What the system refuses (an old kernel, a container) is left as it is.
    """
    limits = {
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_DATA: data_bytes,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 0,
    }
    for limit, value in limits.items():
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, (value, value))
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _die_with_parent(parent: int) -> None:
    """A script in an endless loop must not outlive the service, however that ends. Linux only."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the kernel was told
        os._exit(1)


def main() -> None:
    """Answer commands until stdin ends."""
    parent, fd, shared_bytes, heap_bytes, cpu_s, data_bytes = (int(value) for value in sys.argv[1:7])
    _die_with_parent(parent)
    shared = mmap.mmap(fd, shared_bytes)
    os.close(fd)
    runner = Runner(shared, heap_bytes)
    _drop_rights(cpu_s, data_bytes)
    commands: dict[str, Callable[[Any], Any]] = {
        "load": runner.load,
        "begin": runner.begin,
        "allocate": runner.allocate,
        "run": runner.run,
        "finish": runner.finish,
    }
    print(json.dumps({"ok": "ready"}), flush=True)
    for line in sys.stdin:
        name, argument = json.loads(line)
        try:
            reply = {"ok": commands[name](argument)}
        except JSEvalException as error:
            reply = {"error": str(error)[:4000]}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    try:
        main()
    finally:
        os._exit(0)  # V8 may wait for ever for threads of its own on an ordinary way out
