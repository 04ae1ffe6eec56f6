"""What a service has delivered under a job's folder, and single files of it as files of this machine."""

from __future__ import annotations

import contextlib
import tempfile
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from resources.batch_orders import NOTHING
from resources.local_folder import LocalFolder
from resources.object_store import ObjectStore

TIFF_ENDINGS = (".tif", ".tiff")
"""Those that services use; where both are there, the first counts."""

Files = Callable[[str], Collection[str]]
"""The names of the files of a tile."""


@dataclass(frozen=True, slots=True)
class DeliveredTiff:
    """A GeoTIFF of a tile: what rasterio opens it by, and its bytes."""

    path: str
    size: int


Tiffs = Mapping[str, DeliveredTiff]
"""The GeoTIFFs of a tile, by their names without the ending."""


def delivered_files(store: ObjectStore, folder: str) -> Files:
    """Looks up what lies under a job's folder, tile by tile: of a bucket in one listing, whatever is asked then."""
    if isinstance(store, LocalFolder):
        return lambda tile: {PurePosixPath(key).name for key in store.keys(f"{folder}/{tile}")}
    found: defaultdict[str, set[str]] = defaultdict(set)
    for listed in store.under(folder):
        tile, _, name = listed.key[len(folder) + 1 :].partition("/")
        found[tile].add(name)
    return lambda tile: found.get(tile, set())


def complete(names: Collection[str], outputs: Sequence[str]) -> bool:
    """Has every file of a tile arrived, or the word that there is none? Files appear whole or not at all."""
    stems = {PurePosixPath(name).stem for name in names}
    return stems.issuperset((*outputs, "userdata")) or NOTHING in stems


@contextlib.contextmanager
def local_file(store: ObjectStore, key: str) -> Iterator[Path]:
    """A file as one of this machine, for the length of a block. It need not exist."""
    if isinstance(store, LocalFolder):
        yield store.path(key)
        return
    with tempfile.TemporaryDirectory(prefix="eo-assets-") as folder:
        copy = Path(folder, PurePosixPath(key).name)
        if store.exists(key):
            store.fetch(key, copy)
        yield copy


def tiffs_in(folder: Path) -> Tiffs:
    """The GeoTIFFs of a delivery that lies on this machine."""
    files = (path for ending in reversed(TIFF_ENDINGS) for path in folder.glob(f"*{ending}"))
    return {path.stem: DeliveredTiff(str(path), path.stat().st_size) for path in files}
