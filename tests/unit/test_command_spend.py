"""`eo-assets spend` and `approve` as a person types them; no service, no network."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner, Result

from eo_assets.assets.imagery import APPROVAL_TAG, approve_by_tag, project_ledger
from eo_assets.cli import main
from eo_assets.core.spendings import Spending
from eo_assets.definitions import open_project
from resources.signed_in import SIGNED_IN_TAG
from resources.spending import Ledger, current_user

LONG = "c2f1e0a4-0c1b-4d0b-9f3e-" + "a" * 60


@pytest.fixture(autouse=True)
def narrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 40 columns, in an empty working folder."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.chdir(tmp_path)


def eo_assets(*words: str) -> Result:
    return CliRunner().invoke(main, list(words), catch_exceptions=False)


def ledger_of(name: str = "west_africa") -> Ledger:
    return project_ledger(open_project(name))


def spent(ledger: Ledger) -> None:
    """One settled batch request with a long id and a long reason, one reservation that is open."""
    ledger.reserve(Spending("order-1", "batch", "sentinel_hub", 12, 120, 120, user="jane [red]"), "imagery")
    ledger.note_job("order-1", LONG)
    ledger.settle("order-1", 1234.56, "STOPPED: " + "the budget, " * 20 + "\n:smile: end")
    ledger.reserve(Spending("process-7", "process", "creodias", 3, 2.5, 2.5, user="joe"), "labels")


def test_nothing_spent() -> None:
    told = eo_assets("spend", "west_africa")
    assert (told.exit_code, told.output) == (0, "nothing was spent or reserved yet\n")
    assert json.loads(eo_assets("spend", "west_africa", "--json").output) == {}


def test_what_is_spent_is_a_line_each_and_nothing_is_cut() -> None:
    ledger = ledger_of()
    spent(ledger)
    approved = ledger.approve(5000, "ann")
    lines = eo_assets("spend", "west_africa").output.splitlines()
    assert len(lines) == 4
    header, batch, process, approval = lines
    assert header.split() == ["month", "when", "kind", "job", "user", "tiles", "estimate", "actual", "note"]
    assert LONG in batch and batch.endswith("the budget, :smile: end") and "…" not in batch
    cells = [re.split(r"\s{2,}", line) for line in lines]
    month = ledger.month()
    assert cells[1][:1] + cells[1][2:8] == [month, "batch", LONG, "jane [red]", "12", "120.0", "1,234.6"]
    assert cells[2][:1] + cells[2][2:] == [month, "process", "process-7", "joe", "3", "2.5", "reserved 2.5"]
    assert cells[3][2:] == ["approval", approved.id, "ann (unauthenticated)", "5,000.0", "approved, 5,000.0 left"]
    for column in ("user", "estimate", "note"):
        start = header.index(column)
        assert all(line[start - 1] == " " for line in (batch, process, approval) if len(line) >= start)


def test_what_is_left_of_the_month() -> None:
    ledger = ledger_of("demo")
    ledger.reserve(Spending("order-1", "batch", "local", 4, 100, 100), "imagery")
    told = eo_assets("spend", "demo").output
    assert told.splitlines()[-1] == f"400.0 of 500 processing units left in {ledger.month()}"


def test_spend_as_json() -> None:
    ledger = ledger_of()
    spent(ledger)
    told = json.loads(eo_assets("spend", "west_africa", "--json").output)
    first, second = told[ledger.month()]
    assert (first["job"], first["actual"], first["estimate"], first["user"]) == (LONG, 1234.56, 120, "jane [red]")
    assert (second["id"], second["actual"], second["reserved"], second["service"]) == (
        "process-7",
        None,
        2.5,
        "creodias",
    )


def test_a_torn_document_is_a_message() -> None:
    ledger = ledger_of()
    ledger.approve(1)
    path = Path("west-africa") / f"{ledger.folder}/{ledger.month()}.json"
    path.write_text("{torn")
    told = eo_assets("spend", "west_africa")
    assert told.exit_code == 2
    assert f"{path}: not a record of spending" in told.stderr


def test_approve_a_figure() -> None:
    told = eo_assets("approve", "west_africa", "--units", "50", "--yes")
    ledger = ledger_of()
    (made,) = ledger.months()[ledger.month()].approvals
    assert (made.units, made.user) == (50, current_user())
    assert dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(made.created) < dt.timedelta(minutes=5)
    assert told.output == (
        f"approved: 50.0 processing units for {ledger.month()}, by {made.user} (unauthenticated), {made.created}\n"
    )


def test_approve_asks_first() -> None:
    refused = CliRunner().invoke(main, ["approve", "west_africa", "--units", "50"], input="n\n")
    assert "approve 50.0 processing units? [y/N]: n" in refused.output
    assert refused.output.endswith("nothing is approved\n")
    assert ledger_of().months() == {}
    CliRunner().invoke(main, ["approve", "west_africa", "--units", "50"], input="y\n")
    assert len(ledger_of().months()) == 1


def test_approve_without_a_tile_grid_takes_what_the_whole_area_costs() -> None:
    told = eo_assets("approve", "west_africa", "--yes")
    lines = told.output.splitlines()
    assert lines[:2] == [
        "tiffs: 667 tiles, about 32,165.0 PU of sentinel_hub by batch",
        "reference: 667 tiles, about 618.6 PU of creodias by process",
    ]
    assert lines[2].startswith("approved: 32,783.6 processing units for ")
    ledger = ledger_of()
    (made,) = ledger.months()[ledger.month()].approvals
    assert made.units == pytest.approx(32_783.57, abs=0.01)


@pytest.mark.parametrize("units", ["0", "-3", "nan", "inf", "many"])
def test_approve_takes_figures_above_zero_only(units: str) -> None:
    told = eo_assets("approve", "west_africa", "--units", units, "--yes")
    assert told.exit_code == 2 or told.output == "nothing is approved\n"
    assert ledger_of().months() == {}


# The run tag


def run(figure: str | None, run_id: str = "1", root: str | None = None) -> dg.DagsterRun:
    tags = {"user": "jane"} if figure is None else {"user": "jane", APPROVAL_TAG: figure}
    return dg.DagsterRun("job", run_id, root_run_id=root, parent_run_id=root, tags=tags)


def test_a_run_without_the_tag_approves_nothing() -> None:
    approve_by_tag(ledger_of(), run(None), dg.DagsterInstance.ephemeral())
    assert ledger_of().months() == {}


def test_a_run_that_is_tried_again_approves_once() -> None:
    ledger = ledger_of()
    instance = dg.DagsterInstance.ephemeral()
    for each in (run("120"), run("120"), run("120", "2", root="1"), run("70", "3")):
        approve_by_tag(ledger, each, instance)
    approvals = ledger.months()[ledger.month()].approvals
    assert [(each.id, each.user, each.units) for each in approvals] == [("run-1", "jane", 120), ("run-3", "jane", 70)]


def test_an_approval_is_recorded_with_who_was_signed_in() -> None:
    ledger = ledger_of()
    signed = {"run_coordinator": {"module": "resources.signed_in", "class": "SignedInRunCoordinator"}}
    with dg.instance_for_test(overrides=signed) as instance:
        approve_by_tag(ledger, run("120").with_tags({APPROVAL_TAG: "120", SIGNED_IN_TAG: "ann@example.com"}), instance)
        approve_by_tag(ledger, run("70", "2"), instance)
    approvals = ledger.months()[ledger.month()].approvals
    assert [each.signed_in for each in approvals] == ["ann@example.com", "unauthenticated"]
    assert "ann@example.com" in eo_assets("spend", "west_africa").output


def test_a_tag_that_anybody_may_have_set_is_no_sign_in() -> None:
    ledger = ledger_of()
    claims = run("120").with_tags({APPROVAL_TAG: "120", SIGNED_IN_TAG: "ann@example.com"})
    approve_by_tag(ledger, claims, dg.DagsterInstance.ephemeral())
    (made,) = ledger.months()[ledger.month()].approvals
    assert made.signed_in == "unauthenticated"


@pytest.mark.parametrize("figure", ["", "much", "nan", "-1", "inf", "0"])
def test_a_tag_that_is_no_figure_ends_the_run(figure: str) -> None:
    with pytest.raises(dg.Failure) as raised:
        approve_by_tag(ledger_of(), run(figure), dg.DagsterInstance.ephemeral())
    expected = f"run tag eo-assets/approve: {figure!r} is no number of processing units above zero"
    assert (raised.value.description, raised.value.allow_retries) == (expected, False)
    assert ledger_of().months() == {}
