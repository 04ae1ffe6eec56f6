"""Imports point one way, as docs/architecture says, and a worker imports neither Dagster nor geopandas."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = {
    "dagster",
    "dagster_ray",
    "dagster_aws",
    "ray",
    "boto3",
    "botocore",
    "sentinelhub",
    "requests",
    "httpx",
    "zarr",
}
SHELL = {"dagster", "dagster_ray", "dagster_aws", "ray"}

# What the modules of a room must not import, and names of the room that they may not reach for.
FORBIDDEN = {
    "eo_assets/core": {
        *SERVICES, "os", "subprocess", "socket", "resources", "jobs", "eo_assets.stages", "eo_assets.assets",
        "eo_assets.project", "eo_assets.definitions", "eo_assets.cli", "eo_assets.partitions",
    },
    "eo_assets/stages": {
        *SHELL, "geopandas", "pandas", "eolearn", "boto3", "jobs", "eo_assets.assets", "eo_assets.definitions",
        "eo_assets.cli", "eo_assets.partitions", "resources.io_managers", "resources.ray_cluster",
        "resources.eolearn_bridge",
    },
    "resources": {"jobs", "eo_assets.stages", "eo_assets.assets", "eo_assets.definitions", "eo_assets.cli"},
    "eo_assets/assets": {"jobs", "eo_assets.cli", "eo_assets.definitions"},
    "jobs": {"eo_assets.cli"},
}  # fmt: skip


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, also inside functions; `from a import b` counts as `a` and as `a.b`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_imports_only_what_lies_behind_it(room: str) -> None:
    assert modules(room)
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(room)
        for name in imports(path)
        for banned in FORBIDDEN[room]
        if name == banned or name.startswith(f"{banned}.")
    ]
    assert not found, "\n".join(found)


def test_core_imports_of_this_project_are_core_and_errors_alone() -> None:
    for path in modules("eo_assets/core"):
        ours = {name for name in imports(path) if name.split(".")[0] in ("eo_assets", "resources", "jobs")}
        allowed = ("eo_assets.core", "eo_assets.errors")
        assert all(name.startswith(allowed) for name in ours), f"{path}: {ours}"


def names_eo_learn(path: Path) -> bool:
    """Imported by a statement, or by a dotted name in a string, as importlib wants it."""
    constants = (node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant))
    dotted = (text for text in constants if isinstance(text, str) and text.startswith("eolearn."))
    return any(name.split(".")[0] == "eolearn" for name in (*imports(path), *dotted))


def test_only_one_module_imports_eo_learn() -> None:
    users = [path for room in ("eo_assets", "resources", "jobs") for path in modules(room) if names_eo_learn(path)]
    assert users == [ROOT / "resources/eolearn_bridge.py"]


def test_nothing_reads_the_environment_in_core_or_stages() -> None:
    for room in ("eo_assets/core", "eo_assets/stages"):
        for path in modules(room):
            names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
            assert not names & {"environ", "getenv"}, path


def loaded_after(statement: str) -> set[str]:
    """The top-level packages that are loaded in a fresh process after a statement."""
    code = f"import sys; {statement}; print(' '.join({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_a_worker_loads_neither_dagster_nor_geopandas_nor_lightgbm_with_what_that_brings() -> None:
    loaded = loaded_after("import eo_assets.stages.walk, eo_assets.stages.build")
    assert "rasterio" in loaded
    assert not loaded & {"dagster", "dagster_ray", "geopandas", "eolearn", "ray", "matplotlib", "pyogrio", "s3fs"}
    assert not loaded & {"lightgbm", "sklearn", "scipy", "pandas"}


def test_core_loads_no_service() -> None:
    paths = (path.relative_to(ROOT).with_suffix("") for path in modules("eo_assets/core") if path.stem != "__init__")
    names = ", ".join(".".join(path.parts) for path in paths)
    assert not loaded_after(f"import {names}") & {"dagster", "ray", "sentinelhub", "zarr", "geopandas", "resources"}
