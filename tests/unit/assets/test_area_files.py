"""Several files make an area; those that can't be read are told and hold up no other."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
import shapely
from rich.console import Console

from eo_assets.assets.area import make_aoi
from eo_assets.assets.area_files import find_area, listed_files
from eo_assets.command_plan import make_plan, print_plan
from eo_assets.errors import AreaError
from eo_assets.project import LoadedProject
from eo_assets.stages.build import tile_store
from resources.vector_files import content_of
from tests.simulation.world import Simulation, write_simulation


@pytest.fixture
def simulation(tmp_path: Path) -> Simulation:
    made = write_simulation(tmp_path / "areas", 4)
    (made.folder / "input-data/aoi.geojson").unlink()
    return made


@pytest.fixture
def loaded(simulation: Simulation) -> LoadedProject:
    return simulation.open({"area": {"files": "*.geojson"}})


def put(simulation: Simulation, name: str, columns: slice) -> Path:
    path = simulation.folder / "input-data" / name
    path.write_text(simulation.outline(columns))
    return path


def test_the_area_depends_on_contents_alone(simulation: Simulation, loaded: LoadedProject) -> None:
    first, second = put(simulation, "a.geojson", slice(0, 1)), put(simulation, "b.geojson", slice(1, 2))
    before = find_area(loaded)
    record = make_aoi(loaded, tile_store(loaded))
    first.rename(first.with_name("z z ö.geojson"))
    (simulation.folder / "input-data/copy.geojson").write_bytes(second.read_bytes())
    after = find_area(loaded)
    assert (after.area.digest, after.area.geometry.wkb) == (before.area.digest, before.area.geometry.wkb)
    assert sorted(after.files) == ["b.geojson", "copy.geojson", "z z ö.geojson"]
    assert make_aoi(loaded, tile_store(loaded)) == record


def test_what_a_file_held_before_is_used_when_it_goes_bad(simulation: Simulation, loaded: LoadedProject) -> None:
    put(simulation, "a.geojson", slice(0, 1))
    second = put(simulation, "b.geojson", slice(1, 2))
    before = find_area(loaded)
    make_aoi(loaded, tile_store(loaded))
    second.write_text("{}")
    (simulation.folder / "input-data/new.geojson").write_text("{}")
    found = find_area(loaded)
    assert found.area.digest == before.area.digest
    assert shapely.equals(found.area.geometry, before.area.geometry)
    assert [(problem.name, problem.kept) for problem in found.unreadable] == [
        ("b.geojson", True),
        ("new.geojson", False),
    ]
    assert str(found.unreadable[0]).endswith("(what it held before is used)")


def test_no_file_that_can_be_read_is_an_error_that_names_them_all(
    simulation: Simulation, loaded: LoadedProject
) -> None:
    with pytest.raises(AreaError, match=r"area.files: \*.geojson: no file in .* matches"):
        find_area(loaded)
    for name in ("a.geojson", "b.geojson"):
        (simulation.folder / "input-data" / name).write_text("{}")
    with pytest.raises(AreaError, match=r"a\.geojson: can't be read.*b\.geojson: can't be read"):
        find_area(loaded)


def test_a_plan_tells_what_it_leaves_out(simulation: Simulation) -> None:
    loaded = simulation.open({"area": {"files": "*.geojson"}})
    put(simulation, "a.geojson", slice(0, 1))
    (simulation.folder / "input-data/[bad] one.geojson").write_text("{}")
    plan, said = make_plan(str(loaded.file), None), io.StringIO()
    print_plan(plan, Console(file=said, width=400), names=False)
    assert "[bad] one.geojson: can't be read as GeoJSON" in said.getvalue()
    assert list(plan.as_json(names=False)["unreadable_files"]) == ["[bad] one.geojson"]
    assert len(plan.tiles) == 2


def test_a_listing_tells_a_change_of_any_part_of_a_shapefile(simulation: Simulation) -> None:
    loaded = simulation.open({"area": {"files": "*"}})
    shape = simulation.folder / "input-data/a.shp"
    for suffix in (".shp", ".shx", ".prj", ".dbf"):
        shape.with_suffix(suffix).write_text(suffix)
    before, content = {file.name: file.version for file in listed_files(loaded)}, content_of(shape)
    shape.with_suffix(".prj").write_text("another")
    os.utime(shape.with_suffix(".dbf"), (0, 0))  # a table of names, of which the area knows nothing
    after = {file.name: file.version for file in listed_files(loaded)}
    assert set(before) == {"a.shp", "cover.tif"}
    assert [name for name in before if before[name] != after[name]] == ["a.shp"]
    assert content_of(shape) != content
