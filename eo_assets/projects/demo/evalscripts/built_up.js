//VERSION=3
// Built-up share in percent where OpenStreetMap's polygons say anything, 255 where they don't.

const NOTHING_KNOWN = 255;

function setup() {
  return {
    input: [{ bands: ["SHARE", "dataMask"], units: "DN" }],
    output: { bands: 1, sampleType: "UINT8" },
    mosaicking: "SIMPLE",
  };
}

function evaluatePixel(sample) {
  return [sample.dataMask === 1 ? sample.SHARE : NOTHING_KNOWN];
}
