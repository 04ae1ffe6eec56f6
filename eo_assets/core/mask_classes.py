"""The values of quality layers by the names that their makers give them.

fmask: Fmask's own results, of Landsat and Sentinel-2 (Zhu and Woodcock 2012, Qiu et al. 2019, github.com/GERSL/Fmask).
The package python-fmask numbers its classes otherwise: name those by their numbers, without a scheme.
scl: the scene classification of Sentinel-2 L2A (Sen2Cor, as ESA's Level-2A Algorithm Overview and the custom script
"scene classification" of Sentinel Hub list it). Class 2 is cast shadows since baseline 04.00, dark areas before.
qm: the quality mask of the Sentinel-2 L2A 120 m mosaic, by the readme of its collection. `raised` are digital numbers
that were set from 0 to 1; where interpolation failed, values were set to 10000.
clm: the cloud mask CLM of Sentinel Hub, by its guide "Cloud masks and cloud probabilities".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

Scheme = Literal["fmask", "scl", "qm", "clm"]
SCHEMES = get_args(Scheme)
NO_DATA = "no_data"

CLASSES: Mapping[Scheme, Mapping[str, int]] = {
    "fmask": {"clear_land": 0, "water": 1, "cloud_shadow": 2, "snow": 3, "cloud": 4, NO_DATA: 255},
    "scl": {
        NO_DATA: 0,
        "saturated_or_defective": 1,
        "dark_area": 2,
        "cloud_shadow": 3,
        "vegetation": 4,
        "not_vegetated": 5,
        "water": 6,
        "unclassified": 7,
        "cloud_medium_probability": 8,
        "cloud_high_probability": 9,
        "thin_cirrus": 10,
        "snow": 11,
    },
    "qm": {NO_DATA: 0, "ok": 1, "raised": 2, "failed": 3},
    "clm": {"clear": 0, "cloud": 1, NO_DATA: 255},
}
"""Every value that a layer of a scheme may hold."""


def class_value(entry: int | str, scheme: Scheme | None) -> int:
    """The number of a class that is given by its number, or by its name in a scheme."""
    if isinstance(entry, int) or scheme is None:
        return int(entry)
    return CLASSES[scheme][entry]
