"""What every object store promises: a local folder and a bucket of a real S3 server, by the same tests."""

from __future__ import annotations

import pickle
import time
from pathlib import Path

import pytest

from eo_assets.errors import StoreError
from resources.object_store import ObjectStore

MB = 1 << 20
ODD = [
    "a b", "ü/é", "日本/語", "emoji😀", "a%20b", "a#b", "a?b", "a*b", "a~b", "a+b", "a&b=c", "'q'", '"dq"', "a[b]",
    "a..b", "a:b", "{a}", "a|b", "year=2020/B04.tif",
]  # fmt: skip


def noise(size: int) -> bytes:
    return bytes(range(256)) * (size // 256) + b"x" * (size % 256)


def test_an_object_is_put_read_replaced_and_deleted(store: ObjectStore) -> None:
    assert store.get("a/b.json") is None
    store.put("a/b.json", b"one")
    store.put("a/b.json", b"two")
    assert store.get("a/b.json") == b"two"
    store.delete("a/b.json")
    store.delete("a/b.json")
    assert store.get("a/b.json") is None


def test_an_empty_object_is_an_object(store: ObjectStore) -> None:
    store.put("empty", b"")
    assert store.get("empty") == b""
    assert store.exists("empty")
    assert store.get_range("empty", 0, 10) == b""


@pytest.mark.parametrize("key", ODD)
def test_odd_keys_come_back_as_they_were(store: ObjectStore, key: str, tmp_path: Path) -> None:
    store.put(f"odd/{key}", key.encode())
    store.copy(f"odd/{key}", f"copied/{key}")
    store.fetch(f"copied/{key}", tmp_path / "fetched")
    assert store.get(f"odd/{key}") == key.encode() == (tmp_path / "fetched").read_bytes()
    assert [listed.key for listed in store.under("odd")] == [f"odd/{key}"]
    store.delete_folder("odd")
    assert store.under("odd") == []
    assert store.get(f"copied/{key}") == key.encode()


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/etc/passwd", "a/..", "a//b", "a\nb"])
def test_a_key_that_leaves_the_project_is_refused_by_every_method(store: ObjectStore, key: str, tmp_path: Path) -> None:
    uses = (
        store.place, store.get, store.delete, store.delete_folder, store.exists, store.under, store.versions,
        store.folders, store.held, store.unlock, lambda k: list(store.keys(k)), lambda k: store.put(k, b""),
        lambda k: store.create(k, b""), lambda k: store.swap(k, b"", None), lambda k: store.get_range(k, 0, 1),
        lambda k: store.fetch(k, tmp_path / "x"), lambda k: store.copy(k, "b"), lambda k: store.copy("b", k),
        lambda k: store.put_file(k, Path(__file__)),
    )  # fmt: skip
    for use in uses:
        with pytest.raises(StoreError, match=r"leaves the project folder|control character"):
            use(key)


def test_create_never_replaces(store: ObjectStore) -> None:
    assert store.create("a/b", b"one")
    assert not store.create("a/b", b"two")
    assert not store.create("a/b", b"one")
    assert store.get("a/b") == b"one"
    assert [listed.key for listed in store.under("a")] == ["a/b"]


def test_swap_replaces_only_what_is_expected(store: ObjectStore) -> None:
    assert not store.swap("r", b"new", b"old")
    assert store.swap("r", b"one", None)
    assert not store.swap("r", b"two", None)
    assert not store.swap("r", b"two", b"zero")
    assert store.swap("r", b"two", b"one")
    assert store.get("r") == b"two"


def test_a_part_of_an_object_is_shorter_where_the_object_ends(store: ObjectStore) -> None:
    store.put("o", b"0123456789")
    assert store.get_range("o", 2, 3) == b"234"
    assert store.get_range("o", 8, 100) == b"89"
    assert store.get_range("o", 10, 5) == b""
    assert store.get_range("o", 50, 5) == b""
    assert store.get_range("o", 3, 0) == b""


def test_what_is_not_there_is_told_with_its_place(store: ObjectStore, tmp_path: Path) -> None:
    target = tmp_path / "target"
    for use in (
        lambda: store.get_range("no/such", 0, 1),
        lambda: store.fetch("no/such", target),
        lambda: store.copy("no/such", "b"),
    ):
        with pytest.raises(StoreError, match=r"no/such does not exist"):
            use()
    assert not target.exists()
    assert store.get("b") is None


def test_large_files_arrive_whole_both_ways(store: ObjectStore, tmp_path: Path) -> None:
    source, back = tmp_path / "source", tmp_path / "deep" / "back"
    source.write_bytes(noise(20 * MB + 7))
    store.put_file("large", source)
    store.fetch("large", back)
    assert back.read_bytes() == source.read_bytes()
    assert [path.name for path in back.parent.iterdir()] == ["back"]
    assert store.under("")[0].size == 20 * MB + 7
    store.put("large", noise(17 * MB))
    assert store.get("large") == noise(17 * MB)


def test_a_file_replaces_the_file_of_before(store: ObjectStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for data in (b"first, longer", b"second", b""):
        source.write_bytes(data)
        store.put_file("f", source)
        assert store.get("f") == data


def test_a_copy_does_not_change_with_its_original(store: ObjectStore) -> None:
    store.put("a", b"one")
    store.put("b", b"before")
    store.copy("a", "b")
    store.put("a", b"two")
    assert store.get("b") == b"one"


def test_listings_are_sorted_and_leave_out_what_is_hidden(store: ObjectStore) -> None:
    for name in ("b", "a", ".hidden", "c/d", "c/.e/f", ".g/h"):
        store.put(f"p/{name}", name.encode())
    store.put("pq", b"its key begins like the prefix, and it is not under it")
    assert list(store.keys("p")) == ["p/a", "p/b", "p/c"]
    assert store.folders("p") == ["p/c"]
    assert [listed.key for listed in store.under("p")] == ["p/.g/h", "p/.hidden", "p/a", "p/b", "p/c/.e/f", "p/c/d"]
    assert {"a", "b"} <= set(store.versions("p")) <= {"a", "b", "c"}
    assert list(store.keys("")) == ["p", "pq"]
    assert store.folders("") == ["p"]


def test_listings_of_nothing_are_empty(store: ObjectStore) -> None:
    assert list(store.keys("none")) == []
    assert store.folders("none") == []
    assert store.under("none") == []
    assert store.versions("none") == {}
    assert store.matching("none/*.tif") == []
    assert not store.exists("none")


def test_something_exists_if_it_is_an_object_or_holds_one(store: ObjectStore) -> None:
    store.put("a/b/c", b"")
    assert all(store.exists(key) for key in ("a/b/c", "a/b", "a", ""))
    assert not any(store.exists(key) for key in ("a/b/c/d", "a/bb", "b"))


def test_a_version_changes_with_the_bytes(store: ObjectStore) -> None:
    store.put("p/a", b"one")
    store.put("p/b", b"one")
    before = store.versions("p")
    store.put("p/a", b"two")
    after = store.versions("p")
    assert before["a"] != after["a"]
    assert before["b"] == after["b"]
    assert store.under("p")[0].version == after["a"]


def test_the_time_of_an_object_is_when_it_was_written(store: ObjectStore) -> None:
    before = time.time()
    store.put("a", b"")
    assert before - 2 <= store.under("")[0].modified <= time.time() + 2


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("in/*.gpkg", ["in/a.gpkg", "in/b.gpkg"]),
        ("in/a.gpkg", ["in/a.gpkg"]),
        ("in/[b-z].gpkg", ["in/b.gpkg"]),
        ("in/?.gpkg", ["in/a.gpkg", "in/b.gpkg"]),
        ("**/*.gpkg", ["in/a.gpkg", "in/b.gpkg", "in/sub/c.gpkg", "in/sub/deep/d.gpkg"]),
        ("in/**/*.gpkg", ["in/a.gpkg", "in/b.gpkg", "in/sub/c.gpkg", "in/sub/deep/d.gpkg"]),
        ("in/*/*.gpkg", ["in/sub/c.gpkg"]),
        ("in/sub/**/d.*", ["in/sub/deep/d.gpkg"]),
        ("*", ["top"]),
        ("in/*.GPKG", []),
    ],
)
def test_a_glob_means_what_it_means_to_pathlib(store: ObjectStore, pattern: str, expected: list[str]) -> None:
    names = ("in/a.gpkg", "in/b.gpkg", "in/.c.gpkg", "in/sub/c.gpkg", "in/sub/deep/d.gpkg", "in/.x/e.gpkg", "top")
    for name in (*names, "in/a.gpkg.part", "in/f.tmp", "in/a.gpkg~"):
        store.put(name, b"")
    assert [listed.key for listed in store.matching(pattern)] == expected


def test_delete_folder_leaves_its_neighbours(store: ObjectStore) -> None:
    for name in ("a/b", "a/c/d", "ab", "b"):
        store.put(name, b"")
    store.delete_folder("a")
    store.delete_folder("a")
    assert [listed.key for listed in store.under("")] == ["ab", "b"]


def test_a_store_is_the_same_after_pickling(store: ObjectStore) -> None:
    store.put("a", b"1")
    again = pickle.loads(pickle.dumps(store))  # noqa: S301  our own
    assert again == store
    assert again.get("a") == b"1"
    assert again.place("a") == store.place("a")


def test_listings_go_on_from_page_to_page(store: ObjectStore) -> None:
    names = [f"n/{n:05d}" for n in range(2500)]
    import concurrent.futures

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.put(name, b""), names))
    assert [listed.key for listed in store.under("n")] == names
    assert list(store.keys("n")) == names
    assert [listed.key for listed in store.matching("n/*7")] == [name for name in names if name.endswith("7")]
    store.delete_folder("n")
    assert not store.exists("n")
