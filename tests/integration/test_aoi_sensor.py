"""Vector files that start by themselves: the sensor look by look over real folders, and its area runs for real."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from eo_assets.assets.area import tiles_of
from eo_assets.assets.imagery import project_ledger
from eo_assets.core.spendings import Spending
from eo_assets.definitions import build_definitions
from eo_assets.project import LoadedProject
from eo_assets.stages.build import tile_store
from jobs.launches import Launcher, Request
from resources.batch_orders import OrderBook
from tests.simulation.world import Simulation, write_simulation

ENABLED = {"area": {"files": "*.geojson"}, "sensor": {"enabled": True, "seconds": 1}}
PAID = {
    "imagery": {"collections": [{"collection": "sentinel-2-l2a", "service": "cdse", "harmonize_values": True}]},
}


@dataclass
class Uploads:
    """A project whose files a person puts into input-data, and the looks of its sensor."""

    simulation: Simulation
    loaded: LoadedProject
    instance: dg.DagsterInstance
    cursor: str | None = None
    events: list[dg.AssetCheckEvaluation] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """Where the files go."""
        return self.simulation.folder / "input-data"

    @property
    def definitions(self) -> dg.Definitions:
        """The project's graph."""
        return build_definitions([self.loaded])

    @property
    def sensor(self) -> dg.SensorDefinition:
        """The sensor of its files."""
        return self.definitions.resolve_sensor_def("simulated_aoi_files")

    def put(self, name: str, columns: slice = slice(None), rows: slice = slice(None)) -> None:
        """An area of some columns and rows of the simulation's tiles."""
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(self.simulation.outline(columns, rows))

    def reopen(self, changes: dict[str, Any]) -> None:
        """Change the project file, as a person does who then reloads the code."""
        self.loaded = self.simulation.open(changes)

    def look(self) -> dg.SensorResult:
        """One tick, its cursor and its evaluations kept as the daemon keeps them."""
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor) as context:
            found = self.sensor(context)
        assert isinstance(found, dg.SensorResult)
        self.cursor = found.cursor
        for event in found.asset_events:
            assert isinstance(event, dg.AssetCheckEvaluation)
            self.events.append(event)
            self.instance.report_runless_asset_event(event)
        return found

    def settle(self) -> dg.SensorResult:
        """Two looks: the second judges what the first has found."""
        assert not self.look().run_requests
        return self.look()

    def area_run(self) -> dg.ExecuteInProcessResult:
        """The run that the sensor asks for."""
        job = self.definitions.resolve_job_def("simulated_area")
        return job.execute_in_process(instance=self.instance, raise_on_error=False)

    def follow(self) -> list[str]:
        """Settle, carry out the run that must have been asked for, and return the registered tiles."""
        requests = self.settle().run_requests or []
        assert len(requests) == 1
        assert self.area_run().success
        return self.tiles()

    def tiles(self) -> list[str]:
        """The registered partitions, in their order."""
        return list(self.instance.get_dynamic_partitions("simulated/tiles"))

    def check(self, asset: str, name: str) -> bool:
        """What the instance knows of a check."""
        key = dg.AssetCheckKey(dg.AssetKey(["simulated", asset]), name)
        record = self.instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
        assert record.evaluation is not None
        return record.evaluation.passed


@pytest.fixture
def uploads(tmp_path: Path) -> Iterator[Uploads]:
    """An empty input-data folder under a lattice of 6 x 6 tiles."""
    simulation = write_simulation(tmp_path / "uploads", 36)
    (simulation.folder / "input-data/aoi.geojson").unlink()
    with dg.DagsterInstance.ephemeral() as instance:
        yield Uploads(simulation, simulation.open(ENABLED), instance)


def told(found: dg.SensorResult) -> str:
    assert isinstance(found.skip_reason, dg.SkipReason)
    return str(found.skip_reason.skip_message)


def test_off_unless_the_project_says_so(uploads: Uploads) -> None:
    assert told(uploads.look()) == "nothing new"
    switched_on = uploads.sensor.default_status
    uploads.reopen({})
    assert (switched_on, uploads.sensor.default_status) == (
        dg.DefaultSensorStatus.RUNNING,
        dg.DefaultSensorStatus.STOPPED,
    )


