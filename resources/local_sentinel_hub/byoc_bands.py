"""The bands of a BYOC collection as a client says them: what may be said, and what may be changed once there are tiles.

Source: the schemas BYOCFormat and BYOCCollectionUpdatePayload of the BYOC API.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from resources.local_sentinel_hub.api import bad_payload
from resources.local_sentinel_hub.byoc_ingest import place_of

BIT_DEPTHS, SAMPLE_FORMATS = (8, 16, 32), ("UINT", "INT", "FLOAT")
MOST_BANDS = 100
PARAMETER = "additionalData.bands"

Bands = dict[str, dict[str, Any]]


def checked_bands(fields: Mapping[str, Any]) -> Bands:
    """The bands of a collection's payload, without empty values.

    Raises:
        ApiError: 400, naming the band: a format that is none, two bands of one place, noData said twice.
    """
    told = (fields.get("additionalData") or {}).get("bands") or {}
    bands = {name: {key: value for key, value in band.items() if value is not None} for name, band in told.items()}
    if len(bands) > MOST_BANDS:
        raise bad_payload(f"{len(bands)} bands, at most {MOST_BANDS} are allowed", PARAMETER)
    for name, band in bands.items():
        _check_format(name, band)
        if "noData" in band and fields.get("noData") is not None:
            raise bad_payload("noData is said for the collection and for a band; say it in one place", "noData")
    places = [place_of(name, band) for name, band in bands.items()]
    if len(set(places)) < len(places):
        raise bad_payload("two bands have the same source and bandIndex", PARAMETER)
    return bands


def check_change(held: Bands, wanted: Bands) -> None:
    """Refuse what can't be done to the bands of a collection with tiles: add one, change its format, remove all.

    Raises:
        ApiError: 400, naming the band.
    """
    if held and not wanted:
        raise bad_payload("the bands of a collection with tiles can't all be removed; delete its tiles", PARAMETER)
    known = {place_of(name, band): band for name, band in held.items()}
    for name, band in wanted.items():
        before = known.get(place_of(name, band))
        if before is None:
            raise bad_payload(f"band {name} can't be added to a collection with tiles", PARAMETER, name)
        for key in ("bitDepth", "sampleFormat"):
            if before.get(key) != band[key]:
                message = f"{key} of band {name} is {before.get(key)} and can't be changed in a collection with tiles"
                raise bad_payload(message, f"{PARAMETER}.{name}.{key}", band[key])


def _check_format(name: str, band: Mapping[str, Any]) -> None:
    for key, allowed in (("bitDepth", BIT_DEPTHS), ("sampleFormat", SAMPLE_FORMATS)):
        if band.get(key) not in allowed:
            listed = ", ".join(map(str, allowed))
            raise bad_payload(
                f"band {name}: {key} is needed, one of {listed}", f"{PARAMETER}.{name}.{key}", band.get(key)
            )
    nodata = band.get("noData")
    if nodata is not None and not (isinstance(nodata, int | float) and math.isfinite(nodata)):
        raise bad_payload(f"band {name}: noData is not a number", f"{PARAMETER}.{name}.noData", nodata)
