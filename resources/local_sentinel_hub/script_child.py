"""The process in which one evalscript runs, from outside: started without rights, asked, watched, ended."""

from __future__ import annotations

import json
import mmap
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eo_assets.errors import EvalscriptError

WORKER = Path(__file__).with_name("evalscript_worker.py")
PAGE = mmap.PAGESIZE
# Room for one block. The file is sparse: only what a block touches takes memory.
SHARED_BYTES = 256 << 20
V8_MESSAGE = re.compile(r"^(?P<source>[^\n]*?):(?P<line>\d+): (?P<rule>Rule: )?(?P<text>[^\n]*)")
DRIVER = "evalscript-driver"
MESSAGE_CHARS = 1000


@dataclass(frozen=True, slots=True)
class ScriptLimits:
    """What one script may use, in one request or one tile of a batch request.

    Attributes:
        start_s: Wall time in which its process must be ready.
        call_s: Wall time of one block of pixels, many times what a heavy script needs.
        cpu_s: CPU time of the process, all in all.
        heap_bytes: JavaScript heap of V8, which does not count typed arrays.
        data_bytes: RLIMIT_DATA of the process, which does; V8 idles at 570 MB. Reached before rss_bytes, so that the
            script itself sees an error, which names its line.
        rss_bytes: Resident memory, at which the parent ends the process.
        metadata_chars: outputMetadata.userData as JSON.
        output_bytes: All images of a tile together, before compression. They go to disk block by block.
        response_bytes: The same of a Process request, whose answer is put together in memory.
    """

    start_s: float = 60.0
    call_s: float = 60.0
    cpu_s: int = 3600
    heap_bytes: int = 512 << 20
    data_bytes: int = 1408 << 20
    rss_bytes: int = 1 << 30
    metadata_chars: int = 8 << 20
    output_bytes: int = 8 << 30
    response_bytes: int = 256 << 20

    @property
    def of_response(self) -> ScriptLimits:
        """The limits of a Process request."""
        return replace(self, output_bytes=min(self.output_bytes, self.response_bytes))

    @property
    def answer_bytes(self) -> int:
        """What the process may send at once: JSON quoted in JSON, in UTF-8."""
        return 4 * self.metadata_chars + (8 << 20)


class ScriptChild:
    """A running worker. `shared` is memory that both sides see. One question at a time."""

    def __init__(self, limits: ScriptLimits) -> None:
        """Start the worker and wait until it is ready. Raises EvalscriptError if it does not come up."""
        self._limits = limits
        self._received = bytearray()
        fd = _shared_file()
        try:
            self.shared = mmap.mmap(fd, SHARED_BYTES)
            arguments = (os.getpid(), fd, SHARED_BYTES, limits.heap_bytes, limits.cpu_s, limits.data_bytes)
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(WORKER), *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={},
                cwd="/",
                pass_fds=(fd,),
                start_new_session=True,
            )
        finally:
            os.close(fd)
        try:
            self._answer(limits.start_s)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def ask(self, command: str, argument: object) -> Any:
        """Send a command and wait for its answer (JSON).

        Raises:
            EvalscriptError: what the script threw, or which limit it overran.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps([command, argument]).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise EvalscriptError(self._cause_of_death()) from None
        return self._answer(self._limits.call_s)

    def close(self) -> None:
        """End the process, whatever it does. May be called twice."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()

    def _answer(self, timeout_s: float) -> Any:
        line = self._read_line(timeout_s)
        try:
            answer = json.loads(line)
            if "error" not in answer:
                return answer["ok"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise EvalscriptError("the evalscript's process answered nonsense; simplify the script") from None
        raise EvalscriptError(_readable(str(answer["error"])))

    def _read_line(self, timeout_s: float) -> bytes:
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not self._received.endswith(b"\n"):  # one question at a time: nothing follows an answer
                if selector.select(0.05):
                    self._receive(self._process.stdout.fileno())
                elif time.monotonic() > deadline:
                    self._kill(
                        f"the evalscript was stopped after {timeout_s:g} s in one call: is there an endless loop?"
                    )
                self._check_memory()
        line, self._received = bytes(self._received), bytearray()
        return line

    def _receive(self, fd: int) -> None:
        chunk = os.read(fd, 1 << 16)
        if not chunk:
            raise EvalscriptError(self._cause_of_death())
        self._received += chunk
        if len(self._received) > self._limits.answer_bytes:
            limit_mb = self._limits.answer_bytes >> 20
            self._kill(f"the evalscript returned more than {limit_mb} MB of metadata; return less userData")

    def _check_memory(self) -> None:
        if resident_bytes(self._process.pid) > self._limits.rss_bytes:
            limit_mb = self._limits.rss_bytes >> 20
            self._kill(f"the evalscript used more than {limit_mb} MB of memory; keep less data between pixels")

    def _kill(self, message: str) -> None:
        self._process.kill()
        raise EvalscriptError(message)

    def _cause_of_death(self) -> str:
        code = self._process.wait()
        if code == -signal.SIGXCPU:
            return f"the evalscript used more than {self._limits.cpu_s} s of CPU time; ask for fewer pixels or dates"
        if code < 0:
            name = signal.Signals(-code).name
            return f"the evalscript ran out of memory (its process ended by {name}); keep less data between pixels"
        return f"the evalscript's process could not go on (exit code {code}); simplify the script"


def resident_bytes(pid: int) -> int:
    """Resident memory of a process from /proc, 0 where there is no /proc (macOS) or the process has gone."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    except OSError:
        return 0
    return int(fields[1]) * PAGE


def _readable(message: str) -> str:
    """V8's report without its stack, one printable line: `line 7: ReferenceError: x is not defined`."""
    match = V8_MESSAGE.match(message)
    if match is None:
        text = message.strip().split("\n")[0]
    elif match["rule"]:
        text = match["text"]
    elif match["source"] == DRIVER:  # the service's own code, whose lines mean nothing to the script's author
        text = f"what the script returned can't be used: {match['text']}"
    else:
        text = f"line {match['line']}: {match['text']}"
    text = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return text if len(text) <= MESSAGE_CHARS else text[:MESSAGE_CHARS] + " ..."


def _shared_file() -> int:
    """A file in memory without a name, on Linux; elsewhere a temporary file that is already unlinked."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("evalscript-block")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, SHARED_BYTES)
    return fd
