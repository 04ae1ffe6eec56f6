"""The vector files that make the area: which there are, which can be read, and what is used in place of one that can't.

A file that can't be read is left out as long as another can. Where it could be read when the area was last made, what
it held then goes on being used, so that nothing that was made of it is lost to a slip.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import shapely

from eo_assets.errors import AreaError, StorageRefused, TransientError
from eo_assets.project import LoadedProject
from eo_assets.stages.build import beside_project_file, input_files, tile_store
from resources.input_files import InputFiles
from resources.object_store import Listed, Matching
from resources.vector_files import Area, AreaFile, area_of, read_area_file, without_sidecars

FILES_FILE = "sources/files.geojson"
"""Under the committed area: what each of its files gave, with its name and the sha256 of its content."""


SHAPEFILE_GEOMETRY = (".shp", ".prj", ".shx")
"""What a shapefile's coordinates depend on."""


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file of the area as it lies there: its name, its size in bytes, a version that tells changes."""

    files: InputFiles
    name: str
    size: int
    version: str

    @property
    def place(self) -> str:
        """Where it lies, for people."""
        return self.files.place(self.name)

    @property
    def leaves_folder(self) -> bool:
        """Does a link lead out of the folder?"""
        return self.files.leaves(self.name)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that can't be used: why, with the remedy, and whether what it held before is used in its place."""

    name: str
    reason: str
    kept: bool = False

    def __str__(self) -> str:
        return f"{self.reason} ({'what it held before is used' if self.kept else 'it is left out'})"


@dataclass(frozen=True)
class FoundArea:
    """The area that the files make, what each of them gives to it by name, and those that can't be read."""

    area: Area
    files: Mapping[str, AreaFile]
    unreadable: tuple[Unreadable, ...] = ()


def listed_files(loaded: LoadedProject, matching: Matching | None = None) -> list[ListedFile]:
    """The files that match area.files, by name: of the project folder, or else of those beside the project file.

    `matching` is another way of listing the project folder.
    """
    files, pattern = input_files(loaded), loaded.project.area.files
    return _listed(files, pattern, matching or files.store.matching) or _files_beside(loaded)


def _files_beside(loaded: LoadedProject) -> list[ListedFile]:
    files = beside_project_file(loaded)
    return _listed(files, loaded.project.area.files, files.store.matching)


def _listed(files: InputFiles, pattern: str, matching: Matching) -> list[ListedFile]:
    start = len(files.folder) + 1
    listed = {Path(found.key[start:]): found for found in matching(f"{files.folder}/{pattern}")}
    return [
        ListedFile(files, path.as_posix(), listed[path].size, _version(listed, path))
        for path in without_sidecars(list(listed))
    ]


def find_area(loaded: LoadedProject, file: Path | None = None, *, offline: bool = False) -> FoundArea:
    """The area of the project's own files, or of one other file.

    `offline`: a project in a bucket that can't be reached is planned from the files beside the project file, if any.
    Raises AreaError if there is no file, or none that can be read.
    """
    if file is not None:
        return _found({file.name: read_area_file(file)})
    try:
        listed = listed_files(loaded)
    except (StorageRefused, TransientError):
        listed = _files_beside(loaded) if offline else []
        if not listed:
            raise
    if not listed:
        place, pattern = input_files(loaded).place(), loaded.project.area.files
        raise AreaError(
            f"{loaded.file}: area.files: {pattern}: no file in {place} matches; put the area of interest there"
        )
    answers = {found.name: read_listed(found) for found in listed}
    files = {name: answer for name, answer in answers.items() if isinstance(answer, AreaFile)}
    reasons = {name: answer for name, answer in answers.items() if isinstance(answer, str)}
    if not files:
        raise AreaError(" - ".join(reasons.values()))
    before = committed_files(loaded) if reasons else {}
    kept = {name: before[name] for name in reasons if name in before}
    return _found(files | kept, tuple(Unreadable(name, reason, name in kept) for name, reason in reasons.items()))


def read_listed(found: ListedFile) -> AreaFile | str:
    """What a file holds, or why it can't be used."""
    if found.leaves_folder:
        return f"{found.place}: it is a link to a file outside of {found.files.place()}: copy the file there"
    return _read(found.files, found.name, found.version)


def committed_files(loaded: LoadedProject) -> Mapping[str, AreaFile]:
    """What each file gave to the area as it is committed, by name; nothing where it is not, or by an older version."""
    store = tile_store(loaded)
    record = store.record("aoi", "aoi")
    return {} if record is None else _committed(store.file(record, FILES_FILE))


def write_files(path: Path, files: Mapping[str, AreaFile]) -> None:
    """What each file gives to the area, as GeoJSON."""
    features = [
        {
            "type": "Feature",
            "properties": {"file": name, "sha256": file.content},
            "geometry": json.loads(shapely.to_geojson(file.geometry)),
        }
        for name, file in sorted(files.items())
    ]
    path.parent.mkdir()
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def _found(files: Mapping[str, AreaFile], unreadable: Sequence[Unreadable] = ()) -> FoundArea:
    # In the order of their contents: the union's coordinates, to the last digit, must not depend on names.
    contents = {file.content: file for file in files.values()}
    return FoundArea(area_of([contents[content] for content in sorted(contents)]), files, tuple(unreadable))


def _version(listed: Mapping[Path, Listed], path: Path) -> str:
    """Of a shapefile together with the files that its geometry depends on."""
    parts = [path.with_suffix(suffix) for suffix in SHAPEFILE_GEOMETRY] if path.suffix.lower() == ".shp" else [path]
    return " ".join(listed[part].version for part in parts if part in listed)


@functools.lru_cache(maxsize=256)
def _read(files: InputFiles, name: str, version: str) -> AreaFile | str:
    """A run asks for the area several times: a file is read again only when it has changed."""
    path = files.path(name)
    try:
        return read_area_file(path)
    except AreaError as error:
        return str(error).replace(str(path), files.place(name))
    except OSError as error:
        return f"{files.place(name)}: can't be read ({error.strerror or error}): check who may read it"


@functools.lru_cache(maxsize=8)
def _committed(content: bytes | None) -> Mapping[str, AreaFile]:
    """What such a file holds; an area of an older version has none."""
    if content is None:
        return {}
    features: Iterable[dict[str, dict[str, str]]] = json.loads(content)["features"]
    return {
        feature["properties"]["file"]: AreaFile(
            feature["properties"]["sha256"], shapely.from_geojson(json.dumps(feature["geometry"]))
        )
        for feature in features
    }
