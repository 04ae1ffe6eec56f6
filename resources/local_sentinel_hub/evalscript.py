"""Evalscripts V3 on V8: what a script declares, and running it block by block in a child process with limits.

The script is hostile until proven otherwise. It runs in `evalscript_worker.py`: a fresh process for each request,
with an empty environment, no descriptors to open, bounded data, CPU time and V8 heap; script_child.py watches its
resident memory and the clock, and ends it when it overruns. Whatever comes back is checked before use. Every failure is
an EvalscriptError.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eo_assets.core.evalscript import ScriptOutput, ScriptSetup
from eo_assets.errors import EvalscriptError
from resources.local_sentinel_hub.script_child import SHARED_BYTES, ScriptChild, ScriptLimits
from resources.local_sentinel_hub.script_setup import parse_outputs, parse_setup

JS_TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


@dataclass(frozen=True, slots=True)
class ScriptSource:
    """The scenes that a script is offered from one datasource, in the order of its samples, as JSON objects."""

    datasource: str | None
    time_from: str
    time_to: str
    scenes: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class InputArray:
    """One band of one source as the script sees it: value = array * scale, or the array itself where scale is None."""

    source: int
    band: str
    dtype: np.dtype[Any]
    samples: int
    scale: float | None


class Plan(NamedTuple):
    """Which scenes of each source the script wants, in its order, and its outputs with their final number of bands."""

    keep: tuple[tuple[int, ...], ...]
    outputs: tuple[ScriptOutput, ...]


class ScriptProcess:
    """One script in its own process. Use as a context manager; not for several threads at once.

    The order of calls is fixed: `setup` is known from the start, then `begin`, `allocate`, `run` at will, `finish`.
    """

    def __init__(self, text: str, limits: ScriptLimits | None = None) -> None:
        """Start the process and evaluate the script.

        Raises:
            EvalscriptError: the script does not compile, throws, breaks a rule of evalscript V3, or overran its limits.
        """
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise EvalscriptError(
                "the evalscript is no Unicode text: it holds half of a surrogate pair; save it as UTF-8"
            )
        self.limits = limits or ScriptLimits()
        self._child = ScriptChild(self.limits)
        try:
            answer = _parsed(self._child.ask("load", text))
            with _checked():
                self.setup: ScriptSetup = parse_setup(text, answer)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The id of the script's process."""
        return self._child.pid

    def __enter__(self) -> ScriptProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def begin(self, sources: Sequence[ScriptSource], metadata: dict[str, Any]) -> Plan:
        """Offer the scenes: runs preProcessScenes() and updateOutput() where the script has them (ORBIT only)."""
        described = [
            {"datasource": s.datasource, "from": s.time_from, "to": s.time_to, "scenes": s.scenes} for s in sources
        ]
        outputs = [{"id": o.id, "bands": o.bands, "sampleType": o.sample_type} for o in self.setup.outputs]
        plan = {
            "mosaicking": self.setup.mosaicking,
            "fusion": self.setup.fusion,
            "sources": described,
            "outputs": outputs,
            "metadata": metadata,
        }
        answer = _parsed(self._child.ask("begin", plan))
        with _checked():
            keep = tuple(_positions(chosen, len(s.scenes)) for chosen, s in zip(answer["keep"], sources, strict=True))
            return Plan(keep, parse_outputs(answer["outputs"], self.setup.outputs))

    def allocate(
        self,
        pixels: int,
        counts: Sequence[int],
        inputs: Sequence[InputArray],
        outputs: Sequence[ScriptOutput],
        silent: bool = False,
    ) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
        """Make room for blocks of at most `pixels` pixels. Where `silent`, evaluatePixel() may return nothing.

        Returns:
            Input arrays (samples, pixels) and output arrays (bands, pixels), views of shared memory in the order given:
            fill the first, call `run`, read the second.
        """
        pixels = aligned(pixels)
        shapes = [(i.samples, pixels) for i in inputs] + [(o.bands, pixels) for o in outputs]
        dtypes = [i.dtype for i in inputs] + [o.dtype for o in outputs]
        sizes = [rows * columns * dtype.itemsize for (rows, columns), dtype in zip(shapes, dtypes, strict=True)]
        if sum(sizes) > SHARED_BYTES:
            asked_mb, limit_mb = sum(sizes) >> 20, SHARED_BYTES >> 20
            raise EvalscriptError(
                f"one row of pixels takes {asked_mb} MB, the limit is {limit_mb} MB; ask for fewer dates"
            )
        offsets = [0, *accumulate(sizes)]
        layout = {
            "pixels": pixels,
            "counts": list(counts),
            "inputs": [_described(entry, offset) for entry, offset in zip(inputs, offsets, strict=False)],
            "input_bytes": offsets[len(inputs)],
            "results": offsets[len(inputs) : -1],
            "bytes": offsets[-1],
            "silent": silent,
        }
        self._child.ask("allocate", layout)
        views = [
            np.frombuffer(self._child.shared, dtype, shape[0] * shape[1], offset).reshape(shape)
            for shape, dtype, offset in zip(shapes, dtypes, offsets[:-1], strict=True)
        ]
        return views[: len(inputs)], views[len(inputs) :]

    def run(self, count: int) -> None:
        """Evaluate the first `count` pixels of the block."""
        self._child.ask("run", count)

    def finish(self) -> str:
        """Run updateOutputMetadata() and return outputMetadata.userData as JSON text, `null` if the script set none.

        It is not parsed, because a few megabytes of JSON can become a hundred times that as Python objects.
        """
        return str(self._child.ask("finish", self.limits.metadata_chars))

    def close(self) -> None:
        """End the process, whatever it does, and give its memory back. May be called twice."""
        self._child.close()


