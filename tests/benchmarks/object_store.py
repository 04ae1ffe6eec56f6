"""How fast objects are put and read, beside boto3's plain put_object and get_object of the same bytes in the same run.

`python -m tests.benchmarks.object_store [--out FILE]` starts SeaweedFS on loopback. Each pair is measured in turn, so
that what else the machine does meets both; medians are told.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resources.bucket import Bucket
from tests.seaweed import seaweed

SIZES = {"64 KB": 64 << 10, "2 MB": 2 << 20, "64 MB": 64 << 20}
REPEATS = {"64 KB": 100, "2 MB": 40, "64 MB": 7}
NAME = "bench"


def measured(pair: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each, in turn after one round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in pair}
    for n in range(repeats + 1):
        for name, call in pair.items():
            begun = time.perf_counter()
            call()
            if n:
                times[name].append(time.perf_counter() - begun)
    return {name: statistics.median(found) for name, found in times.items()}


def pairs(store: Bucket, client: Any, data: bytes, folder: Path) -> dict[str, dict[str, Callable[[], object]]]:
    """What is compared: whole bytes, and files."""
    source, target = folder / "source", folder / "target"
    source.write_bytes(data)
    return {
        "put": {
            "ours": lambda: store.put("ours", data),
            "boto3": lambda: client.put_object(Bucket=NAME, Key="theirs", Body=data),
        },
        "get": {
            "ours": lambda: store.get("ours"),
            "boto3": lambda: client.get_object(Bucket=NAME, Key="theirs")["Body"].read(),
        },
        "put_file": {
            "ours": lambda: store.put_file("ours", source),
            "boto3": lambda: client.put_object(Bucket=NAME, Key="theirs", Body=source.read_bytes()),
        },
        "fetch": {
            "ours": lambda: store.fetch("ours", target),
            "boto3": lambda: target.write_bytes(client.get_object(Bucket=NAME, Key="theirs")["Body"].read()),
        },
    }


def compare(folder: Path) -> list[dict[str, Any]]:
    """All sizes: rows of operation, size, seconds of both, MB/s, and how many times as fast we are."""
    rows = []
    with seaweed(folder / "server") as server:
        os.environ.update(server.environment())
        server.make_bucket(NAME)
        store, client = Bucket.at(f"s3://{NAME}/p"), server.client()
        for size, count in SIZES.items():
            for what, pair in pairs(store, client, os.urandom(count), folder).items():
                seconds = measured(pair, REPEATS[size])
                rows.append({
                    "what": what, "size": size, **{f"{name}_s": found for name, found in seconds.items()},
                    "ours_mb_s": count / seconds["ours"] / 1e6, "boto3_mb_s": count / seconds["boto3"] / 1e6,
                    "ratio": seconds["boto3"] / seconds["ours"],
                })  # fmt: skip
    return rows


def main() -> None:
    """Measure, print a table, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="object-store-") as folder:
        rows = compare(Path(folder))
    print(f"{'':10}{'size':>8}{'ours MB/s':>12}{'boto3 MB/s':>12}{'ratio':>8}")
    for row in rows:
        print(f"{row['what']:10}{row['size']:>8}{row['ours_mb_s']:12.1f}{row['boto3_mb_s']:12.1f}{row['ratio']:8.2f}")
    if asked.out:
        asked.out.write_text(json.dumps({"rows": rows}, indent=1))


if __name__ == "__main__":
    main()
