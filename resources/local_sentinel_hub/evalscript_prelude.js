// What Sentinel Hub puts beside an evalscript V3: constants and the helpers that scripts most often call.
// Sloppy mode on purpose, like the service: many published scripts assign to undeclared names.
var SampleType = Object.freeze({
  AUTO: "AUTO", INT8: "INT8", UINT8: "UINT8", INT16: "INT16", UINT16: "UINT16", FLOAT32: "FLOAT32",
});
var Mosaicking = Object.freeze({ SIMPLE: "SIMPLE", ORBIT: "ORBIT", TILE: "TILE" });
var console = (function () {
  var silent = function () {};
  return { log: silent, info: silent, warn: silent, error: silent, debug: silent };
})();

function index(a, b) {
  return a + b === 0 ? 0 : (a - b) / (a + b);
}

function inverse(x) {
  return x === 0 ? 0 : 1 / x;
}

function int2rgb(colour) {
  return [((colour >> 16) & 255) / 255, ((colour >> 8) & 255) / 255, (colour & 255) / 255];
}

// Piecewise linear from the sorted stops `limits` to `colours` (arrays of equal length); the ends hold outside of the stops.
function colorBlend(value, limits, colours) {
  var last = limits.length - 1;
  if (value <= limits[0]) return colours[0].slice();
  if (value >= limits[last]) return colours[last].slice();
  for (var i = 1; i <= last; i++) {
    if (value < limits[i]) {
      var t = (value - limits[i - 1]) / (limits[i] - limits[i - 1]);
      var low = colours[i - 1], high = colours[i];
      return low.map(function (c, k) { return c + (high[k] - c) * t; });
    }
  }
  return colours[last].slice();
}

function valueInterpolate(value, limits, values) {
  return colorBlend(value, limits, values.map(function (v) { return [v]; }))[0];
}

class ColorRampVisualizer {
  constructor(ramps) {
    var sorted = ramps.slice().sort(function (a, b) { return a[0] - b[0]; });
    this.limits = sorted.map(function (r) { return r[0]; });
    this.colours = sorted.map(function (r) { return Array.isArray(r[1]) ? r[1] : int2rgb(r[1]); });
  }
  process(value) {
    return colorBlend(value, this.limits, this.colours);
  }
}
