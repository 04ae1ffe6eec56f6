"""The signature that a project calls for: with a composite, columns and periods are known before any imagery."""

import importlib.resources
from typing import Any

import pytest
import yaml

from eo_assets.core.signature import Season
from eo_assets.project import Project
from eo_assets.project_periods import project_periods
from eo_assets.stages.signature import composite_handling, expected_columns, expected_signature

DEMO = yaml.safe_load((importlib.resources.files("eo_assets") / "projects/demo/project.yaml").read_text())


def project(composite: Any, **imagery: Any) -> Project:
    features = DEMO["features"] | {"composite": composite, "include_bands": ["B04"]}
    return Project.model_validate(DEMO | {"features": features, "imagery": DEMO["imagery"] | imagery})


def test_without_a_composite_nothing_is_known_of_dates_and_the_signature_is_as_it_always_was() -> None:
    dates = project("none")
    assert project_periods(dates) == () == expected_columns(dates)
    assert list(expected_signature(dates).as_json()) == [
        "kind", "columns", "factor", "reference", "offset_handling", "classes",
    ]  # fmt: skip


def test_with_a_composite_the_columns_are_known() -> None:
    signature = expected_signature(project({"method": "median", "periods": "months"}))
    assert signature.columns == ("NDVI_m02", "NDWI_m02", "NDBI_m02", "B04_m02")
    assert signature.periods == (Season("m02", "02-01", "03-01", 28.0),)
    assert signature.indices == ("NDVI of B08/B04", "NDWI of B03/B08", "NDBI of B11/B08")
    assert expected_signature(project({"method": "median", "periods": "months"}), ("A",), (1,)).columns == ("A",)


def test_next_year_calls_for_the_same() -> None:
    composite = {"method": "median", "periods": 9}
    year, leap_year = (
        expected_signature(project(composite, time_interval=[f"{year}-01-01", f"{year}-12-31"]))
        for year in (2019, 2020)
    )
    assert year != leap_year and year.difference(leap_year) is None


@pytest.mark.parametrize(
    ("composite", "told"),
    [
        ({"method": "median"}, "median, gaps none"),
        ({"method": "mean", "gaps": {"method": "linear", "max_days": 60}}, "mean, gaps linear over at most 60 days"),
        ({"method": "geomedian", "gaps": {"method": "nearest"}}, "geomedian, gaps nearest"),
        ({"method": "median", "gaps": {"max_days": 60}}, "median, gaps none"),
        ({"method": "max_index", "index": "NDVI"}, "max_index of B08/B04, gaps none"),
        ({"method": "max_index", "index": ["B8A", "B04"]}, "max_index of B8A/B04, gaps none"),
    ],
)
def test_a_composite_in_words(composite: dict[str, Any], told: str) -> None:
    assert composite_handling(project({"periods": 2, **composite})) == told
