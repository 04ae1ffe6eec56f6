"""Signatures: what differs is told, the same season of another year is the same, older ones are still read."""

import dataclasses
import datetime as dt
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eo_assets.core.periods import periods_of
from eo_assets.core.signature import Season, Signature, first_difference
from eo_assets.errors import ModelError

COLUMNS = ("NDVI_2020-01-01", "B04_2020-01-01", "B08_2020-01-01")
SIGNATURE = Signature("lightgbm_regressor", COLUMNS, 0.0001, "GHSL", ("s2: harmonised",))
Cut = Any


def seasons(first: str, last: str, cut: Cut) -> tuple[Season, ...]:
    return tuple(map(Season.of, periods_of((dt.date.fromisoformat(first), dt.date.fromisoformat(last)), cut)))


def of_composite(first: str = "2020-01-01", last: str = "2020-12-31", cut: Cut = 12) -> Signature:
    periods = seasons(first, last, cut)
    columns = tuple(f"NDVI_{period.label}" for period in periods)
    said = {"composite": "median, gaps none", "periods": periods, "indices": ("NDVI of B08/B04",)}
    return dataclasses.replace(SIGNATURE, columns=columns, **said)


def test_a_signature_survives_json() -> None:
    for signature in (SIGNATURE, dataclasses.replace(SIGNATURE, classes=(1, 7)), of_composite()):
        assert Signature.from_json(json.loads(json.dumps(signature.as_json()))) == signature


def test_a_signature_without_a_composite_is_written_as_it_always_was() -> None:
    """It is part of recipes: another key would make every prediction stale."""
    assert list(SIGNATURE.as_json()) == ["kind", "columns", "factor", "reference", "offset_handling", "classes"]


@pytest.mark.parametrize(
    "broken",
    [
        {},
        [],
        {"kind": "lightgbm_regressor"},
        SIGNATURE.as_json() | {"factor": "ten"},
        SIGNATURE.as_json() | {"columns": 3},
        SIGNATURE.as_json() | {"composite": "median, gaps none"},
        of_composite().as_json() | {"periods": []},
        of_composite().as_json() | {"periods": ["m01"]},
        of_composite().as_json() | {"periods": [{"label": "m01", "start": "02-30", "end": "03-01", "days": 1}]},
    ],
)
def test_what_is_no_signature_is_told(broken: Any) -> None:
    with pytest.raises(ModelError, match="not a model's signature"):
        Signature.from_json(broken)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("kind", "lightgbm_classifier", "kind: the model has 'lightgbm_regressor', the project 'lightgbm_classifier'"),
        ("factor", 1.0, "factor: the model has 0.0001, the project 1.0"),
        ("reference", "BUILT_UP", "reference: the model has 'GHSL', the project 'BUILT_UP'"),
        ("offset_handling", ("s2: as delivered",), "offset_handling"),
        ("columns", (COLUMNS[0], *COLUMNS[:0:-1]), f"column 1: the model has {COLUMNS[1]}, the project {COLUMNS[2]}"),
        ("columns", COLUMNS[:1], f"column 1: the model has {COLUMNS[1]}, the project none"),
        ("columns", (*COLUMNS, "B11_2020-01-01"), "column 3: the model has none, the project B11_2020-01-01"),
        ("columns", (), f"column 0: the model has {COLUMNS[0]}, the project none"),
    ],
)  # fmt: skip
def test_the_difference_of_signatures_is_told(field: str, value: Any, told: str) -> None:
    assert SIGNATURE.difference(SIGNATURE) is None
    assert told in (SIGNATURE.difference(dataclasses.replace(SIGNATURE, **{field: value})) or "")


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (SIGNATURE, "composite: the model has median, gaps none; the project has none, dates as they are"),
        (
            dataclasses.replace(of_composite(), composite="mean, gaps none"),
            "composite: the model has median, gaps none; the project has mean, gaps none",
        ),
        (
            of_composite(cut=6),
            "periods: the model has 12 (p01 (01-01 to 01-31, 30.5 days) to p12 (12-01 to 01-01, 30.5 days)); the "
            "project has 6 (p1 (01-01 to 03-02, 61 days) to p6 (11-01 to 01-01, 61 days))",
        ),
        (
            of_composite("2020-06-01", "2021-05-31"),
            "period 0: the model has p01 (01-01 to 01-31, 30.5 days); the project has p01 (06-01 to 07-01, "
            "30.417 days)",
        ),
        (of_composite("2020-01-01", "2021-12-31"), "period 0: the model has p01 (01-01 to 01-31, 30.5 days)"),
        (
            dataclasses.replace(of_composite(), indices=("NDVI of B04/B08",)),
            "index 0: the model has NDVI of B08/B04, the project NDVI of B04/B08",
        ),
    ],
)  # fmt: skip
def test_the_difference_of_composites_is_told(other: Signature, told: str) -> None:
    assert of_composite().difference(of_composite()) is None
    assert told in (of_composite().difference(other) or "")
    assert other.difference(of_composite()) is not None


