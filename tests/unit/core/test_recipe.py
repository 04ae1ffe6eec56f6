"""A recipe changes with whatever is in it and with nothing else."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eo_assets.core.recipe import fingerprint, recipe, source_digest

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
settings_of_stages = st.dictionaries(st.text(max_size=5), scalars | st.lists(scalars, max_size=3), max_size=5)


@given(settings_of_stages)
def test_the_order_of_keys_does_not_matter(settings: dict[str, object]) -> None:
    turned = dict(reversed(settings.items()))
    assert recipe("features", settings, "1", {"a": "x", "b": "y"}) == recipe(
        "features", turned, "1", {"b": "y", "a": "x"}
    )


@given(st.lists(scalars, min_size=2, max_size=4))
def test_the_order_of_a_list_does(values: list[object]) -> None:
    turned = values[::-1]
    same = repr(values) == repr(turned)
    assert (fingerprint(values) == fingerprint(turned)) == same


def test_every_part_counts() -> None:
    base = ("features", {"threshold": 0.5}, "1", {"eopatches": "d1"})
    others = [
        ("samples", *base[1:]),
        (base[0], {"threshold": 0.6}, *base[2:]),
        (*base[:2], "2", base[3]),
        (*base[:3], {"eopatches": "d2"}),
        (*base[:3], {}),
    ]
    assert len({recipe(*base), *(recipe(*other) for other in others)}) == 1 + len(others)
    assert re.fullmatch("[0-9a-f]{64}", recipe(*base))


def test_a_recipe_is_the_same_in_every_process_and_version() -> None:
    # Committed outputs carry it: a change of this value makes everybody's outputs stale.
    found = recipe("features", {"threshold": 0.5, "nodata": "nan"}, "1", {"eopatches": "d"})
    assert found == "d2d546231b86cb5ac21ab6220cb25d8846c6862b9b280bb00ebc33d739416fab"


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes"])
def test_what_is_not_json_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        fingerprint(value)


def test_a_source_hands_on_its_bytes() -> None:
    assert len({source_digest("r", "a"), source_digest("r", "b"), source_digest("q", "a")}) == 3
