//VERSION=3
// The median of the clear observations of each period, made where the imagery is: a frame a period instead of one a day.
// Bands are delivered as TWICE the median, so that the half numbers between two observations stay whole at 16 bits (32
// cost double); numbers above 32767 are cut. OBSERVATIONS is how many clear observations there were, and 0 is none.
// PERIODS, [[from, to], ...] in milliseconds, is put in front of this text by eo-assets: features.composite.periods.

const BANDS = ["b3", "b4", "b5"];
const QUALITY = "FMASK";
const IS_CLEAR = { 0: true, 1: true }; // land, water

function setup() {
  const outputs = BANDS.map((id) => ({ id: id, bands: PERIODS.length, sampleType: "UINT16" }));
  outputs.push({ id: "OBSERVATIONS", bands: PERIODS.length, sampleType: "UINT16" });
  return {
    input: [{ bands: BANDS.concat(QUALITY, "dataMask"), units: "DN" }],
    output: outputs,
    mosaicking: "ORBIT",
  };
}

function periodOf(orbit) {
  const time = new Date(orbit.tiles && orbit.tiles.length ? orbit.tiles[0].date : orbit.dateFrom).getTime();
  for (let p = 0; p < PERIODS.length; p++) {
    if (PERIODS[p][0] <= time && time < PERIODS[p][1]) {
      return p;
    }
  }
  return -1;
}

// What lies in no period is neither read nor charged.
function preProcessScenes(collections) {
  collections.scenes.orbits = collections.scenes.orbits.filter((orbit) => periodOf(orbit) >= 0);
  return collections;
}

// A frame a period, whether or not it has an acquisition; and what they were made of.
function updateOutputMetadata(scenes, inputMetadata, outputMetadata) {
  const products = PERIODS.map(() => []);
  for (const orbit of scenes.orbits) {
    products[periodOf(orbit)].push(...orbit.tiles.map((tile) => tile.dataPath).filter(Boolean));
  }
  outputMetadata.userData = {
    dates: PERIODS.map((period) => new Date(Math.floor((period[0] + period[1]) / 2000) * 1000).toISOString()),
    acquisitions: scenes.orbits.map((orbit) => orbit.tiles[0].date),
    products: products,
  };
}

let known = null;
let frames = []; // of each period the samples that it holds
const sorted = BANDS.map(() => []); // the clear values of one period, smallest first

function framesOf(scenes) {
  const held = PERIODS.map(() => []);
  for (let t = 0; t < scenes.orbits.length; t++) {
    held[periodOf(scenes.orbits[t])].push(t);
  }
  return held;
}

function insert(values, count, value) {
  let place = count;
  while (place > 0 && values[place - 1] > value) {
    values[place] = values[place - 1];
    place--;
  }
  values[place] = value;
}

function twiceTheMedian(values, count) {
  return count === 0 ? 0 : values[(count - 1) >> 1] + values[count >> 1];
}

function evaluatePixel(samples, scenes) {
  if (scenes !== known) {
    frames = framesOf(scenes);
    known = scenes;
  }
  const pixel = { OBSERVATIONS: new Array(PERIODS.length) };
  for (let b = 0; b < BANDS.length; b++) {
    pixel[BANDS[b]] = new Array(PERIODS.length);
  }
  for (let p = 0; p < PERIODS.length; p++) {
    let count = 0;
    for (let f = 0; f < frames[p].length; f++) {
      const sample = samples[frames[p][f]];
      if (sample.dataMask === 1 && IS_CLEAR[sample[QUALITY]] === true) {
        for (let b = 0; b < BANDS.length; b++) {
          insert(sorted[b], count, sample[BANDS[b]]);
        }
        count++;
      }
    }
    for (let b = 0; b < BANDS.length; b++) {
      pixel[BANDS[b]][p] = twiceTheMedian(sorted[b], count);
    }
    pixel.OBSERVATIONS[p] = count;
  }
  return pixel;
}
