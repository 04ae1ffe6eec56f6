"""The evalscript of benchmarks: every band as its digital numbers, and a mask of where there are any, date by date."""

from __future__ import annotations

import json
from collections.abc import Sequence

_SCRIPT = """//VERSION=3
const BANDS = %s;
function setup() {
  return {
    input: [{bands: BANDS.concat("dataMask"), units: "DN"}],
    output: BANDS.map((id) => ({id: id, bands: 1, sampleType: "UINT16"})).concat(
      [{id: "QM", bands: 1, sampleType: "UINT8"}]),
    mosaicking: "ORBIT",
  };
}
function updateOutput(outputs, collection) {
  Object.values(outputs).forEach((output) => { output.bands = collection.scenes.length; });
}
function evaluatePixel(samples) {
  const pixel = {QM: samples.map((sample) => sample.dataMask)};
  for (const band of BANDS) pixel[band] = samples.map((sample) => sample[band]);
  return pixel;
}
"""


def bands_script(bands: Sequence[str]) -> str:
    """Outputs are the bands (UINT16) and QM (UINT8), a band a date of each."""
    return _SCRIPT % json.dumps(bands)
