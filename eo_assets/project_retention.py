"""What of a project is kept and what storing it costs: retention by stage, and the prices of a bucket."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, NonNegativeFloat

from eo_assets.project_types import Section


class Rule(Section):
    """How long a stage's pixels are kept: `until` a later asset is made of them, or `days` after they were made."""

    until: str | None = None
    days: Annotated[int, Field(ge=1)] | None = None

    @property
    def keeps(self) -> bool:
        """Are they kept for ever?"""
        return self.until is None and self.days is None

    def __str__(self) -> str:
        return "keep" if self.keeps else f"until {self.until}" if self.until else f"{self.days} days"


def _keep(value: object) -> object:
    """`keep` is a rule without an end."""
    if value == "keep":
        return Rule()
    if value == {} or not isinstance(value, dict | Rule):
        raise ValueError("not a rule: write keep, {until: a later stage} or {days: a number}")
    return value


Kept = Annotated[Rule, BeforeValidator(_keep)]


class Retention(Section):
    """What becomes of the pixels of tile stages. Commit records are kept always."""

    tiffs: Kept = Rule()
    reference: Kept = Rule()
    eopatches: Kept = Rule()
    features: Kept = Rule()
    samples: Kept = Rule()
    predictions: Kept = Rule()

    @property
    def rules(self) -> dict[str, Rule]:
        """The stages whose pixels are not kept for ever."""
        rules: dict[str, Rule] = {stage: getattr(self, stage) for stage in type(self).model_fields}
        return {stage: rule for stage, rule in rules.items() if not rule.keeps}


class Prices(Section):
    """US dollars: a GB (10^9 bytes) and month, a thousand writing requests, a thousand reading ones.

    The defaults are those of Amazon S3 Standard in eu-central-1, first 50 TB, as quoted in September 2024; a month of
    transfers within the region costs nothing, and transfers out of it are not counted here.
    """

    gb_month: NonNegativeFloat = 0.0245
    put_1000: NonNegativeFloat = 0.0054
    get_1000: NonNegativeFloat = 0.00043
