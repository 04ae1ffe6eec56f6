//VERSION=3
// Probability of built-up area in percent (0-100) as the layer stores it; 255 where the layer has no pixel.

const NO_DATA = 255;

function setup() {
  return {
    input: [{ bands: ["PROB", "dataMask"], units: "DN" }],
    output: [{ id: "default", bands: 1, sampleType: "UINT8" }],
    mosaicking: "SIMPLE",
  };
}

function evaluatePixel(sample) {
  return [sample.dataMask === 0 ? NO_DATA : sample.PROB];
}
