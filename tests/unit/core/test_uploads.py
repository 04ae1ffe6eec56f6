"""Uploads look by look, as plain values."""

from hypothesis import given
from hypothesis import strategies as st

from eo_assets.core.uploads import Memory, Seen, failures, look, memory_from_json, removed, same_again, usable_contents

GOOD, BAD = Seen("1", "aa", "", True), Seen("2", "bb", "torn", True)


def test_a_file_is_judged_when_two_looks_find_one_version() -> None:
    files, settled = look({}, {"a": "1"})
    assert (files, settled) == ({"a": Seen("1")}, [])
    files, settled = look(files, {"a": "2"})
    assert (files, settled) == ({"a": Seen("2")}, [])
    assert look(files, {"a": "2"}) == (files, ["a"])
    assert look({"a": GOOD}, {"a": "1"}) == ({"a": GOOD}, [])


def test_a_file_that_changes_counts_as_what_it_was_until_it_is_judged() -> None:
    files, _ = look({"a": GOOD, "b": BAD}, {"a": "5", "b": "6"})
    assert usable_contents(files) == {"aa"}
    assert failures(files) == {"b": ("bb", "torn")}


def test_removed_is_what_is_gone_with_its_content() -> None:
    before = {"a": GOOD, "bad": BAD}
    assert removed(before, {}) == ["a"]
    assert removed(before, {"renamed": GOOD}) == []


def test_same_again() -> None:
    assert same_again({"a": GOOD}, {"a": GOOD}) == {}
    assert same_again({"a": GOOD}, {"a": GOOD, "b": GOOD}) == {"b": "a"}
    assert same_again({"a": GOOD}, {"b": GOOD}) == {"b": "a"}
    assert same_again({}, {"a": GOOD, "b": GOOD}) == {"b": "a"}


@given(
    st.builds(
        Memory,
        st.dictionaries(st.text(), st.builds(Seen, st.text(), st.text(), st.text(), st.booleans()), max_size=3),
        st.integers(0, 9),
        st.text(),
        st.text(),
        st.text(),
        st.lists(st.text(), max_size=2).map(tuple),
    )
)
def test_a_memory_comes_back(memory: Memory) -> None:
    assert memory_from_json(memory.as_json()) == memory


def test_a_memory_of_something_else_is_a_fresh_one() -> None:
    assert [memory_from_json(text) for text in (None, "", "{", "3", '{"files": 1}', '{"other": 1}')] == [Memory()] * 6
