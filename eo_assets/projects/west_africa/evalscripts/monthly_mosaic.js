//VERSION=3
// A year of the Sentinel-2 120 m mosaic as one image a band, a frame a month: the first scene of every month.

const BANDS = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"];
const QUALITY = "QM"; // 0 no data, 1 good, 2 raised, 3 interpolation failed

function setup() {
  const names = BANDS.concat(QUALITY);
  return {
    input: [{ bands: names, units: "DN" }],
    // The number of frames is known once the scenes are: updateOutput sets it.
    output: names.map((id) => ({ id: id, bands: 1, sampleType: "UINT16" })),
    mosaicking: "ORBIT",
  };
}

function dayOf(scene) {
  return new Date(scene.dateFrom).toISOString().slice(0, 10);
}

// Whatever order the service gives the scenes in, the earliest day of each month stays, and the order is kept.
function preProcessScenes(collections) {
  const scenes = collections.scenes.orbits;
  const earliest = {};
  for (const scene of scenes) {
    const day = dayOf(scene);
    const month = day.slice(0, 7);
    if (earliest[month] === undefined || day < earliest[month]) {
      earliest[month] = day;
    }
  }
  const taken = {};
  collections.scenes.orbits = scenes.filter((scene) => {
    const day = dayOf(scene);
    const keep = earliest[day.slice(0, 7)] === day && taken[day] === undefined;
    taken[day] = true;
    return keep;
  });
  return collections;
}

function updateOutput(outputs, collection) {
  const frames = collection.scenes.length;
  for (const id of Object.keys(outputs)) {
    outputs[id].bands = frames;
  }
}

// The dates of the frames, in the order of the frames.
function updateOutputMetadata(scenes, inputMetadata, outputMetadata) {
  outputMetadata.userData = { dates: scenes.orbits.map(dayOf) };
}

function evaluatePixel(samples) {
  const frames = samples.length;
  const pixel = {};
  for (let b = 0; b < BANDS.length; b++) {
    const band = BANDS[b];
    const values = new Array(frames);
    for (let t = 0; t < frames; t++) {
      values[t] = samples[t][band];
    }
    pixel[band] = values;
  }
  const quality = new Array(frames);
  for (let t = 0; t < frames; t++) {
    quality[t] = samples[t][QUALITY];
  }
  pixel[QUALITY] = quality;
  return pixel;
}
