"""What a person sees in a terminal while a project runs, and what a log sees instead."""

from __future__ import annotations

import time
from collections import Counter

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from eo_assets.assets.progress import counted
from eo_assets.stages.walk import StageOutcome

QUIET_SECONDS = 5.0


class TerminalProgress:
    """A bar in a terminal; in a log, a line every quarter of a minute."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._task, self._told, self._total = None, 0.0, 0
        self._counts: Counter[str] = Counter()
        self.failures: list[StageOutcome] = []

    def started(self, title: str, tiles: int, stages: int) -> None:
        """A run over tiles begins."""
        self._counts, self._total, self._told = Counter(), tiles * stages, time.monotonic()
        if self._console.is_terminal:
            columns = (TextColumn("  {task.description}"), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task(f"{tiles} tiles", total=self._total)

    def advanced(self, outcome: StageOutcome | None) -> None:
        """One stage of one tile has come to its end, or time has passed."""
        if outcome is not None:
            self._counts[outcome.status] += 1
            if outcome.status == "failed":
                self.failures.append(outcome)
                self._console.print(
                    f"  [red]failed[/] {outcome.stage} of {outcome.tile}: {outcome.reason}", highlight=False
                )
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._counts.total(), description=counted(self._counts))
        elif time.monotonic() - self._told > QUIET_SECONDS:
            self._told = time.monotonic()
            self._console.print(f"  {self._counts.total()} of {self._total}: {counted(self._counts)}", highlight=False)

    def finished(self) -> None:
        """The run over tiles is at its end."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        self._console.print(f"  {counted(self._counts)}", highlight=False)
        if self._counts["kept"]:
            self._console.print(
                f"  [yellow]{self._counts['kept']} outputs are used although their settings changed since they were "
                "bought[/]; --rebuy TILE buys them again",
                highlight=False,
            )