def inspect_script(text: str, limits: ScriptLimits | None = None) -> ScriptSetup:
    """What the script's setup() declares, found by running it in the limited process.

    Raises:
        EvalscriptError: with the script's own message, see ScriptProcess.
    """
    with ScriptProcess(text, limits) as process:
        return process.setup


def aligned(pixels: int) -> int:
    """The number of pixels that a block is stored with: a multiple of 8, so that every array is aligned."""
    return -(-pixels // 8) * 8


@contextmanager
def _checked() -> Iterator[None]:
    """Whatever is wrong with the shape of an answer is the script's doing."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EvalscriptError(f"the script's answers are not of the form that evalscript V3 has: {error}") from error


def _parsed(text: Any) -> Any:
    """An answer of the script's process. Its size is bounded there and in ScriptChild; its form is anything."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        raise EvalscriptError("the script's answers are no JSON of a few levels; simplify what it returns") from None


def _described(entry: InputArray, offset: int) -> dict[str, Any]:
    """An input as the driver reads it; `offset` is its first byte in the block."""
    return {
        "source": entry.source,
        "band": entry.band,
        "type": _js_type(entry.dtype),
        "samples": entry.samples,
        "scale": entry.scale,
        "offset": offset,
    }


def _js_type(dtype: np.dtype[Any]) -> str:
    """The driver's name of a typed array, `UINT16` for numpy's uint16."""
    if dtype.name not in JS_TYPES:
        raise EvalscriptError(f"pixels of type {dtype.name} can't be handed to an evalscript; store them as float32")
    return dtype.name.upper()


def _positions(chosen: Any, count: int) -> tuple[int, ...]:
    """The scenes that preProcessScenes() kept, by position; a scene that it made up is refused."""
    if not isinstance(chosen, list) or any(type(i) is not int or not 0 <= i < count for i in chosen):
        raise EvalscriptError("preProcessScenes() must return scenes that it was given, not new ones")
    if len(set(chosen)) < len(chosen):
        raise EvalscriptError("preProcessScenes() must return each scene that it was given at most once")
    return tuple(chosen)
