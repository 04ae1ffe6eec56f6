//VERSION=3
// Median summer NDVI in percent, 255 where there were too few clear observations.

const NOTHING_KNOWN = 255;

function setup() {
  return {
    input: [{ bands: ["GREENNESS", "dataMask"], units: "DN" }],
    output: { bands: 1, sampleType: "UINT8" },
    mosaicking: "SIMPLE",
  };
}

function evaluatePixel(sample) {
  return [sample.dataMask === 1 ? sample.GREENNESS : NOTHING_KNOWN];
}