def test_ten_files_at_once_are_one_run(uploads: Uploads) -> None:
    for index in range(6):
        uploads.put(f"column {index} ä.geojson", slice(index, index + 1), slice(0, 2))
    uploads.put("overlapping.geojson", slice(0, 2), slice(0, 3))
    shutil.copy(uploads.folder / "column 0 ä.geojson", uploads.folder / "duplicate.geojson")
    (uploads.folder / "torn.geojson").write_text('{"type": "Feature", "geom')
    (uploads.folder / "points.geojson").write_text('{"type": "Point", "coordinates": [15, 52]}')
    first = uploads.look()
    assert not first.run_requests and "new or changed, read as soon as nobody writes" in told(first)
    second = uploads.look()
    assert len(second.run_requests or []) == 1
    assert [(event.check_name, event.passed) for event in uploads.events] == [("readable_files", False)]
    assert uploads.area_run().success
    assert uploads.tiles() == [tile.name for tile in tiles_of(tile_store(uploads.loaded))]
    assert uploads.tiles() == sorted(uploads.tiles()) and len(uploads.tiles()) == 12 + 2
    assert not uploads.check("aoi", "readable_files") and uploads.check("tile_grid", "spending_allowed")
    looks = [uploads.look() for _ in range(3)]
    assert "torn.geojson: can't be read" in told(looks[0]) and "points.geojson: it holds no polygons" in told(looks[0])
    assert "torn" not in told(looks[1])
    assert not any(found.run_requests for found in looks)
    assert told(looks[-1]) == "nothing new"
    assert [event.check_name for event in uploads.events] == ["readable_files", "spending_allowed"]  # told once each


def test_an_invalid_file_is_told_once_a_content_and_mended(uploads: Uploads) -> None:
    uploads.put("good.geojson", slice(0, 1))
    uploads.follow()
    bad = uploads.folder / "bad.geojson"
    bad.write_text("{}")
    found = uploads.settle()
    assert not found.run_requests
    assert f"can't be used: {bad}: can't be read as GeoJSON" in told(found)
    assert not uploads.check("aoi", "readable_files")
    assert "bad" not in told(uploads.look())
    bad.write_text("[]")
    assert "can't be used" in told(uploads.settle())
    bad.unlink()
    assert not uploads.look().run_requests
    assert uploads.check("aoi", "readable_files")


def test_a_file_that_is_being_written_waits_and_holds_up_no_other(uploads: Uploads) -> None:
    uploads.put("whole.geojson", slice(0, 1))
    growing = uploads.folder / "growing.geojson"
    growing.write_text('{"type"')
    uploads.look()
    growing.write_text('{"type": "Feature"')
    assert len(uploads.look().run_requests or []) == 1  # for the whole one
    uploads.put("growing.geojson", slice(1, 2))
    uploads.look()
    assert uploads.events == []  # nobody has called it invalid
    uploads.area_run()
    assert len(uploads.tiles()) == 12  # the run reads what lies there


@pytest.mark.parametrize("name", [".hidden.geojson", "a.geojson.part", "notes.txt", ".tmp/a.geojson", "sub/a.geojson"])
def test_what_is_not_meant_is_left_alone(uploads: Uploads, name: str) -> None:
    uploads.put(name)
    assert told(uploads.settle()) == "nothing new"


def test_subfolders_where_the_pattern_says_so(uploads: Uploads) -> None:
    uploads.reopen({**ENABLED, "area": {"files": "**/*.geojson"}})
    uploads.put("north/district one/a.geojson", slice(0, 1))
    uploads.put("north/.cache/a.geojson", slice(1, 2))
    assert len(uploads.follow()) == 6


def test_a_link_that_leaves_the_folder_is_no_upload(uploads: Uploads, tmp_path: Path) -> None:
    uploads.put("a.geojson", slice(0, 1))
    shutil.copy(uploads.folder / "a.geojson", tmp_path / "secret.geojson")
    (uploads.folder / "link.geojson").symlink_to(tmp_path / "secret.geojson")
    (uploads.folder / "dangling.geojson").symlink_to(tmp_path / "nothing.geojson")
    found = uploads.settle()
    assert len(found.run_requests or []) == 1
    assert "link.geojson: it is a link to a file outside of" in str(uploads.events[0].description)


def test_a_linked_folder_leaves_the_folder_too(uploads: Uploads, tmp_path: Path) -> None:
    uploads.reopen({**ENABLED, "area": {"files": "*/*.geojson"}})
    uploads.put("inside/a.geojson", slice(0, 1))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/b.geojson").write_text(uploads.simulation.outline(slice(1, 2)))
    (uploads.folder / "outside").symlink_to(tmp_path / "elsewhere")
    assert len(uploads.follow()) == 6
    assert not uploads.check("aoi", "readable_files")


def test_a_huge_file_holds_up_no_other(uploads: Uploads) -> None:
    uploads.put("a.geojson", slice(0, 1))
    with (uploads.folder / "huge.geojson").open("wb") as file:
        file.truncate(3_000_000_000)  # a hole: it takes no room
    assert len(uploads.settle().run_requests or []) == 1
    assert "huge.geojson: 3.0 GB are too much to start by themselves" in str(uploads.events[0].description)


