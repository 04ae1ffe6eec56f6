"""What a person sees in a terminal while a project runs, and what a log sees instead."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from eo_assets.assets.progress import Pace, counted
from eo_assets.stages.walk import StageOutcome

QUIET_SECONDS = 5.0


class TerminalProgress:
    """A bar in a terminal; in a log, a line every quarter of a minute."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._task, self._told = None, 0.0
        self._pace = Pace(0, 1)
        self.failures: list[StageOutcome] = []

    def started(self, title: str, tiles: int, stages: int) -> None:
        """A run over tiles begins."""
        self._pace, self._told = Pace(tiles, stages), time.monotonic()
        if self._console.is_terminal:
            columns = (BarColumn(24), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task("tiles", total=tiles)

    def advanced(self, outcome: StageOutcome | None) -> None:
        """One stage of one tile has come to its end, or time has passed."""
        if outcome is not None:
            self._pace.add(outcome)
            if outcome.status == "failed":
                self.failures.append(outcome)
                self._console.print(
                    f"  [red]failed[/] {outcome.stage} of {outcome.tile}: {outcome.reason}", highlight=False
                )
        if self._bar is not None and self._task is not None:
            pace = self._pace.pace() or counted(self._pace.counts)
            self._bar.update(self._task, completed=self._pace.through, description=f"tiles, {pace}")
        elif time.monotonic() - self._told > QUIET_SECONDS:
            self._told = time.monotonic()
            self._console.print(f"  {self._pace}", highlight=False)

    def finished(self) -> None:
        """The run over tiles is at its end."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        self._console.print(f"  {counted(self._pace.counts)}", highlight=False)
        if kept := self._pace.counts["kept"]:
            self._console.print(
                f"  [yellow]{kept} outputs are used although their settings changed since they were "
                "bought[/]; --rebuy TILE buys them again",
                highlight=False,
            )
