"""What a model's file says of itself, without loading its trees. Its format is LightGBM's text.

`max_feature_idx=` is in its head, and `end of trees` behind the last of them:
https://github.com/microsoft/LightGBM/blob/v4.6.0/src/boosting/gbdt_model_text.cpp
"""

from __future__ import annotations

from collections.abc import Iterable

from eo_assets.errors import ModelError

LAST_FEATURE, END_OF_TREES = "max_feature_idx=", "end of trees"


def features_of(lines: Iterable[str]) -> int:
    """How many features a model takes, from the lines of its file. Raises ModelError for one that is not whole."""
    last = ""
    for line in lines:
        if line.startswith(LAST_FEATURE):
            last = line.removeprefix(LAST_FEATURE).strip()
        elif line.rstrip() == END_OF_TREES and last.isdecimal():
            return int(last) + 1
    raise ModelError("not a whole model in LightGBM's text format")
