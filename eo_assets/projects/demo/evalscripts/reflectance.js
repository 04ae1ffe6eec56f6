//VERSION=3
// Twelve bands of Sentinel-2 as digital numbers, a frame a day, and where there is data.

const BANDS = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"];

function setup() {
  const outputs = BANDS.map((id) => ({ id: id, bands: 1, sampleType: "UINT16" }));
  outputs.push({ id: "MASK", bands: 1, sampleType: "UINT8" });
  return {
    input: [{ bands: BANDS.concat("dataMask"), units: "DN" }],
    output: outputs,
    mosaicking: "ORBIT",
  };
}

function updateOutput(outputs, collection) {
  for (const id of Object.keys(outputs)) {
    outputs[id].bands = collection.scenes.length;
  }
}

function updateOutputMetadata(scenes, inputMetadata, outputMetadata) {
  outputMetadata.userData = {
    dates: scenes.orbits.map((orbit) => orbit.tiles[0].date),
    products: scenes.orbits.map((orbit) => orbit.tiles.map((tile) => tile.dataPath).filter(Boolean)),
  };
}

function evaluatePixel(samples) {
  const frames = samples.length;
  const pixel = {};
  for (let b = 0; b < BANDS.length; b++) {
    const values = new Array(frames);
    for (let t = 0; t < frames; t++) {
      values[t] = samples[t][BANDS[b]];
    }
    pixel[BANDS[b]] = values;
  }
  const mask = new Array(frames);
  for (let t = 0; t < frames; t++) {
    mask[t] = samples[t].dataMask;
  }
  pixel.MASK = mask;
  return pixel;
}
