"""Objects, requests and bytes a tile and stage of the demo, in a bucket and in a folder; and speed beside boto3.

`python -m tests.benchmarks.bucket_costs --imagery build/imagery --folder F [--out FILE]`: the demo is made in F in
both ways, the bucket behind a proxy that counts requests. Then all objects of the project are put and fetched by boto3
and by the object store, in turns, in the same run; medians of five.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from eo_assets.projects.demo.prepare import prepare
from resources.bucket import Bucket
from resources.local_folder import LocalFolder
from resources.local_sentinel_hub.server import stop
from resources.object_store import ObjectStore
from resources.workspaces import HOME_VARIABLE, machine_folder
from tests.fault_proxy import FaultProxy, fault_proxy
from tests.seaweed import Seaweed, seaweed

BUCKET, PREFIX = "costs", "demo"
PROJECT_FOLDER = f"s3://{BUCKET}/{PREFIX}"
TILES, TIMES = 4, 5
FOLDERS = {
    "tiffs": "tiffs", "data": "eopatches", "features": "features", "raster-reference": "reference",
    "features-sampled": "samples", "training-data": "training_data", "models": "model", "predictions": "predictions",
    "maps": "maps", "byoc": "byoc_collection", "cache": "aoi, tile_grid", "spending": "spending", "logs": "logs",
    "input-data": "inputs",
}  # fmt: skip
DRIVER, YEAR = "driver", "2017"
DRIVERS = {"_orders", "_owner.json", "_failures", ".index.json", "spending"}
METHODS = ("PUT", "GET", "LIST", "HEAD", "DELETE", "POST")


def main() -> None:
    """Make both, count, time, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--imagery", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    parser.add_argument(
        "--requests", type=Path, help="a file for every request of the two runs, to look for needless ones"
    )
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[HOME_VARIABLE] = str(folder / "machine")
    local = folder / "local"
    local_s = _made(asked.imagery, folder, str(local), "local.yaml")
    with seaweed(folder / "server") as server, fault_proxy(server.endpoint) as proxy:
        server.make_bucket(BUCKET)
        os.environ.update(server.environment())
        os.environ["AWS_ENDPOINT_URL_S3"] = proxy.endpoint
        bucket_s = _made(asked.imagery, folder, PROJECT_FOLDER, "bucket.yaml")
        asked_for = requests_by_stage(proxy)
        again_s = _made(
            asked.imagery, folder, PROJECT_FOLDER, "bucket.yaml", first=len(proxy.counted.requests), proxy=proxy
        )
        os.environ["AWS_ENDPOINT_URL_S3"] = server.endpoint
        if asked.requests:
            asked.requests.write_text("\n".join(proxy.counted.requests) + "\n")
        rows = {
            "bucket": sizes_by_stage(Bucket.at(PROJECT_FOLDER)),
            "folder": sizes_by_stage(LocalFolder(local)),
            "requests": asked_for,
        }
        speed = throughput(server, folder / "speed")
    told = {"seconds": {"folder": local_s, "bucket": bucket_s, "again": again_s}, **rows, "throughput": speed}
    _print(told)
    if asked.out:
        asked.out.write_text(json.dumps(told, indent=1))


def _made(
    imagery: Path, folder: Path, project_folder: str, name: str, first: int = 0, proxy: FaultProxy | None = None
) -> Any:
    """Seconds of a run; with a proxy also the requests since the first so many."""
    (folder / name).write_text(f"extends: demo\nstorage: {{project_folder: '{project_folder}'}}\n")
    prepare(imagery, project_folder)
    started = time.perf_counter()
    program = str(Path(sys.executable).with_name("eo-assets"))
    subprocess.run([program, "run", str(folder / name)], check=True, stdout=subprocess.DEVNULL)
    took = round(time.perf_counter() - started, 1)
    stop(machine_folder(project_folder) / "sentinel-hub")
    return took if proxy is None else {"seconds": took, "requests": len(proxy.counted.requests) - first}


