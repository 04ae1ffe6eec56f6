"""`eo-assets spend`, `approve` and the quote of `run --rebuy`: what is paid for, by whom, and who allowed it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict

from rich.cells import cell_len
from rich.console import Console

from eo_assets.assets.area import project_area, project_grid, tiles_of
from eo_assets.assets.imagery import project_ledger
from eo_assets.assets.machine_spending import machine_ledger
from eo_assets.assets.quotes import Quote, quote
from eo_assets.core.spendings import Month, Spending
from eo_assets.core.tile import Tile
from eo_assets.definitions import open_project
from eo_assets.project import LoadedProject
from eo_assets.stages.build import tile_store, tile_walk
from eo_assets.stages.walk import StageOutcome
from jobs.graph import rebought
from resources.batch_orders import OrderBook

PAID = ("tiffs", "reference")
COLUMNS = ("month", "when", "kind", "job", "user", "tiles", "estimate", "actual", "note")


def print_spendings(name: str, console: Console, *, as_json: bool) -> None:
    """Every job and every run's Process requests, oldest first, with what is left of the month."""
    loaded = open_project(name)
    ledger, machines = project_ledger(loaded), machine_ledger(loaded)
    months, machine_months = ledger.months(), machines.months()
    if as_json:
        said: dict[str, object] = {month: _plain(document.spendings.values()) for month, document in months.items()}
        if machine_months:
            said["machines_usd"] = {month: _plain(one.spendings.values()) for month, one in machine_months.items()}
        print(json.dumps(said, indent=1))
        return
    if not months:
        console.print("nothing was spent or reserved yet")
    for line in _aligned([COLUMNS, *_rows(months)]) if months else ():
        console.print(line, markup=False, emoji=False, soft_wrap=True)
    left = ledger.headroom()
    if left is not None:
        console.print(
            f"{left:,.1f} of {loaded.project.budget.max_processing_units:g} processing units left in {ledger.month()}"
        )
    if machine_months:
        console.print("machines on EC2, US dollars:")
        for line in _aligned([COLUMNS, *_rows(machine_months, decimals=2)]):
            console.print(line, markup=False, emoji=False, soft_wrap=True)
    dollars = machines.headroom()
    if dollars is not None:
        console.print(
            f"${dollars:,.2f} of ${loaded.project.budget.max_machine_usd:g} for machines left in {machines.month()}"
        )


def quote_missing(name: str, console: Console) -> float:
    """What the tiles that are still missing would cost, printed and returned."""
    loaded = open_project(name)
    store = tile_store(loaded)
    if store.record("tile_grid", "tile_grid") is None:
        tiles = project_grid(loaded).tiles(project_area(loaded).geometry)
        return _told(quote(loaded, dict.fromkeys(PAID, tiles)), console)
    states = _paid_states(loaded, tiles_of(store))
    missing = {stage: [tile for tile, state in found if not state.good] for stage, found in states.items()}
    return _told(quote(loaded, missing), console)


def quote_rebuy(name: str, named: Sequence[str], console: Console) -> bool:
    """Print what buying stale tiles again would cost; False if none of those named is stale."""
    loaded = open_project(name)
    tiles = tiles_of(tile_store(loaded))
    chosen = set(rebought(tiles, named))
    states = _paid_states(loaded, [tile for tile in tiles if tile.name in chosen], rebuy=chosen)
    # What is missing was perhaps given up after too many tries: to name it asks for it again. So does naming what was
    # retired and is needed once more.
    stale = {stage: [tile for tile, state in found if not state.good] for stage, found in states.items()}
    if not any(stale.values()):
        console.print(
            "what you name was bought with the settings that it has now, and nothing needs pixels that are gone: "
            "there is nothing to buy again"
        )
        return False
    for stage, members in stale.items():
        if members:
            console.print(f"{stage} of {len(members)} tiles: {', '.join(tile.name for tile in members)}")
    _told(quote(loaded, stale), console)
    return True


def running_jobs(name: str) -> list[str]:
    """The service's ids of the jobs that were started and have not ended, as far as the project knows."""
    store = tile_store(open_project(name))
    return [order.job for order in OrderBook(store.store, store.folder("tiffs")).open() if order.state == "started"]


def approve_units(name: str, units: float, console: Console) -> None:
    """Record an approval with who, when and the figure."""
    ledger = project_ledger(open_project(name))
    made = ledger.approve(units)
    console.print(f"approved: {made.units:,.1f} processing units for {ledger.month()}, by {made.by}, {made.created}")


def _paid_states(
    loaded: LoadedProject, tiles: Sequence[Tile], rebuy: Collection[str] = ()
) -> dict[str, list[tuple[Tile, StageOutcome]]]:
    walk = tile_walk(loaded, rebuy=rebuy)
    stages = [stage for stage in walk.selected(PAID) if stage.paid]
    return {stage.name: [(tile, walk.state(stage, tile)) for tile in tiles] for stage in stages}


def _told(asked: Quote, console: Console) -> float:
    for line in asked.lines:
        least = f", {line.minimum:,.1f} of it to reach the least price of a request" if line.minimum > 0 else ""
        tiles = "1 tile" if line.tiles == 1 else f"{line.tiles} tiles"
        console.print(f"{line.stage}: {tiles}, about {line.units:,.1f} {line.unit} by {line.kind.mode}{least}")
    if not asked.lines:
        console.print("nothing has to be bought")
    return asked.total


def _rows(months: Mapping[str, Month], decimals: int = 1) -> Iterator[tuple[str, ...]]:
    for name, month in months.items():
        for spending in sorted(month.spendings.values(), key=lambda entry: entry.created):
            yield (name, *_cells(spending, decimals))
        for approval in month.approvals:
            told = f"approved, {max(month.left_of(approval), 0.0):,.1f} left"
            yield (
                name,
                approval.created,
                "approval",
                approval.id,
                approval.by,
                "",
                f"{approval.units:,.1f}",
                "",
                told,
            )


def _cells(spending: Spending, decimals: int) -> Iterator[str]:
    yield from (spending.created, spending.kind, spending.job or spending.id, spending.user)
    yield from (str(spending.tiles), f"{spending.estimate:,.{decimals}f}")
    taken = spending.reserved if spending.actual is None else spending.actual
    yield f"{'reserved ' if spending.actual is None else ''}{taken:,.{decimals}f}"
    yield " ".join(spending.note.split())


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows as lines whose columns are as wide as their widest cell. Nothing is cut: ids and reasons are copied."""
    widths = [max(map(cell_len, column)) for column in zip(*rows)]
    for row in rows:
        padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths))
        yield "  ".join(padded).rstrip()


def _plain(spendings: Iterable[Spending]) -> list[dict[str, object]]:
    return [asdict(spending) for spending in sorted(spendings, key=lambda entry: entry.created)]
