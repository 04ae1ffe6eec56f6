"""COGs: valid by rio-cogeo's judgement, exact, and never half written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rio_cogeo import cog_validate

from eo_assets.core.mosaic import Lattice
from eo_assets.core.tile import Bounds
from eo_assets.errors import StoreError
from resources.cog import CogOptions, write_cog


def lattice_of_size(height: int, width: int, epsg: int = 32633) -> Lattice:
    return Lattice(epsg, 10.0, Bounds(330_000, 5_822_040 - 10 * height, 330_000 + 10 * width, 5_822_040))


def blocks_of(values: np.ndarray, height: int = 512):
    lattice = lattice_of_size(*values.shape)
    return lattice, ((rows, values[rows]) for rows in lattice.row_blocks(height))


@pytest.mark.parametrize("blocksize", [256, 512, 1024])
@pytest.mark.parametrize("shape", [(1, 1), (512, 512), (513, 513), (513, 3), (40, 1025), (1537, 800)])
def test_any_size_is_a_valid_cog_without_warnings(tmp_path: Path, shape: tuple[int, int], blocksize: int) -> None:
    values = np.random.default_rng(0).integers(0, 100, shape).astype(np.uint8)
    lattice, blocks = blocks_of(values)
    target = tmp_path / "maps" / "utm32633_result.tiff"
    write_cog(target, lattice, "uint8", 255, blocks, options=CogOptions(blocksize=blocksize))
    assert cog_validate(target, strict=True, quiet=True) == (True, [], [])
    with rasterio.open(target) as source:
        np.testing.assert_array_equal(source.read(1), values)
        assert (source.crs.to_epsg(), source.transform, source.nodata) == (32633, lattice.transform, 255)
        assert bool(source.overviews(1)) == (max(shape) > min(512, blocksize))
    assert [path.name for path in target.parent.iterdir()] == [target.name], "no scratch file is left"


@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", 0), ("int16", -1), ("float32", np.nan), ("float64", -9999)])
@pytest.mark.parametrize("compress", ["deflate", "zstd", "lzw", "none"])
def test_every_type_and_compression(tmp_path: Path, dtype: str, nodata: float, compress: str) -> None:
    values = np.arange(600 * 20).reshape(600, 20).astype(dtype)
    values[:10] = nodata
    lattice, blocks = blocks_of(values, height=100)
    options = CogOptions(compress=compress, predictor=compress in {"deflate", "lzw", "zstd"})
    write_cog(tmp_path / "a.tif", lattice, dtype, nodata, blocks, options=options)
    with rasterio.open(tmp_path / "a.tif") as source:
        np.testing.assert_array_equal(source.read(1), values)
        assert source.dtypes == (dtype,)
        assert source.nodata == nodata or (np.isnan(nodata) and np.isnan(source.nodata))
    assert cog_validate(tmp_path / "a.tif", strict=True, quiet=True)[0]


def test_tags_description_and_summary(tmp_path: Path) -> None:
    values = np.array([[1, 2, 255], [3, 255, 4]], np.uint8)
    lattice, blocks = blocks_of(values)
    tags = {"SOURCES": "Copernicus Sentinel data 2017", "RECIPE": "abc"}
    summary = write_cog(tmp_path / "a.tif", lattice, "uint8", 255, blocks, tags=tags, description="built-up share (%)")
    with rasterio.open(tmp_path / "a.tif") as source:
        assert tags.items() <= source.tags().items()
        assert source.descriptions == ("built-up share (%)",)
    assert (summary.pixels, summary.valid_pixels, summary.minimum, summary.maximum, summary.mean) == (6, 4, 1, 4, 2.5)
    assert summary.valid_share == pytest.approx(4 / 6)
    assert summary.bytes == (tmp_path / "a.tif").stat().st_size


def test_a_map_without_a_valid_pixel_has_no_statistics(tmp_path: Path) -> None:
    lattice, blocks = blocks_of(np.full((5, 5), np.nan, np.float32))
    summary = write_cog(tmp_path / "a.tif", lattice, "float32", np.nan, blocks)
    assert (summary.valid_share, summary.minimum, summary.maximum, summary.mean) == (0.0, None, None, None)


@pytest.mark.parametrize(
    ("spans", "dtype", "words"),
    [
        ([(0, 4)], "uint8", "rows 4 to 8 of the map were not given"),
        ([(0, 4), (5, 8)], "uint8", "from row 4 on"),
        ([(4, 8), (0, 4)], "uint8", "from row 0 on"),
        ([(0, 8)], "int16", "int16"),
    ],
)
def test_blocks_with_gaps_leave_the_old_map_alone(tmp_path: Path, spans, dtype: str, words: str) -> None:
    target = tmp_path / "a.tif"
    target.write_bytes(b"the old map")
    blocks = [(slice(*span), np.zeros((span[1] - span[0], 6), dtype)) for span in spans]
    with pytest.raises(StoreError, match=words):
        write_cog(target, lattice_of_size(8, 6), "uint8", 255, blocks)
    assert target.read_bytes() == b"the old map"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failing_source_leaves_nothing(tmp_path: Path) -> None:
    def blocks():
        yield slice(0, 4), np.zeros((4, 6), np.uint8)
        raise RuntimeError("tile 33UUU_3_7 can't be read")

    with pytest.raises(RuntimeError, match="33UUU_3_7"):
        write_cog(tmp_path / "a.tif", lattice_of_size(8, 6), "uint8", 255, blocks())
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_leaves_no_file_under_the_final_name(tmp_path: Path) -> None:
    """SIGKILL in the middle of the rows: what remains is hidden, and the next writer is not disturbed by it."""
    program = f"""
        import sys, time
        from pathlib import Path
        import numpy as np
        from eo_assets.core.mosaic import Lattice
        from eo_assets.core.tile import Bounds
        from resources.cog import write_cog

        def blocks():
            yield slice(0, 512), np.zeros((512, 600), np.uint8)
            print("half", flush=True)
            sys.stdin.read()

        lattice = Lattice(32633, 10, Bounds(0, 0, 6000, 10240))
        write_cog(Path({str(tmp_path / "a.tif")!r}), lattice, "uint8", 255, blocks())
    """
    root = Path(__file__).parents[3]
    writer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "half\n"
        os.kill(writer.pid, signal.SIGKILL)
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    lattice, blocks = blocks_of(np.ones((600, 600), np.uint8))
    write_cog(tmp_path / "a.tif", lattice, "uint8", 255, blocks)
    assert cog_validate(tmp_path / "a.tif", strict=True, quiet=True)[0]
