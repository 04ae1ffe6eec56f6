"""Objects are whole or not there, whoever else writes."""

import multiprocessing
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from eo_assets.errors import StoreError
from resources.local_folder import LocalFolder
from resources.object_store import checksum, file_checksum, size_of
from resources.stores import open_store

WRITERS = 4


@pytest.fixture
def store(tmp_path: Path) -> LocalFolder:
    return LocalFolder(tmp_path)


def test_create_never_replaces(store: LocalFolder) -> None:
    assert store.create("a/b", b"one")
    assert not store.create("a/b", b"two")
    assert store.get("a/b") == b"one"
    assert list(store.keys("a")) == ["a/b"]
    assert os.listdir(store.path("a")) == ["b"]  # noqa: PTH208  no temporary file stays behind


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/etc/passwd", "a/.."])
def test_a_key_that_leaves_the_folder_is_refused(store: LocalFolder, key: str) -> None:
    for use in (store.get, store.path, store.delete, store.delete_folder, lambda k: store.put(k, b"")):
        with pytest.raises(StoreError, match="leaves the project folder"):
            use(key)


def test_keys_are_sorted_and_leave_out_what_is_hidden(store: LocalFolder) -> None:
    for name in ("b", "a", ".hidden", "c/d"):
        store.put(f"p/{name}", b"")
    store.swap("p/a", b"1", b"")
    assert list(store.keys("p")) == ["p/a", "p/b", "p/c"]
    assert list(store.keys("nothing")) == []


def test_a_copy_gives_a_second_name_and_replaces_the_old(store: LocalFolder) -> None:
    for text in (b"one", b"two"):
        store.put(f"maps/{text.decode()}/m.tiff", text)
        store.copy(f"maps/{text.decode()}/m.tiff", "published/m.tiff")
        assert store.get("published/m.tiff") == text
    assert list(store.keys("published")) == ["published/m.tiff"]
    store.delete_folder("maps")
    assert store.get("published/m.tiff") == b"two"


def test_a_copy_copies_bytes_where_links_do_not_work(store: LocalFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: object, target: object) -> None:
        raise OSError("no links on this file system")

    store.put("a", b"bytes")
    monkeypatch.setattr(os, "link", refuse)
    store.copy("a", "b")
    assert store.get("b") == b"bytes"


def _count_up(root: Path, times: int) -> None:
    store = LocalFolder(root)
    for _ in range(times):
        while True:
            old = store.get("counter")
            if store.swap("counter", str(int(old or b"0") + 1).encode(), old):
                break


def test_no_swap_is_lost_between_processes(store: LocalFolder) -> None:
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_count_up, args=(store.root, 25)) for _ in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert store.get("counter") == str(25 * WRITERS).encode()


def test_a_folder_that_can_not_be_written_leaves_the_old_object(store: LocalFolder) -> None:
    if os.geteuid() == 0:
        # root may write anywhere; a folder in the place of the object stands in for the refusal
        store.put("a/b/c", b"old")
        with pytest.raises(OSError):
            store.put("a/b", b"new")
    else:
        store.put("a/b/c", b"old")
        store.path("a/b").chmod(stat.S_IRUSR | stat.S_IXUSR)
        with pytest.raises(OSError):
            store.put("a/b/c", b"new")
        store.path("a/b").chmod(stat.S_IRWXU)
    assert store.get("a/b/c") == b"old"


def test_checksums_see_names_and_bytes(tmp_path: Path) -> None:
    def folder(name: str, files: dict[str, bytes]) -> str:
        for file, data in files.items():
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_bytes(data)
        return checksum(tmp_path / name)

    base = folder("a", {"x": b"1", "y/z": b"2"})
    assert base == folder("b", {"y/z": b"2", "x": b"1"})
    others = [{"x": b"1", "y/z": b"3"}, {"x": b"12", "y/z": b""}, {"x": b"1", "y/w": b"2"}, {"x": b"1"}]
    assert base not in {folder(f"c{i}", files) for i, files in enumerate(others)}
    assert size_of(tmp_path / "a") == 2
    assert size_of(tmp_path / "a/x") == 1


def test_a_file_is_hashed_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "aoi.geojson"
    file.write_bytes(b"one")
    first = file_checksum(file)
    assert file_checksum(file) == first == checksum(file)
    file.write_bytes(b"other")
    assert file_checksum(file) == checksum(file) != first


def test_a_project_folder_is_a_folder_or_a_bucket_and_nothing_else() -> None:
    assert open_store("s3://bucket/prefix").place("maps/a") == "s3://bucket/prefix/maps/a"
    for folder in ("gs://bucket/prefix", "s3://", "http://127.0.0.1/bucket"):
        with pytest.raises(StoreError, match="s3://bucket/prefix"):
            open_store(folder)


def test_another_scheme_is_refused_naming_the_key_and_no_password() -> None:
    with pytest.raises(StoreError, match=r"storage\.project_folder: gs://.*s3://bucket/prefix") as told:
        open_store("gs://user:PASSWORD@bucket/prefix")
    assert "PASSWORD" not in str(told.value)


def test_copying_again_leaves_nothing_behind(store: LocalFolder) -> None:
    store.put("maps/1/map.tiff", b"map")
    for _ in range(2):
        store.copy("maps/1/map.tiff", "maps/map.tiff")
    assert sorted(path.name for path in store.path("maps").iterdir()) == ["1", "map.tiff"]


def test_what_is_put_can_be_read_by_others_as_far_as_the_umask_says(store: LocalFolder) -> None:
    mask = os.umask(0o022)
    try:
        store.put("record.json", b"{}")
    finally:
        os.umask(mask)
    assert store.path("record.json").stat().st_mode & 0o777 == 0o644


def test_what_is_held_is_waited_for(store: LocalFolder) -> None:
    told: list[str] = []
    order: list[str] = []

    def second() -> None:
        with store.exclusive("tiffs/ordering", lambda: told.append("waiting")):
            order.append("second")

    with store.exclusive("tiffs/ordering", lambda: told.append("never")):
        other = threading.Thread(target=second)
        other.start()
        while not told:
            time.sleep(0.01)
        order.append("first")
    other.join()
    assert (told, order) == (["waiting"], ["first", "second"])
