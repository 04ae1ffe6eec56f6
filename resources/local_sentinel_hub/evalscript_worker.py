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
DRIVER = ("describe", "begin", "allocate", "memory", "run", "finish")
# Sandboxed by reach: none of these is needed by a script, each widens what a script can touch.
HIDDEN = ("WebAssembly", "SharedArrayBuffer", "Atomics", "setTimeout", "clearTimeout", "__timer_manager")
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38


class Runner:
    """One script in one V8 context. Answers are JSON texts: nothing that a script made is parsed here."""

    def __init__(self, shared: mmap.mmap, heap_bytes: int) -> None:
        self._racer = MiniRacer()
        self._racer.set_hard_memory_limit(heap_bytes)
        self._racer.eval((FOLDER / "evalscript_prelude.js").read_text(encoding="utf-8"))
        driver = self._racer.eval((FOLDER / "evalscript_driver.js").read_text(encoding="utf-8"))
        self._driver = {name: driver[name] for name in DRIVER}
        self._racer.eval(";".join(f"globalThis.{name} = undefined" for name in HIDDEN))
        self._shared = memoryview(shared)
        self._memory = memoryview(b"")
        self._input_bytes = 0
        self._commands: dict[str, Callable[[Any], Any]] = {
            "load": self.load,
            "begin": self.begin,
            "allocate": self.allocate,
            "run": self.run,
            "finish": self.finish,
        }

    def load(self, script: str) -> Any:
        """Evaluate the script and answer what its setup() declares."""
        self._racer.eval(f"{script}\n;0")  # the script's own last value may be anything, and large
        return self._driver["describe"]()

    def begin(self, plan: Any) -> Any:
        """Hand over the scenes; answer which of them to read, and the final number of bands of each output."""
        return self._driver["begin"](json.dumps(plan))

    def allocate(self, layout: dict[str, Any]) -> None:
        """Make the memory of one block of pixels: inputs first, results behind them, as in the shared file."""
        self._driver["allocate"](json.dumps(layout))
        self._memory = memoryview(self._driver["memory"]()).cast("B")
        self._input_bytes = layout["input_bytes"]

    def run(self, count: int) -> None:
        """Evaluate the first `count` pixels of the block."""
        inputs, total = self._input_bytes, self._memory.nbytes
        self._memory[:inputs] = self._shared[:inputs]
        self._driver["run"](count)
        self._shared[inputs:total] = self._memory[inputs:]

    def finish(self, limit: int) -> Any:
        """Call updateOutputMetadata() and answer the user data, refused if larger than `limit` characters."""
        return self._driver["finish"](limit)

    def answer(self, name: str, argument: Any) -> dict[str, Any]:
        """What the parent reads: {ok: JSON text or null} or {error: message}. No exception ends the process."""
        try:
            return {"ok": self._commands[name](argument)}
        except JSEvalException as error:
            if self._racer.was_hard_memory_limit_reached():
                return {"error": "the evalscript used up its JavaScript heap; keep less data between pixels"}
            return {"error": str(error)[:4000]}
        except Exception as error:
            return {"error": f"the evalscript can't be run ({type(error).__name__}); simplify the script"}


def _drop_rights(cpu_s: int, data_bytes: int) -> None:
    """Give up what a script never needs. Called when V8, its threads and every descriptor are there, before any script.

    RLIMIT_AS is of no use, because V8 reserves a terabyte of address space. With no descriptor left to open there are
    no files and no sockets. What the system refuses (an old kernel, a container) is left as it is.
    """
    limits = {
        # The soft limit ends the process by SIGXCPU, which the parent knows; the hard one would by SIGKILL.
        resource.RLIMIT_CPU: (cpu_s, cpu_s + 5),
        resource.RLIMIT_DATA: (data_bytes, data_bytes),
        resource.RLIMIT_FSIZE: (0, 0),
        resource.RLIMIT_NPROC: (0, 0),
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_NOFILE: (0, 0),
    }
    for limit, values in limits.items():
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, values)
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
    print(json.dumps({"ok": "ready"}), flush=True)
    for line in sys.stdin:
        name, argument = json.loads(line)
        reply = json.dumps(runner.answer(name, argument), ensure_ascii=False)
        sys.stdout.buffer.write(reply.encode("utf-8", "replace") + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    try:
        main()
    finally:
        os._exit(0)  # V8 may wait for ever for threads of its own on an ordinary way out
