"""`python -m resources.local_sentinel_hub`: the service in the foreground, like `eo-assets sentinel-hub serve`."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from eo_assets.errors import EoAssetsError, ProjectError
from resources.local_sentinel_hub.server import ServiceSettings, serve
from resources.local_sentinel_hub.settings import FAULTS_VARIABLE, ID_VARIABLE, SECRET_VARIABLE, parsed_access
from resources.s3_access import S3Access


def _s3_access(text: str) -> S3Access:
    try:
        return parsed_access(text)
    except ProjectError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def main() -> int:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m resources.local_sentinel_hub",
        description=f"A Sentinel Hub on this machine. {ID_VARIABLE} and {SECRET_VARIABLE} name the only client; "
        "without them, --own-client and --s3 any is let in.",
    )
    parser.add_argument("--folder", type=Path, required=True, help="where state, locks and log lie")
    parser.add_argument("--collections", type=Path, help="YAML file that declares collections")
    parser.add_argument("--bucket", action="append", default=[], metavar="NAME=FOLDER", help="a folder as s3://NAME")
    parser.add_argument("--s3", type=_s3_access, metavar="JSON", help="serve the buckets of this S3 server, {} for AWS")
    parser.add_argument("--port", type=int, default=0, help="0 takes any free port")
    parser.add_argument("--idle-seconds", type=float, default=900.0, help="end after so long without a request")
    parser.add_argument("--script-seconds", type=float, default=60.0, help="end a script after so long in one block")
    parser.add_argument(
        "--allow-faults", action="store_true", help=f"let tests make it misbehave; so does {FAULTS_VARIABLE}=1"
    )
    parser.add_argument("--own-client", action="store_true", help="let in nobody but the client in FOLDER/client.json")
    options = parser.parse_args()
    buckets: dict[str, Path] = {}
    for entry in options.bucket:
        name, separator, folder = entry.partition("=")
        if not (name and separator and folder):
            parser.error(f"--bucket {entry!r} must be NAME=FOLDER")
        buckets[name] = Path(folder)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        serve(
            ServiceSettings(
                options.folder,
                options.collections,
                buckets,
                options.port,
                options.idle_seconds,
                options.script_seconds,
                options.allow_faults,
                options.s3,
            ),
            options.own_client,
        )
    except EoAssetsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
