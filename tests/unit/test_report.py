"""The report: one file, everything escaped, nothing loaded, no secrets."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path

import pytest

from eo_assets.report import (
    MAX_FAILURES,
    Failure,
    Metric,
    MetricTable,
    Picture,
    RunReport,
    Source,
    StageRow,
    duration,
    mask_secrets,
    render_report,
    score,
    size,
    utc,
    write_report,
)

STARTED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NASTY = "<script>alert('x')</script>&\"'"


class Page(HTMLParser):
    """Tags with their attributes, and the text a person reads."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"{tag} is closed out of order"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def report(**changes) -> RunReport:
    values = {
        "project": "demo",
        "run_id": "2f1c9a3e",
        "started": STARTED,
        "ended": STARTED + timedelta(minutes=3, seconds=12),
        "config": "name: demo",
    }
    return RunReport(**(values | changes))


def full(word: str) -> RunReport:
    """A report whose every text is `word`."""
    return report(
        project=word,
        run_id=word,
        config=word,
        stages=(StageRow(word, done=3, failed=1, seconds=1.5, bytes=1234),),
        failures=(Failure(word, word, word),),
        metrics=(MetricTable(word, (Metric(word, 0.4, 0.7, None),), word),),
        importances={word: 1.0},
        pictures=(Picture(word, b"\x89PNG", word),),
        series=(Picture(word, b"\x89PNG", word),),
        versions={word: word},
        sources=(Source(word, word, word),),
        paths={word: word},
        notes=(word,),
    )


def test_everything_is_shown_and_escaped() -> None:
    html = render_report(full(NASTY))
    page = Page(html)
    assert "<script" not in html
    assert page.open == [], "every tag is closed"
    assert page.text.count(NASTY) == 25, "each field once, the project and the run in the title too"


def test_nothing_is_loaded_and_nothing_runs() -> None:
    page = Page(render_report(full("x")))
    loading = {"script", "link", "iframe", "object", "embed", "base", "form", "a"}
    assert not [tag for tag, _ in page.tags if tag in loading]
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert sources == 2 * ["data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()]
    policies = [attributes["content"] for _, attributes in page.tags if attributes.get("http-equiv")]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_an_empty_run_is_a_whole_page() -> None:
    page = Page(render_report(report()))
    assert page.open == []
    assert "Nothing failed." in page.text
    assert "2026-03-01 12:00:00 UTC to 2026-03-01 12:03:12 UTC · 3 min 12 s" in page.text


def test_the_verdict() -> None:
    idle = Page(render_report(report(stages=(StageRow("tiffs", up_to_date=4),)))).text
    assert "Nothing failed; everything was up to date." in idle
    failed = Page(render_report(report(stages=(StageRow("tiffs", failed=2),)))).text
    assert "2 failures. Everything else is committed" in failed


def test_stages_add_up() -> None:
    rows = (StageRow("tiffs", 3, 1, 0, 2, 61.0, 2_500_000), StageRow("maps", 1, 0, 1, 0, 2.0, 500_000))
    assert "total 4 1 1 2 1 min 03 s 3.0 MB" in Page(render_report(report(stages=rows))).text


def test_scores_stand_side_by_side() -> None:
    table = MetricTable(
        "Scores", (Metric("R2", 0.4021, 0.6913, -0.0031), Metric("RMSE", 22.41, 8.8, None)), "58 blocks"
    )
    text = Page(render_report(report(metrics=(table,)))).text
    assert "score held-out blocks random split trivial predictor R2 0.402 0.691 -0.003 RMSE 22.4 8.80 -" in text


def test_importances_are_ranked_and_cut() -> None:
    importances = {f"column {number:03}": float(number) for number in range(100)}
    text = Page(render_report(report(importances=importances))).text
    assert text.index("column 099") < text.index("column 098") < text.index("column 070")
    assert "column 069" not in text
    assert "and 70 columns of less importance" in text


def test_importances_of_nothing_divide_by_nothing() -> None:
    assert "column" in Page(render_report(report(importances={"column": 0.0}))).text


def test_a_thousand_failures_are_counted_and_not_all_listed() -> None:
    failures = tuple(Failure("tiffs", f"t{number}", "no") for number in range(1000))
    text = Page(render_report(report(failures=failures))).text
    assert "1000 failures" in text and f"and {1000 - MAX_FAILURES} more" in text


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("client_secret: hunter2", "client_secret: ****"),
        ("  - password: 'a b'", "  - password: ****"),
        ('"aws_access_key_id": "AKIA"', '"aws_access_key_id": ****'),
        ("SH_CLIENT_SECRET=hunter2", "SH_CLIENT_SECRET=****"),
        ("db: postgresql://me:hunter2@host/db", "db: postgresql://****@host/db"),
        ("client_secret: ${SH_CLIENT_SECRET}", "client_secret: ${SH_CLIENT_SECRET}"),
        ("token_url: https://host/token", "token_url: https://host/token"),
        ("name: demo", "name: demo"),
        ("sampling: {seed: 42}", "sampling: {seed: 42}"),
    ],
)
def test_secrets_are_masked(line: str, shown: str) -> None:
    assert mask_secrets(f"year: 2017\n{line}\nend: 1") == f"year: 2017\n{shown}\nend: 1"
    assert "hunter2" not in render_report(report(config=line))


def test_writing_replaces_the_old_report_at_once(tmp_path: Path) -> None:
    target = tmp_path / "logs" / "run" / "report.html"
    write_report(target, report())
    write_report(target, report(project="Ségou"))
    assert "<h1>Ségou</h1>" in target.read_text(encoding="utf-8")
    assert [path.name for path in target.parent.iterdir()] == ["report.html"]
    assert target.stat().st_mode & 0o400


def test_a_report_that_can_not_be_made_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    write_report(target, report())
    before = target.read_bytes()
    with pytest.raises(TypeError):
        write_report(target, report(importances={"column": "much"}))
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


def test_numbers_for_people() -> None:
    assert [duration(s) for s in (0.04, 9.94, 9.96, 59.4, 185, 7620)] == [
        "0.0 s", "9.9 s", "10 s", "59 s", "3 min 05 s", "2 h 07 min",
    ]  # fmt: skip
    assert [size(n) for n in (0, 999, 1000, 12_345_678, 123_456_789, 5e15)] == [
        "0 B", "999 B", "1.0 kB", "12.3 MB", "123 MB", "5000 TB",
    ]  # fmt: skip
    assert [score(v) for v in (None, float("nan"), 0.4021, -3.14159, 22.41)] == ["-", "-", "0.402", "-3.14", "22.4"]
    assert utc(datetime(2017, 2, 16, 11, 21, 1, tzinfo=timezone(timedelta(hours=1)))) == "2017-02-16 10:21:01 UTC"
