//VERSION=3
// Every acquisition as it is: three bands as digital numbers and Fmask, a frame a day, clouds and all.

const BANDS = ["b3", "b4", "b5"];
const FILL = 255; // Fmask's own value for no data. What has no data is delivered as 0, which would be clear land.

function setup() {
  const outputs = BANDS.map((id) => ({ id: id, bands: 1, sampleType: "UINT16" }));
  outputs.push({ id: "FMASK", bands: 1, sampleType: "UINT8" });
  return {
    input: [{ bands: BANDS.concat("FMASK", "dataMask"), units: "DN" }],
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
    mask[t] = samples[t].dataMask === 1 ? samples[t].FMASK : FILL;
  }
  pixel.FMASK = mask;
  return pixel;
}
