// What Sentinel Hub puts beside an evalscript V3: constants, visualizers and helpers, as its documentation defines them
// ("Utility functions", https://documentation.dataspace.copernicus.eu/APIs/SentinelHub/Evalscript/Functions.html, with
// the examples there as tests). Where that page only names a thing, the comment here says what was assumed.
//
// All names are configurable properties of the global object, so that a script may declare a `const` or a class of the
// same name. A script itself runs in sloppy mode, like in the service: many published ones assign to undeclared names.
(function () {
  "use strict";
  const JAVA_DOUBLE_MAX_VAL = 1.7976931348623157e308;

  const SampleType = Object.freeze({
    AUTO: "AUTO", INT8: "INT8", UINT8: "UINT8", INT16: "INT16", UINT16: "UINT16", FLOAT32: "FLOAT32",
  });
  const Mosaicking = Object.freeze({ SIMPLE: "SIMPLE", ORBIT: "ORBIT", TILE: "TILE" });
  const silent = () => {};
  const console = { log: silent, info: silent, warn: silent, error: silent, debug: silent };

  const index = (x, y) => (x + y === 0 ? 0 : (x - y) / (x + y));
  const inverse = (x) => (x === 0 ? JAVA_DOUBLE_MAX_VAL : 1 / x);
  const int2rgb = (colour) => [(colour >> 16) & 255, (colour >> 8) & 255, colour & 255];
  const rgb2int = (rgb) => (rgb[0] << 16) + (rgb[1] << 8) + rgb[2];
  const normalizeRGB = (rgb) => rgb.map((level) => level / 255);
  const combine = (first, second, alpha) => first.map((level, i) => level * alpha + second[i] * (1 - alpha));

  // The position of the interval (from, to] that holds the value: 0 up to the first limit, length behind the last.
  function interval(value, limits) {
    let i = 0;
    while (i < limits.length && !(value <= limits[i])) i++;
    return i;
  }

  function valueMap(value, intervals, values) {
    if (intervals === undefined || values === undefined) return value;
    return values[Math.min(interval(value, intervals), values.length - 1)];
  }

  // Piecewise linear from ascending `intervals` to `values`, numbers or arrays of numbers; the ends hold outside.
  function valueInterpolate(value, intervals, values) {
    if (intervals === undefined || values === undefined) return value;
    const i = interval(value, intervals), copy = (v) => (Array.isArray(v) ? v.slice() : v);
    if (i === 0) return copy(values[0]);
    if (i === intervals.length) return copy(values[values.length - 1]);
    const share = (value - intervals[i - 1]) / (intervals[i] - intervals[i - 1]), low = values[i - 1], high = values[i];
    if (!Array.isArray(low)) return low + (high - low) * share;
    return low.map((level, k) => level + (high[k] - level) * share);
  }

  // Deprecated, "see valueInterpolate".
  const colorBlend = valueInterpolate;

  const blueRed = [
    [1, 0x000080], [0.875, 0x0000ff], [0.625, 0x00ffff], [0.375, 0xffff00], [0.125, 0xff0000], [0, 0x800000],
  ];
  const redTemperature = [[1, 0x000000], [0.525, 0xae0000], [0.3, 0xff6e00], [0.25, 0xff8600], [0, 0xffffff]];
  const greenWhite = [[1, 0x000000], [0.6, 0x006600], [0.3, 0x80b300], [0, 0xffffff]];
  const oceanColor = [
    [0, [147, 0, 108]], [0.0471, [111, 0, 144]], [0.098, [72, 0, 183]], [0.149, [33, 0, 222]], [0.2, [0, 10, 255]],
    [0.2471, [0, 74, 255]], [0.298, [0, 144, 255]], [0.349, [0, 213, 255]], [0.4, [0, 255, 215]],
    [0.4471, [0, 255, 119]], [0.498, [0, 255, 15]], [0.549, [96, 255, 0]], [0.6, [200, 255, 0]],
    [0.6471, [255, 235, 0]], [0.698, [255, 183, 0]], [0.749, [255, 131, 0]], [0.8, [255, 79, 0]],
    [0.8471, [255, 31, 0]], [0.898, [230, 0, 0]], [0.949, [165, 0, 0]], [1, [105, 0, 0]],
  ].map(([position, rgb]) => [position, normalizeRGB(rgb)]);

  // The documented results of the named ramps fix their meaning: positions ascend, colours stay in the order listed.
  function ramp(pairs, minVal, maxVal) {
    const positions = pairs.map((pair) => pair[0]).sort((a, b) => a - b);
    return new ColorRampVisualizer(pairs.map((pair, i) => [positions[i], pair[1]]), minVal, maxVal);
  }

  class ColorRampVisualizer {
    constructor(ramps, minVal, maxVal) {
      const sorted = ramps.slice().sort((a, b) => a[0] - b[0]);
      const first = sorted[0][0], last = sorted[sorted.length - 1][0];
      const low = minVal === undefined ? first : minVal, high = maxVal === undefined ? last : maxVal;
      const adjust = low === first && high === last ? (x) => x : (x) => low + ((x - first) / (last - first)) * (high - low);
      this.limits = sorted.map((pair) => adjust(pair[0]));
      this.colours = sorted.map(({ 1: c }) => (Array.isArray(c) ? c.map((level) => Math.round(level * 255)) : int2rgb(c)));
    }

    // Levels are cut to whole 255ths, as in the documented results: half way from red to blue is [127, 0, 127] / 255.
    process(value) {
      return valueInterpolate(value, this.limits, this.colours).map((level) => Math.floor(level) / 255);
    }

    inverse() {
      const colours = normalized(this.colours).reverse();
      return new ColorRampVisualizer(this.limits.map((limit, i) => [limit, colours[i]]));
    }

    static createRedTemperature(minVal, maxVal) { return ramp(redTemperature, minVal, maxVal); }
    static createWhiteGreen(minVal, maxVal) { return ramp(greenWhite, minVal, maxVal); }
    static createBlueRed(minVal, maxVal) { return ramp(blueRed, minVal, maxVal); }
    static createOceanColor(minVal, maxVal) { return ramp(oceanColor, minVal, maxVal); }
  }

  const normalized = (colours) => colours.map(normalizeRGB);

  // Deprecated. The documented results fix its meaning: the position p of a pair stands for 1 - p of the way from minVal
  // to maxVal, and levels are rounded.
  class ColorGradientVisualizer {
    constructor(valColPairs, minVal = 0, maxVal = 1) {
      const placed = valColPairs.map(([p, colour]) => [minVal * p + maxVal * (1 - p), int2rgb(colour)]);
      placed.sort((a, b) => a[0] - b[0]);
      this.limits = placed.map((pair) => pair[0]);
      this.colours = placed.map((pair) => pair[1]);
    }

    process(value) {
      return valueInterpolate(value, this.limits, this.colours).map((level) => Math.round(level) / 255);
    }

    static createRedTemperature(minVal, maxVal) { return new ColorGradientVisualizer(redTemperature, minVal, maxVal); }
    static createWhiteGreen(minVal, maxVal) { return new ColorGradientVisualizer(greenWhite, minVal, maxVal); }
    static createBlueRed(minVal, maxVal) { return new ColorGradientVisualizer(blueRed, minVal, maxVal); }
  }

  class ColorMapVisualizer {
    constructor(valColPairs) {
      this.pairs = valColPairs;
    }

    // The colour of the last pair that is not above the value, that of the first one below all.
    process(value) {
      let colour = this.pairs[0][1];
      for (let i = 0; i < this.pairs.length && !(value < this.pairs[i][0]); i++) colour = this.pairs[i][1];
      return normalizeRGB(int2rgb(colour));
    }

    static createDefaultColorMap() {
      return new ColorMapVisualizer([
        [-1, 0x000000], [-0.2, 0xff0000], [-0.1, 0x9a0000], [0, 0x660000], [0.1, 0xffff33], [0.2, 0xcccc33],
        [0.3, 0x666600], [0.4, 0x33ffff], [0.5, 0x33cccc], [0.6, 0x006666], [0.7, 0x33ff33], [0.8, 0x33cc33],
        [0.9, 0x006600],
      ]);
    }
  }

  // Linear from [minValue, maxValue] to [0, 1]. The page names gain, offset and gamma without a formula; assumed:
  // (gain * linear + offset) to the power of gamma. `processList` is not on it, but published scripts call it.
  class DefaultVisualizer {
    constructor(minValue = 0, maxValue = 1, gain = 1, offset = 0, gamma = 1) {
      this.minValue = minValue;
      this.maxValue = maxValue;
      this.gain = gain;
      this.offset = offset;
      this.gamma = gamma;
    }

    stretch(value) {
      const linear = (this.gain * (value - this.minValue)) / (this.maxValue - this.minValue) + this.offset;
      return this.gamma === 1 ? linear : Math.max(0, linear) ** this.gamma;
    }

    process(value) {
      return Math.min(Math.max(this.stretch(value), 0), 1);
    }

    processList(values) {
      return values.map((value) => this.process(value));
    }
  }

  // As DefaultVisualizer up to 0.92; from there more slowly, up to 1 for 2 * maxValue - minValue, if maxValue is in (0, 1).
  class HighlightCompressVisualizer extends DefaultVisualizer {
    stretch(value) {
      const linear = super.stretch(value), compress = this.maxValue > 0 && this.maxValue < 1 && linear > 0.92;
      return compress ? 0.92 + ((linear - 0.92) * 0.08) / 1.08 : linear;
    }
  }

  // Named by the service's FAQ on styles; published scripts push to what its process() returns, so it is an array.
  class HighlightCompressVisualizerSingle extends HighlightCompressVisualizer {
    process(value) {
      return [super.process(value)];
    }
  }

  const names = {
    JAVA_DOUBLE_MAX_VAL, SampleType, Mosaicking, console, index, inverse, int2rgb, rgb2int, normalizeRGB, combine, valueMap,
    valueInterpolate, colorBlend, blueRed, redTemperature, greenWhite, oceanColor, ColorRampVisualizer,
    ColorGradientVisualizer, ColorMapVisualizer, DefaultVisualizer, HighlightCompressVisualizer,
    HighlightCompressVisualizerSingle,
  };
  for (const [name, value] of Object.entries(names)) {
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true, enumerable: false });
  }
})();
