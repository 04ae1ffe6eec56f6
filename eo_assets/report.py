"""One HTML file about one run: what was done, what failed, what it cost in time and bytes, how good the model is.

The file stands alone: no scripts, nothing loaded from anywhere, pictures inlined. Everything in it is escaped. It knows
nothing of Dagster; the command line fills a `RunReport` and writes it to `logs/<run>/report.html`.
"""

from __future__ import annotations

import base64
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

MAX_FAILURES = 500
MAX_IMPORTANCES = 30
"""What a person reads; the report says how many more there are."""

SECRET_KEY = re.compile(
    r"^(?P<key>[\s\-]*[\"']?[\w.\-]*(?:secret|password|passwd|token|credential|access_key|api_key)[\w.\-]*[\"']?\s*[:=]\s*)"
    r"(?P<value>\S.*)$",
    re.IGNORECASE | re.MULTILINE,
)
NOT_SECRET = re.compile(r"^(\$\{\w+\}|https?://[^@]*)$")
"""A variable's name or a plain address (`token_url`) gives nothing away."""
ADDRESS_PASSWORD = re.compile(r"(?<=://)[^\s/@]+:[^\s/@]+(?=@)")


@dataclass(frozen=True, slots=True)
class StageRow:
    """One asset of the run: partitions by outcome, wall seconds of work, bytes committed."""

    asset: str
    done: int = 0
    up_to_date: int = 0
    empty: int = 0
    failed: int = 0
    seconds: float = 0.0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """A partition (tile, zone, or "" for an asset without) that failed, and why."""

    asset: str
    partition: str
    reason: str


@dataclass(frozen=True, slots=True)
class Metric:
    """One score: on held-out blocks, on the random split beside it, and of the trivial predictor on the blocks."""

    name: str
    held_out: float | None
    random_split: float | None = None
    trivial: float | None = None


@dataclass(frozen=True, slots=True)
class MetricTable:
    """The scores of one model. `note` says what was held out and how many samples there were."""

    title: str
    metrics: tuple[Metric, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG with its title, and a note for what the colours mean."""

    title: str
    png: bytes
    note: str = ""

    @property
    def data_uri(self) -> str:
        """The picture as an address that loads nothing."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


@dataclass(frozen=True, slots=True)
class Source:
    """Data that the map was made from, with whom to credit."""

    name: str
    licence: str
    credit: str = ""


@dataclass(frozen=True, slots=True)
class RunReport:
    """Everything a report shows. Times are aware and shown in UTC; importances are in any unit and order.

    `series` are wide pictures of what compositing did. `config` is the project file as written, variables not filled
    in; what looks like a secret is masked all the same.
    """

    project: str
    run_id: str
    started: datetime
    ended: datetime
    config: str
    stages: tuple[StageRow, ...] = ()
    failures: tuple[Failure, ...] = ()
    metrics: tuple[MetricTable, ...] = ()
    importances: Mapping[str, float] = field(default_factory=dict)
    pictures: tuple[Picture, ...] = ()
    series: tuple[Picture, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[Source, ...] = ()
    paths: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> int:
        """Partitions that failed, whether or not their reasons are listed."""
        return max(sum(stage.failed for stage in self.stages), len(self.failures))

    @property
    def seconds(self) -> float:
        """From the start of the run to its end."""
        return (self.ended - self.started).total_seconds()


def write_report(path: Path, report: RunReport) -> None:
    """Write the report to `path` at once, folders made as needed: readers see the old report or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=".", delete=False) as file:
        draft = Path(file.name)
        try:
            file.write(render_report(report))
            file.flush()
            # A temporary file is private to its owner; a report is read by others, as far as the umask allows.
            draft.chmod(0o666 & ~_umask())
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


def render_report(report: RunReport) -> str:
    """The report as one HTML document."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(duration=duration, size=size, score=score, utc=utc)
    template = environment.from_string(files("eo_assets").joinpath("report.html.j2").read_text(encoding="utf-8"))
    ranked = sorted(report.importances.items(), key=lambda item: (-item[1], item[0]))
    return template.render(
        report=report,
        config=mask_secrets(report.config),
        failures=report.failures[:MAX_FAILURES],
        importances=ranked[:MAX_IMPORTANCES],
        largest=max((value for _, value in ranked), default=0) or 1,
        total=_total(report.stages),
    )


def mask_secrets(text: str) -> str:
    """A configuration text without the values of keys that name a secret, nor passwords inside addresses."""

    def mask(match: re.Match[str]) -> str:
        value = match["value"].strip().strip("\"'")
        return match[0] if NOT_SECRET.match(value) else f"{match['key']}****"

    return ADDRESS_PASSWORD.sub("****", SECRET_KEY.sub(mask, text))


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 05 s`, `2 h 07 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: float) -> str:
    """Bytes in decimal units: `0 B`, `12.3 MB`."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 999.5 or unit == "TB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" or count >= 99.95 else f"{count:.1f} {unit}"


def score(value: float | None) -> str:
    """Three digits or so, a dash for a score that there is not."""
    if value is None or value != value:
        return "-"
    decimals = 3 if abs(value) < 1 else 2 if abs(value) < 10 else 1
    return f"{value:.{decimals}f}"


def utc(moment: datetime) -> str:
    """`2017-02-16 10:21:01 UTC`."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _total(stages: tuple[StageRow, ...]) -> StageRow:
    return StageRow(
        "total",
        done=sum(stage.done for stage in stages),
        up_to_date=sum(stage.up_to_date for stage in stages),
        empty=sum(stage.empty for stage in stages),
        failed=sum(stage.failed for stage in stages),
        seconds=sum(stage.seconds for stage in stages),
        bytes=sum(stage.bytes for stage in stages),
    )


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
