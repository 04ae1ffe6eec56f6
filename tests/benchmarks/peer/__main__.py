"""`make bench`: this project beside eo-grow 1.7.15 over the same tiles, on this machine.

    python -m tests.benchmarks.peer --tiles 8 --dates 12 [--noisy] [--invalid 0.4] [--rounds 2]

Prints a table, and writes it to docs/performance.md and as figures to build/bench.json. Needs Debian's gdal-bin for
eo-grow's export. With --ours-only nothing is installed, and our side alone is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from resources.workspaces import HOME_VARIABLE
from tests.benchmarks.peer import table
from tests.benchmarks.peer.bench import Bench, Peers, model_parameters
from tests.benchmarks.peer.document import put_section
from tests.benchmarks.peer.environment import interpreter, missing_programs
from tests.benchmarks.peer.measure import emptied
from tests.benchmarks.peer.scene import Scene
from tests.seaweed import REGION, seaweed

BUFFER_PX, BUCKET = 10, "s3://bench"


def main(said: list[str]) -> int:
    """Measure, compare, tell; 1 if an output differs, 2 if something is missing or fails."""
    asked = _parser().parse_args(said)
    missing = [] if asked.ours_only else missing_programs()
    if missing:
        print(f"eo-grow's export runs {' and '.join(missing)}: apt-get install gdal-bin", file=sys.stderr)
        return 2
    scene = Scene(asked.tiles, asked.dates, asked.cell_px, BUFFER_PX, asked.invalid, asked.cloud, asked.noisy)
    try:
        found = _measured(asked, scene, " ".join(["python -m tests.benchmarks.peer", *said]))
    except subprocess.CalledProcessError as error:
        print(f"{error.output or ''}\n{error}", file=sys.stderr)
        return 2
    print(table.markdown(found))
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    asked.json.write_text(json.dumps(found, indent=1))
    if asked.document is not None:
        key = f"{scene.key}{'-bucket' if asked.bucket else ''}"
        put_section(asked.document, key, table.markdown(found), table.explained())
    return 0 if found["equal"] or asked.ours_only else 1


def _measured(asked: argparse.Namespace, scene: Scene, command: str) -> dict[str, Any]:
    build = asked.build.resolve()
    build.mkdir(parents=True, exist_ok=True)
    peers = Peers(
        None if asked.ours_only else interpreter("eogrow", build), interpreter("plain", build) if asked.plain else None
    )
    folder, parameters = build / "bench" / scene.key, model_parameters(asked.trees, asked.leaves)
    before = table.machine()
    with _bucket(folder) if asked.bucket else contextlib.nullcontext() as served:
        folder = folder / "bucket" if served else folder
        bench = Bench(scene, folder, parameters, asked.samples, peers, BUCKET if served else None, served)
        rows, equal = bench.run(asked.rounds)
    how = {"command": command, "rounds": asked.rounds, "trees": asked.trees, "leaves": asked.leaves}
    return table.figures(scene, rows, equal, {**how, **before, "in_bucket": asked.bucket})


@contextlib.contextmanager
def _bucket(folder: Path) -> Iterator[Path]:
    """A new bucket on a SeaweedFS of this machine, which this process and all that it starts find; its data's folder.

    What our side keeps beside a bucket on this machine lies in the same place, and goes with it.
    """
    with seaweed(emptied(folder / "bucket") / "server") as server:
        server.make_bucket(BUCKET.removeprefix("s3://"))
        region = {"AWS_DEFAULT_REGION": REGION}  # what eo-grow's older boto3 looks for
        os.environ.update({**server.environment(), **region, HOME_VARIABLE: str(folder / "bucket/machine")})
        yield folder / "bucket/server"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="peer", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tiles", type=int, default=8)
    parser.add_argument("--dates", type=int, default=12)
    parser.add_argument("--cell-px", type=int, default=833, help="side of a tile without its buffer of 10 pixels")
    parser.add_argument("--invalid", type=float, default=0.0, metavar="SHARE", help="of pixels that no date sees")
    parser.add_argument("--cloud", type=float, default=0.1, metavar="SHARE", help="of the pixels of every date")
    parser.add_argument("--noisy", action="store_true", help="pixels that are nothing like their neighbours")
    parser.add_argument("--samples", type=int, default=1500, help="a tile")
    parser.add_argument("--trees", type=int, default=400)
    parser.add_argument("--leaves", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2, help="of eo-grow and us by turns")
    parser.add_argument("--plain", action="store_true", help="beside a script of xarray and LightGBM, too")
    parser.add_argument("--bucket", action="store_true", help="both projects on a SeaweedFS of this machine")
    parser.add_argument("--ours-only", action="store_true", help="without eo-grow")
    parser.add_argument("--build", type=Path, default=Path("build"), help="where environments and scenes are kept")
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"))
    parser.add_argument("--document", type=Path, help="a Markdown file that gets the table as a section")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
