"""What every command of `eo-assets` has: where it prints to, PROJECT, and errors told without a stack.

Imports stay inside the commands: `--help` and mistakes answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from eo_assets.errors import EoAssetsError

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)
PROJECT = click.argument("project")


def told(command: Callable[..., Any]) -> Callable[..., Any]:
    """An error of ours is a message for a person, not a stack."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except EoAssetsError as error:
            errors.print(f"[red]error:[/] {escape(str(error))}")
            sys.exit(2)
        except OSError as error:
            from resources.storage_faults import storage_fault

            fault = storage_fault(error, Path(str(error.filename)))
            if fault is None:
                raise
            errors.print(f"[red]error:[/] {escape(str(fault))}")
            sys.exit(2)

    return run
