"""Environments of their own for what is compared with: never mixed with this project's."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PINS = {"eogrow": HERE / "eogrow_requirements.txt", "plain": HERE / "plain_requirements.txt"}
GDAL_PROGRAMS = ("gdalwarp", "gdal_translate")


def interpreter(name: str, build: Path) -> Path:
    """The Python of an environment with exactly the packages of its pins, made by pip if it is not there."""
    pins = PINS[name]
    folder = build / f"{name}-{hashlib.sha256(pins.read_bytes()).hexdigest()[:8]}"
    python, done = folder / "bin/python", folder / "complete"
    if not done.exists():
        print(f"installing {name} into {folder}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--requirement", pins]
        subprocess.run(install, check=True)
        done.touch()
    return python


def missing_programs() -> list[str]:
    """What eo-grow's export runs and this machine does not have: it comes with Debian's gdal-bin."""
    return [program for program in GDAL_PROGRAMS if shutil.which(program) is None]