def test_the_same_content_under_another_name_starts_nothing(uploads: Uploads) -> None:
    uploads.put("a.geojson", slice(0, 1))
    uploads.follow()
    record = tile_store(uploads.loaded).record("aoi", "aoi")
    (uploads.folder / "a.geojson").rename(uploads.folder / "b.geojson")
    found = uploads.settle()
    assert not found.run_requests
    shutil.copy(uploads.folder / "b.geojson", uploads.folder / "c.geojson")
    found = uploads.settle()
    assert not found.run_requests and "c.geojson holds what b.geojson holds" in told(found)
    uploads.area_run()
    assert tile_store(uploads.loaded).record("aoi", "aoi") == record


def test_a_replaced_file_grids_anew_also_back_and_forth(uploads: Uploads) -> None:
    uploads.put("a.geojson", slice(0, 1))
    uploads.put("b.geojson", slice(3, 4))
    assert len(uploads.follow()) == 12
    keys = []
    for columns, expected in ((slice(0, 2), 18), (slice(0, 1), 12), (slice(0, 2), 18)):
        uploads.put("a.geojson", columns)
        requests = uploads.settle().run_requests or []
        keys += [request.run_key for request in requests]
        result = uploads.area_run()
        assert len(uploads.tiles()) == expected
    assert len(set(keys)) == 3  # Dagster starts nothing under a key that it knows
    assert result.success


def test_a_removed_file_is_told_and_its_tiles_leave_with_the_next_area(uploads: Uploads) -> None:
    uploads.put("a.geojson", slice(0, 1))
    uploads.put("b.geojson", slice(0, 3))
    assert len(uploads.follow()) == 18
    (uploads.folder / "b.geojson").unlink()
    found = uploads.look()
    assert not found.run_requests
    assert "b.geojson was removed: nothing is deleted; 12 of 18 tiles leave the grid when the area" in told(found)
    assert told(uploads.look()) == "nothing new" and len(uploads.tiles()) == 18
    uploads.put("c.geojson", slice(5, 6))
    assert len(uploads.follow()) == 12
    log = sorted((uploads.simulation.folder / "logs").glob("*/run.log"), key=lambda path: path.stat().st_mtime)[-1]
    assert "12 tiles, 6 of them new; 12 left the area: what was made of them stays" in log.read_text()
    uploads.put("b.geojson", slice(0, 3))
    assert len(uploads.follow()) == 24


def test_a_file_that_goes_bad_keeps_what_it_held(uploads: Uploads) -> None:
    uploads.put("a.geojson", slice(0, 1))
    uploads.put("b.geojson", slice(5, 6))
    assert len(uploads.follow()) == 12
    (uploads.folder / "b.geojson").write_text("{}")
    found = uploads.settle()
    assert not found.run_requests and not uploads.check("aoi", "readable_files")
    assert "what it held before is used" in str(uploads.events[-1].description)
    uploads.put("c.geojson", slice(2, 3))
    assert len(uploads.follow()) == 18
    assert not uploads.check("aoi", "readable_files")
    uploads.put("b.geojson", slice(4, 5))
    assert len(uploads.follow()) == 18
    assert uploads.check("aoi", "readable_files")


def test_no_file_that_can_be_read_starts_nothing_and_a_run_says_why(uploads: Uploads) -> None:
    (uploads.folder / "a.geojson").write_text("{}")
    assert not uploads.settle().run_requests
    result = uploads.area_run()
    assert not result.success and not uploads.check("aoi", "readable_files")


def test_a_run_that_failed_is_asked_for_once(uploads: Uploads) -> None:
    uploads.put("a.geojson", slice(0, 1))
    assert len(uploads.settle().run_requests or []) == 1
    found = uploads.look()
    assert not found.run_requests and "has not made the area: see its run" in told(found)
    assert uploads.area_run().success
    assert told(uploads.look()).startswith("the services that this project asks cost nothing")
    assert told(uploads.look()) == "nothing new"


def test_what_is_new_waits_for_the_area_run_that_is_under_way(uploads: Uploads) -> None:
    uploads.put("a.geojson", slice(0, 1))
    job = uploads.definitions.resolve_job_def("simulated_area")
    run = uploads.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    found = uploads.settle()
    assert not found.run_requests and "waits until it is done" in told(found)
    uploads.instance.delete_run(run.run_id)
    assert len(uploads.look().run_requests or []) == 1