@pytest.mark.parametrize(("shift", "fits"), [(1, True), (2, False), (5, False)])
def test_short_periods_have_less_tolerance(shift: int, fits: bool) -> None:
    """Two days are nearly half of five: another season. One is what a leap day moves."""
    first = dt.date(2021, 1, 1) + dt.timedelta(days=shift)
    moved = of_composite(first.isoformat(), (first + dt.timedelta(days=364)).isoformat(), 73)
    assert (of_composite("2021-01-01", "2021-12-31", 73).difference(moved) is None) is fits


@pytest.mark.parametrize(("shift", "fits"), [(2, True), (3, False)])
def test_long_periods_may_lie_two_days_apart(shift: int, fits: bool) -> None:
    first = dt.date(2021, 1, 1) + dt.timedelta(days=shift)
    moved = of_composite(first.isoformat(), (first + dt.timedelta(days=364)).isoformat(), 12)
    assert (of_composite("2021-01-01", "2021-12-31", 12).difference(moved) is None) is fits


@pytest.mark.parametrize(
    ("model", "project", "fits"),
    [
        ("sentinel-2-l1c: the service's default", "sentinel-2-l1c: harmonised", True),
        ("sentinel-2-l2a: the service's default", "sentinel-2-l2a: harmonised", True),
        ("sentinel-2-l2a: harmonised", "sentinel-2-l2a: the service's default", True),
        ("sentinel-2-l1c: the service's default", "sentinel-2-l1c: as delivered", False),
        ("sentinel-2-l1c: the service's default", "sentinel-2-l2a: harmonised", False),
        ("landsat-ot-l2: the service's default", "landsat-ot-l2: harmonised", False),
    ],
)
def test_sentinel2_of_the_services_default_was_harmonised(model: str, project: str, fits: bool) -> None:
    """What models say that were trained before a project had to say whether the offset is taken out."""
    old, new = (dataclasses.replace(SIGNATURE, offset_handling=(said,)) for said in (model, project))
    assert (old.difference(new) is None) is fits


def test_one_period_of_one_year_is_not_one_of_two() -> None:
    year, two = of_composite(cut=1), of_composite("2019-01-01", "2020-12-31", 1)
    assert "period 0: " in (year.difference(two) or "")


@given(
    year=st.integers(1990, 2090),
    later=st.integers(1, 9),
    month=st.integers(1, 12),
    day=st.integers(1, 28),
    length=st.integers(20, 364),
    cut=st.one_of(st.integers(1, 122), st.just("months")),
)
def test_the_same_days_of_another_year_are_the_same_season(
    year: int, later: int, month: int, day: int, length: int, cut: Cut
) -> None:
    """Whatever leap days lie between: at whole years' distance every period fits."""
    first = dt.date(year, month, day)
    last = first + dt.timedelta(days=length)
    if (last.month, last.day) == (2, 29):
        last += dt.timedelta(days=1)
    signatures = [
        of_composite(first.replace(year=year + on).isoformat(), last.replace(year=last.year + on).isoformat(), cut)
        for on in (0, later)
    ]
    assert signatures[0].difference(signatures[1]) is None


@given(shift=st.integers(3, 362), cut=st.integers(1, 36))
def test_periods_of_another_part_of_the_year_are_not(shift: int, cut: int) -> None:
    first = dt.date(2021, 1, 1) + dt.timedelta(days=shift)
    last = first + dt.timedelta(days=364)
    moved = of_composite(first.isoformat(), last.isoformat(), cut)
    assert "period 0: " in (of_composite("2021-01-01", "2021-12-31", cut).difference(moved) or "")


def test_every_field_but_the_classes_counts() -> None:
    # A project can't know its classes before it is trained: they are the model's own.
    others = {
        "kind": "x", "columns": (), "factor": 2.0, "reference": "x", "offset_handling": (), "classes": (1,),
        "composite": "x", "periods": seasons("2020-01-01", "2020-12-31", 2), "indices": (),
    }  # fmt: skip
    assert set(others) == {field.name for field in dataclasses.fields(Signature)}
    base = of_composite()
    changed = {name: dataclasses.replace(base, **{name: value}) for name, value in others.items()}
    assert [name for name, other in changed.items() if base.difference(other) is None] == ["classes"]


def test_first_difference() -> None:
    assert first_difference("abc", "abc") is None
    assert first_difference("abc", "abd") == 2
    assert first_difference("abc", "ab") == 2
    assert first_difference("", "ab") == 0
