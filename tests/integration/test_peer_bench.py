"""`make bench` of our side alone, as small as it gets: so that it does not rot between the days that it is run."""

from pathlib import Path

from tests.benchmarks.peer.bench import Bench, Peers
from tests.benchmarks.peer.runs import EVERYTHING, our_everything
from tests.benchmarks.peer.scene import Scene
from tests.benchmarks.peer.table import figures, markdown


def test_our_side_is_measured_from_tiffs_to_maps(tmp_path: Path) -> None:
    scene = Scene(tiles=1, dates=2, cell_px=80, buffer_px=8)
    parameters = {"n_estimators": 3, "num_leaves": 7, "n_jobs": 1, "seed": 42}
    bench = Bench(scene, tmp_path, parameters, 300, Peers())
    rows = our_everything(bench.ours, bench.conditions)
    assert bench.ours.published(32631).is_file()
    said = {"command": "bench", "rounds": 1, "trees": 3, "leaves": 7, "in_bucket": False}
    found = figures(scene, rows, [], said)
    usage = found["stages"][EVERYTHING]["ours"]
    assert usage["cpu_s"] > 1
    assert usage["worker_mb"] > 100
    assert usage["tree_mb"] > usage["worker_mb"] / 2
    assert usage["written_mb"] > 0
    assert EVERYTHING in markdown(found)
