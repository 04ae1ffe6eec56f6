"""What a place that can't be written is told as, and that half-written objects do not stay there."""

import contextlib
import errno
import os
import resource
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from eo_assets.errors import StorageRefused, StoreError
from resources.local_folder import LocalFolder
from resources.storage_faults import storage_fault, storage_told
from resources.tile_store import TileStore

PLACE = Path("/data/project")


def told(code: int, name: str | None = None) -> str:
    fault = storage_fault(OSError(code, os.strerror(code), name), PLACE)
    return "" if fault is None else str(fault)


def test_a_fault_names_place_matter_and_remedy(tmp_path: Path) -> None:
    assert told(errno.ENOSPC).startswith(f"{PLACE}: the disk is full (")
    assert "free some space, then run it again: what is committed stays" in told(errno.EDQUOT)
    fault = storage_fault(OSError(errno.ENOSPC, "", str(tmp_path / "a/b")), PLACE)
    assert str(fault).startswith(f"{tmp_path}/a/b: the disk is full (") and " MB are left" in str(fault)
    assert told(errno.EROFS, "/data/project/features").startswith("/data/project/features is read-only; give")
    assert told(errno.EACCES).startswith("/data/project is closed to the user of this run; give that user permission")
    assert "no file of this size is allowed" in told(errno.EFBIG)
    assert "something else lies where a folder has to be" in told(errno.ENOTDIR)


def test_what_is_no_fault_of_the_place_is_left_alone() -> None:
    assert told(errno.ENOENT) == told(errno.EIO) == ""
    assert told(errno.EACCES, "/home/somebody/labels.tif") == "", "a file to be read may lie anywhere"
    assert storage_fault(ValueError("no"), PLACE) is None
    with pytest.raises(FileNotFoundError), storage_told(PLACE):
        raise FileNotFoundError(errno.ENOENT, "no")
    with pytest.raises(StoreError, match="ours"), storage_told(PLACE):
        raise StoreError("ours") from OSError(errno.ENOSPC, "no")


def test_the_error_behind_an_error_counts(tmp_path: Path) -> None:
    with pytest.raises(StorageRefused, match="the disk is full"), storage_told(PLACE):
        try:
            raise OSError(errno.ENOSPC, "no")
        except OSError as error:
            raise RuntimeError("the codec failed") from error
    # What was met while another fault was dealt with is a matter of its own.
    with pytest.raises(FileNotFoundError):
        try:
            raise OSError(errno.ENOSPC, "no")
        except OSError:
            with storage_told(PLACE):
                (tmp_path / "nothing").read_bytes()


def test_a_database_that_can_no_longer_grow(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "events.db")) as database:
        database.execute("create table events (body blob)")
        database.execute("pragma max_page_count = 3")
        with pytest.raises(StorageRefused, match=f"{tmp_path}: the disk is full"), storage_told(tmp_path):
            database.execute("insert into events values (zeroblob(100000))")


def test_records_that_are_there_and_cannot_be_listed_are_not_missing(tmp_path: Path) -> None:
    """Imagery would be bought a second time."""
    store = TileStore(LocalFolder(tmp_path), "demo", {"tiffs": "tiffs"})
    assert store.records("tiffs") == {} and store.record("tiffs", "T") is None
    (tmp_path / "tiffs").mkdir()
    (tmp_path / "tiffs/_commits").write_bytes(b"")
    for ask in (lambda: store.records("tiffs"), lambda: store.record("tiffs", "T")):
        with pytest.raises(StorageRefused, match=r"_commits.*something else lies where a folder has to be"):
            ask()


@contextlib.contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """The system refuses larger files: a full disk in small, without rights that a test may not have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock"))


def test_an_object_that_does_not_fit_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    store = LocalFolder(tmp_path)
    store.put("a/b", b"old")
    for write in (store.put, store.create, lambda key, data: store.swap(key, data, b"old")):
        with files_up_to(10), pytest.raises(StorageRefused, match=r"a/.*no file of this size|no file of this size"):
            write("a/b", b"new" * 100)
    assert store.get("a/b") == b"old"
    assert files(tmp_path) == ["b"]


def test_an_attempt_that_does_not_fit_is_refused_and_removed(tmp_path: Path) -> None:
    store = TileStore(LocalFolder(tmp_path), "demo", {"features": "features"})
    with (
        pytest.raises(StorageRefused, match="features: no file of this size"),
        store.attempt("features", "T") as attempt,
        files_up_to(10),
    ):
        (attempt.folder / "array").write_bytes(b"0" * 100)
    assert files(tmp_path) == ["_owner.json"]


def test_a_file_in_the_place_of_a_tiles_folder(tmp_path: Path) -> None:
    store = TileStore(LocalFolder(tmp_path), "demo", {"features": "features"})
    store.claim("features")
    (tmp_path / "features/T").write_bytes(b"")
    with pytest.raises(StorageRefused, match=r"features/T.*something else lies"), store.attempt("features", "T"):
        pass
