"""The answer of an evalscript's setup(), checked: JSON in, the values of eo_assets.core.evalscript out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from eo_assets.core.evalscript import SAMPLE_TYPES, ScriptInput, ScriptOutput, ScriptSetup
from eo_assets.errors import EvalscriptError

VERSION = re.compile(r"^\s*//\s*VERSION\s*=\s*(\d+)", re.IGNORECASE)
# An output's name becomes a file's name, so nothing that could lead out of a folder.
OUTPUT_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")
MAX_BANDS, MAX_OUTPUTS = 4096, 256
LONGEST_NAME = 100


def parse_setup(text: str, answer: Any) -> ScriptSetup:
    """Check the script's version line and the JSON that its setup() gave.

    Raises:
        EvalscriptError: naming the value and the rule.
    """
    version = VERSION.match(text)
    if version is None or version.group(1) != "3":
        raise EvalscriptError("the evalscript must begin with the line //VERSION=3; older versions are not supported")
    if not isinstance(answer, dict) or not all(isinstance(answer.get(key), list) for key in ("inputs", "outputs")):
        raise EvalscriptError("setup() must return an object with input and output")
    inputs = tuple(_input(entry) for entry in answer["inputs"])
    if not inputs or not any(entry.bands for entry in inputs):
        raise EvalscriptError("setup() declares no input bands; return input: [{bands: [...]}]")
    if any(entry.datasource is None for entry in inputs) and any(entry.datasource for entry in inputs):
        raise EvalscriptError("setup() names a datasource for some inputs only; name one for each input, or for none")
    modes = [answer.get("mosaicking"), *(entry.get("mosaicking") for entry in answer["inputs"])]
    return ScriptSetup(inputs, parse_outputs(answer["outputs"]), _mosaicking({str(m) for m in modes if m is not None}))


def parse_outputs(answer: Any, declared: Sequence[ScriptOutput] | None = None) -> tuple[ScriptOutput, ...]:
    """Outputs from JSON; with `declared`, those outputs with the bands that updateOutput() gave (0 allowed)."""
    if declared is not None:
        return tuple(replace(d, bands=_bands(a.get("bands"), d.id, 0)) for d, a in zip(declared, answer, strict=True))
    outputs = tuple(_output(entry) for entry in answer)
    if not outputs:
        raise EvalscriptError("setup() declares no output; return output: {bands: 1}, or a list with an id for each")
    if len(outputs) > MAX_OUTPUTS:
        raise EvalscriptError(
            f"setup() declares {len(outputs)} outputs, the limit is {MAX_OUTPUTS}; use more bands in fewer"
        )
    names = [output.id for output in outputs]
    if len(set(names)) < len(names):
        raise EvalscriptError(f"setup() declares an output twice: {', '.join(names)}; give each its own id")
    return outputs


def _input(entry: dict[str, Any]) -> ScriptInput:
    bands = entry.get("bands") or []
    if any(not _is_name(band) for band in bands):
        raise EvalscriptError(f"setup() must list input bands by name, not {_short(bands)}")
    units = entry.get("units") or [None]
    if len(units) == 1:
        units = units * len(bands)
    if len(units) != len(bands):
        raise EvalscriptError(f"setup() gives {len(units)} units for {len(bands)} bands; give one, or one a band")
    if any(unit is not None and not _is_name(unit) for unit in units):
        raise EvalscriptError(f"setup() must name units as text such as 'DN' or 'REFLECTANCE', not {_short(units)}")
    datasource = entry.get("datasource")
    if datasource is not None and not _is_name(datasource):
        raise EvalscriptError(f"setup() must name a datasource by its id in the request, not {_short(datasource)}")
    return ScriptInput(datasource, tuple(bands), tuple(units))


def _is_name(value: Any) -> bool:
    """Whether a value of the script's can be a name, and shown in a message."""
    return isinstance(value, str) and value.isprintable() and 0 < len(value) <= LONGEST_NAME


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_NAME else text[:LONGEST_NAME] + " ..."


def _output(entry: dict[str, Any]) -> ScriptOutput:
    name, sample_type, nodata = entry.get("id"), str(entry.get("sampleType")), entry.get("nodataValue")
    if not isinstance(name, str) or not OUTPUT_ID.match(name):
        raise EvalscriptError(f"output id {_short(name)} is not usable: letters, digits, '_', '-' and '.' only")
    if sample_type not in SAMPLE_TYPES:
        raise EvalscriptError(f"output {name}: sampleType {_short(sample_type)} is none of {', '.join(SAMPLE_TYPES)}")
    if nodata is not None and not isinstance(nodata, (int, float)):
        raise EvalscriptError(f"output {name}: nodataValue {_short(nodata)} is not a number")
    return ScriptOutput(name, _bands(entry.get("bands"), name, 1), sample_type, nodata)


def _bands(value: Any, name: str, least: int) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= MAX_BANDS:
        raise EvalscriptError(
            f"output {name}: bands must be a whole number from {least} to {MAX_BANDS}, not {_short(value)}"
        )
    return value


def _mosaicking(modes: set[Any]) -> str:
    if len(modes) > 1:
        raise EvalscriptError(
            f"one mosaicking for all inputs, please: the script asks for {_short(sorted(map(str, modes)))}"
        )
    mode = modes.pop() if modes else "SIMPLE"
    if mode == "TILE":
        raise EvalscriptError(
            "mosaicking TILE is not supported by the local service; use ORBIT (scenes grouped by day)"
        )
    if mode not in ("SIMPLE", "ORBIT"):
        raise EvalscriptError(f"mosaicking {_short(mode)} is none of SIMPLE, ORBIT, TILE")
    return str(mode)