def requests_by_stage(proxy: FaultProxy) -> dict[str, dict[str, int]]:
    """How often each stage's folder was asked for, by kind of request."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for line in proxy.counted.requests:
        method, _, rest = line.partition(" ")
        url = urlsplit(rest.rpartition(" ")[0])
        query, key = parse_qs(url.query), unquote(url.path).removeprefix(f"/{BUCKET}").strip("/")
        if "list-type" in query:
            method, key = "LIST", query.get("prefix", [""])[0]
        key = key.removeprefix(f"{PREFIX}/")
        counts[DRIVER if _of_driver(method, key) else _stage(key)][method] += 1
    return {stage: dict(found) for stage, found in counts.items()}


def _of_driver(method: str, key: str) -> bool:
    """Is a request of the run, and not of one of its tiles? Orders, owners, and listings of whole stages in pages."""
    parts = key.strip("/").split("/")
    depth = 2 if parts[-1] == YEAR or parts[0] == "cache" else 1
    whole_stage = method == "LIST" and (parts[-1].startswith("_") or len(parts) <= depth)
    return whole_stage or bool(DRIVERS.intersection(parts))


def sizes_by_stage(store: ObjectStore) -> dict[str, dict[str, int]]:
    """Objects and bytes of every stage."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for found in store.under(""):
        if not re.match(r"\.dagster/|sentinel-hub/", found.key) and not found.key.endswith(".lock"):
            counts[_stage(found.key)] += Counter({"objects": 1, "bytes": found.size})
    return {stage: dict(found) for stage, found in counts.items()}


def throughput(server: Seaweed, folder: Path) -> dict[str, Any]:
    """Seconds to put, and to get, every object of the project, by us and by boto3, one after another."""
    bucket, s3 = Bucket.at(PROJECT_FOLDER), server.client()
    objects: dict[str, bytes] = {}
    for found in bucket.under(""):
        objects[found.key] = bucket.get(found.key) or b""
        target = folder / found.key
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(objects[found.key])
    copy = Bucket.at(f"s3://{BUCKET}/copy")
    ways: dict[str, Callable[[str], object]] = {
        "put, ours": lambda key: copy.put_file(key, folder / key),
        "put, boto3": lambda key: s3.put_object(Bucket=BUCKET, Key=f"boto/{key}", Body=(folder / key).read_bytes()),
        "get, ours": copy.get,
        "get, boto3": lambda key: s3.get_object(Bucket=BUCKET, Key=f"boto/{key}")["Body"].read(),
    }
    took: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(TIMES):
        for name, way in ways.items():
            started = time.perf_counter()
            for key in objects:
                way(key)
            took[name].append(time.perf_counter() - started)
    median = {name: round(statistics.median(seconds), 3) for name, seconds in took.items()}
    ratios = {verb: round(median[f"{verb}, boto3"] / median[f"{verb}, ours"], 2) for verb in ("put", "get")}
    size = sum(map(len, objects.values()))
    return {"objects": len(objects), "bytes": size, "seconds": median, "boto3_over_ours": ratios}


def _stage(key: str) -> str:
    return FOLDERS.get(key.partition("/")[0], "other")


def _print(told: dict[str, Any]) -> None:
    print("| stage | objects a tile | MB a tile | files a tile, folder | MB, folder | " + " | ".join(METHODS) + " |")
    print("|---|---|---|---|---|" + "---|" * len(METHODS))
    for stage in (*FOLDERS.values(), "other", DRIVER):
        share = 1 if stage == DRIVER else TILES
        asked, in_bucket, in_folder = (told[kind].get(stage, {}) for kind in ("requests", "bucket", "folder"))
        if not (asked or in_bucket):
            continue
        sizes = [
            f"{found.get('objects', 0) / TILES:.2f} | {found.get('bytes', 0) / 1e6 / TILES:.3f}"
            for found in (in_bucket, in_folder)
        ]
        requests = " | ".join(f"{asked.get(method, 0) / share:.2f}" for method in METHODS)
        print(f"| {stage} | {' | '.join(sizes)} | {requests} |")
    print(f"\n{DRIVER}: of the whole run, not of a tile\nseconds: {told['seconds']}\nthroughput: {told['throughput']}")


if __name__ == "__main__":
    main()