def test_a_large_file_is_left_to_the_run(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.aoi_sensor.LARGE_BYTES", 100)
    uploads.put("large.geojson", slice(0, 1))
    with (uploads.folder / "large.geojson").open("a") as file:
        file.write("torn")
    (uploads.folder / "small.geojson").write_text("{}")
    assert len(uploads.settle().run_requests or []) == 1
    assert uploads.area_run().success is False


def test_a_cursor_of_something_else_is_no_fault(uploads: Uploads) -> None:
    uploads.put("a.geojson", slice(0, 1))
    uploads.cursor = '{"files": 3}'
    assert len(uploads.follow()) == 6
    uploads.cursor = "reset by hand"
    assert not uploads.settle().run_requests


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_nobody_may_read_blocks_no_other(uploads: Uploads) -> None:
    uploads.put("a.geojson", slice(0, 1))
    uploads.put("b.geojson", slice(1, 2))
    (uploads.folder / "b.geojson").chmod(0)
    assert len(uploads.follow()) == 6


# What starts by itself may spend


def test_against_a_paid_service_an_upload_waits_for_an_approval(uploads: Uploads) -> None:
    uploads.reopen({**ENABLED, **PAID})
    uploads.put("a.geojson", slice(0, 1))
    assert len(uploads.follow()) == 6
    assert tile_store(uploads.loaded).record("cost_estimate", "cost_estimate") is not None
    assert not uploads.check("tile_grid", "spending_allowed")
    found = uploads.look()
    assert "6 tiles wait: they would cost about 100.0 processing units" in told(found)
    assert f"`eo-assets approve {uploads.loaded.file} --units 100`" in told(found)
    assert told(uploads.look()) == "nothing new"
    project_ledger(uploads.loaded).approve(99)
    uploads.look()
    assert not uploads.check("tile_grid", "spending_allowed")
    project_ledger(uploads.loaded).approve(100)
    assert "an approval covers about 100.0 units" in told(uploads.look())
    assert uploads.check("tile_grid", "spending_allowed")


def test_an_allowance_lets_small_uploads_start(uploads: Uploads) -> None:
    uploads.reopen({**ENABLED, **PAID, "sensor": {"enabled": True, "auto_spend_up_to": 100}})
    uploads.put("a.geojson", slice(0, 1))
    uploads.follow()
    assert uploads.check("tile_grid", "spending_allowed")
    uploads.reopen({**ENABLED, **PAID, "sensor": {"enabled": True, "auto_spend_up_to": 99}})
    assert "sensor.auto_spend_up_to is 99" in told(uploads.look())
    assert not uploads.check("tile_grid", "spending_allowed")


def test_a_budget_that_does_not_reach_holds_up_what_costs_nothing_too(uploads: Uploads) -> None:
    uploads.reopen({**ENABLED, "budget": {"max_processing_units": 50}})
    uploads.put("a.geojson", slice(0, 1))
    uploads.follow()
    assert not uploads.check("tile_grid", "spending_allowed")
    assert "budget.max_processing_units: 50" in told(uploads.look())


@pytest.mark.filterwarnings("ignore::dagster_shared.utils.warnings.BetaWarning")  # of the evaluation itself
def test_what_starts_by_itself_asks_the_check(uploads: Uploads) -> None:
    uploads.reopen({**ENABLED, **PAID})
    uploads.put("a.geojson", slice(0, 1))

    def starts() -> int:
        result = dg.evaluate_automation_conditions(uploads.definitions, instance=uploads.instance)
        return result.get_num_requested(dg.AssetKey(["simulated", "tiffs"]))

    assert starts() == 0  # nobody has judged it yet
    uploads.follow()
    assert starts() == 0
    project_ledger(uploads.loaded).approve(100)
    uploads.look()
    assert starts() == 6
    project_ledger(uploads.loaded).reserve(Spending("order", "batch", "cdse", 6, 100, 100), "the order of these tiles")
    uploads.put("b.geojson", slice(1, 6))
    uploads.follow()
    assert starts() == 0  # an approval is not for ever: what was bought since has drawn on it


def test_a_run_by_hand_is_not_stopped_by_the_check(uploads: Uploads) -> None:
    uploads.reopen({**ENABLED, **PAID})
    uploads.put("a.geojson", slice(0, 1))
    results = list(Launcher(uploads.loaded, uploads.definitions, uploads.instance).run(Request(("cost_estimate",))))
    assert [(result.launch.assets, result.success) for result in results] == [
        (("aoi", "tile_grid", "cost_estimate"), True)
    ]
    assert not uploads.check("tile_grid", "spending_allowed")
    assert OrderBook(tile_store(uploads.loaded).store, "tiffs/2020").all() == []


def test_what_each_file_gave_is_kept_as_geojson(uploads: Uploads) -> None:
    uploads.put("b.geojson", slice(0, 1))
    uploads.put("a.geojson", slice(0, 2))
    uploads.follow()
    kept = json.loads((tile_store(uploads.loaded).live("aoi", "aoi") / "sources/files.geojson").read_text())
    assert [feature["properties"]["file"] for feature in kept["features"]] == ["a.geojson", "b.geojson"]
