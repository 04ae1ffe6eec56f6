"""Compiled loops: the same as the Python they are made of, also where no cache can be kept."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba.core import caching

from eo_assets.core import compiled, composite_loops
from eo_assets.core.compiled import run_compiled

ROOT = Path(__file__).parents[3]


def double(numbers: np.ndarray) -> None:
    """A loop to compile."""
    for place in range(len(numbers)):
        numbers[place] *= 2


def divide(numbers: np.ndarray, by: int) -> None:
    """A loop that fails where `by` is 0."""
    numbers[0] = 1 // by


@pytest.fixture(autouse=True)
def _forget_what_is_compiled() -> None:
    compiled._kept.cache_clear()
    compiled._compiled.cache_clear()


def doubled() -> list[int]:
    numbers = np.arange(3)
    run_compiled(double, numbers)
    return [int(number) for number in numbers]


def test_without_a_folder_for_the_cache_loops_run_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    with pytest.raises(RuntimeError, match="no locator available"):
        numba.njit(cache=True)(double)
    assert doubled() == [0, 2, 4]


def test_on_a_full_disk_loops_run_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(caching.FunctionCache, "save_overload", full)
    assert doubled() == [0, 2, 4]


@pytest.mark.parametrize("damage", [b"", b"garbage", None], ids=["empty", "garbage", "truncated"])
@pytest.mark.parametrize("files", ["*.nbi", "*.nbc"])
def test_with_a_damaged_cache_loops_run_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: str, damage: bytes | None
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    assert doubled() == [0, 2, 4]
    [kept] = tmp_path.rglob(files)
    kept.write_bytes(kept.read_bytes()[:-30] if damage is None else damage)
    compiled._kept.cache_clear()
    assert doubled() == [0, 2, 4]


def test_an_error_of_the_loop_itself_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        run_compiled(divide, np.ones(3), 0)


def test_loops_do_as_machine_code_what_they_do_as_python() -> None:
    rng = np.random.default_rng(3)
    numbers, clear = rng.integers(0, 9, (6, 2, 3, 3)).astype(np.uint16), rng.random((6, 2, 3)) < 0.6
    frames = np.arange(6)
    for loop, more in ((composite_loops.median, ()), (composite_loops.mean, ()), (composite_loops.max_index, (0, 2))):
        results = []
        for run in (loop, lambda *arguments, loop=loop: run_compiled(loop, *arguments)):
            values, counts = np.empty((2, 3, 3), np.float32), np.empty((2, 3), np.uint16)
            run(numbers, clear, frames, values, counts, *more)
            results.append((values, counts))
        np.testing.assert_array_equal(results[0][0], results[1][0])
        np.testing.assert_array_equal(results[0][1], results[1][1])


def test_numba_is_not_loaded_before_the_first_loop_runs() -> None:
    code = "import sys, eo_assets.core.composite, eo_assets.core.gaps; print({'numba', 'geomad'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "set()"
