"""A model in words and tables: Markdown for the UI, for `model_card.md` and for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eo_assets.core.model import Signature
from eo_assets.project import LoadedProject
from resources.output_record import OutputRecord

Metrics = Mapping[str, Mapping[str, Any]]
TITLES = {
    "held_out_blocks": "held-out ground blocks",
    "random_split": "random split",
    "r2": "R2",
    "rmse": "RMSE",
    "mae": "MAE",
    "f1": "F1",
    "accuracy": "accuracy",
}


def metrics_table(metrics: Metrics) -> str:
    """Scores on whole held-out blocks and on the random split, the trivial predictor's beside each."""
    names = list(next((s["model"] for s in metrics.values() if "model" in s), {}))
    if not names:
        return "No scores: nothing was held out."
    header = "| scored on | samples | predictor | " + " | ".join(TITLES.get(name, name) for name in names) + " |"
    rows = [header, "|---" * (3 + len(names)) + "|"]
    for split, scores in metrics.items():
        for who in ("model", "trivial"):
            values = " | ".join(f"{scores[who][name]:.4g}" for name in names) if who in scores else "-"
            rows.append(f"| {TITLES.get(split, split)} | {scores['scored_samples']:,} | {who} | {values} |")
    return "\n".join(rows)


def importance_table(importances: Mapping[str, float], most: int = 15) -> str:
    """The columns that gave the trees most of their gain."""
    ranked = sorted(importances.items(), key=lambda item: -item[1])[:most]
    return "\n".join(
        ["| column | share of gain |", "|---|---|", *(f"| {name} | {share:.1%} |" for name, share in ranked)]
    )


def model_card(
    loaded: LoadedProject,
    signature: Signature,
    metrics: Metrics,
    importances: Mapping[str, float],
    samples: OutputRecord,
    tiles: Sequence[str],
) -> str:
    """What the model is, what it was made from, how good it is, and what it must not be used for."""
    project = loaded.project
    return "\n".join(
        [
            f"# {project.name} {project.year}: {project.model.kind} of {project.reference.name}",
            "",
            f"Trained on {samples.numbers.get('samples', 0):,} samples of {len(tiles)} tiles ({', '.join(tiles[:8])}"
            f"{', ...' if len(tiles) > 8 else ''}), seed {project.sampling.seed}.",
            *([f"trained_on.json beside this card names all {len(tiles)}."] if len(tiles) > 8 else []),
            f"Training data {samples.digest[:12]}. Offset handling: {'; '.join(signature.offset_handling)}.",
            "",
            "## Scores",
            "",
            metrics_table(metrics),
            "",
            f"Held-out blocks are whole {project.model.split.block_px} x {project.model.split.block_px} pixel pieces "
            "of ground, so neighbours of training pixels are not scored; the random split shows how much better a "
            "score looks when they are. Trivial is the mean of the training labels, or their majority class.",
            "",
            "## Columns",
            "",
            f"{len(signature.columns)} columns in this order: {', '.join(signature.columns[:20])}"
            f"{', ...' if len(signature.columns) > 20 else ''}",
            "",
            importance_table(importances),
            "",
            "Only for features with these columns, in this order and units, of imagery with the same offset handling.",
            "",
            *(f"- {source}" for source in project.sources),
        ]
    )


def headline(metrics: Metrics) -> list[str]:
    """One line a split: the model's scores, and the trivial predictor's in brackets."""
    return [
        f"{TITLES.get(split, split)}: "
        + ", ".join(
            f"{TITLES.get(n, n)} {value:.3g} ({scores['trivial'][n]:.3g})" for n, value in scores["model"].items()
        )
        + " (in brackets: trivial predictor)"
        for split, scores in metrics.items()
        if "model" in scores
    ]
