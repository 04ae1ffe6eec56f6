"""docs/performance.md: a section a scene, each replaced when it is measured anew."""

from __future__ import annotations

import re
from pathlib import Path

HEAD = """# Performance

`make bench` runs this project and eo-grow 1.7.15 over the same tiles on one machine, by turns, and puts what it finds
below. `make bench-all` does so for more kinds of tiles. eo-grow runs its large scale processing example, in an
environment of its own under `build/` that pip makes of pinned packages; its export needs Debian's `gdal-bin`.

| `make bench` | |
|---|---|
| `TILES=8`, `DATES=12` | how many tiles of 853x853 px in two zones, how many dates of 12 bands and a mask |
| `BENCH="..."` | options of `python -m tests.benchmarks.peer`, by default `--plain` |
| `--plain` | a script of xarray and LightGBM runs over the same tiles too |
| `--noisy`, `--invalid 0.4`, `--cloud 0.1` | pixels that are nothing like their neighbours; shares that are not seen |
| `--bucket` | both projects in a bucket of a SeaweedFS on this machine |
| `--rounds 2`, `--trees 400`, `--leaves 200`, `--samples 1500` | turns of both; the model; samples a tile |

The tiles are made up: terrain, seasons, clouds and labels as smooth noise with a sensor's noise on top, in tiffs as the
service delivers them. Figures go to `build/bench.json` too, each ratio eo-grow / ours.
"""


def begin(document: Path, explained: str) -> None:
    """A document without sections: what is measured and how, in the place of what was said of it before."""
    text = document.read_text() if document.exists() else HEAD
    document.write_text(_put(text, "what the rows are", f"## What the rows are\n\n{explained}"))


def put_section(document: Path, key: str, section: str, explained: str) -> None:
    """Put a section in the place of the one of the same key, or behind all others."""
    begin(document, explained)
    document.write_text(_put(document.read_text(), key, section))


def _put(text: str, key: str, section: str) -> str:
    begin, end = f"<!-- {key} -->", f"<!-- end of {key} -->"
    whole = f"{begin}\n{section.strip()}\n{end}"
    found = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if found.search(text):
        return found.sub(lambda _: whole, text)
    return f"{text.rstrip()}\n\n{whole}\n"
