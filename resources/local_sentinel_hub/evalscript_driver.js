// Runs one evalscript over blocks of pixels. The worker evaluates this file once, BEFORE the script, and keeps the object
// that it yields: no name leads to it. The script's functions are looked up by name when needed, because a script may
// declare them with `function`, `const` or `let`.
//
// The script can replace every built-in. So what is used after it has run is kept here in constants, the code is strict
// (a strict function shows neither itself nor its arguments to `caller` or to a stack trace), and pixels lie in a
// SharedArrayBuffer: the worker holds its address, and unlike an ArrayBuffer it can be neither detached nor moved.
(function () {
  "use strict";
  const stringify = JSON.stringify, parse = JSON.parse, isArray = Array.isArray, floor = Math.floor;
  const Compile = Function, Memory = SharedArrayBuffer, Day = Date;
  // Characters of JSON in an answer about the script itself; the limit of userData is the worker's.
  const ANSWER = 1 << 20;
  const ARRAYS = {
    UINT8: Uint8Array, INT8: Int8Array, UINT16: Uint16Array, INT16: Int16Array,
    UINT32: Uint32Array, INT32: Int32Array, FLOAT32: Float32Array, FLOAT64: Float64Array,
  };
  const RANGES = { AUTO: [0, 255], UINT8: [0, 255], INT8: [-128, 127], UINT16: [0, 65535], INT16: [-32768, 32767] };
  const state = { outputs: null, scenes: {}, metadata: {}, outputMetadata: {}, inputs: [], results: [], run: null };
  let memory = null;

  // A broken rule of evalscript V3, as against a fault of the script: reported without a line, because it has none.
  function refuse(message) {
    const error = new Error(message);
    error.name = "Rule";
    throw error;
  }

  function bounded(text, limit, what) {
    if (text !== undefined && text.length > limit) refuse(`${what} is larger than ${limit} characters of JSON; return less`);
    return text;
  }

  function list(value) {
    return value === undefined || value === null ? [] : isArray(value) ? value : [value];
  }

  function describe() {
    if (typeof setup !== "function") refuse("the script has no function setup()");
    if (typeof evaluatePixel !== "function") refuse("the script has no function evaluatePixel()");
    const answer = setup();
    if (!answer || typeof answer !== "object") refuse("setup() must return an object with input and output");
    if (typeof answer.then === "function") refuse("setup() returned a Promise; it can't be async");
    let inputs = list(answer.input);
    if (inputs.every((entry) => typeof entry === "string")) inputs = [{ bands: inputs }];
    const outputs = list(answer.output).map((entry) => {
      const output = typeof entry === "number" ? { bands: entry } : entry || {};
      return {
        id: output.id === undefined ? "default" : output.id,
        bands: output.bands,
        sampleType: output.sampleType === undefined ? "AUTO" : output.sampleType,
        nodataValue: output.nodataValue,
      };
    });
    return bounded(stringify({
      inputs: inputs.map((entry) => ({
        datasource: entry.datasource, bands: list(entry.bands), units: list(entry.units), mosaicking: entry.mosaicking,
      })),
      outputs,
      mosaicking: answer.mosaicking,
    }), ANSWER, "what setup() returned");
  }

  // An array of scenes that is also reachable as scenes.orbits, since scripts use both.
  function both(scenes) {
    const copy = scenes.slice();
    Object.defineProperty(copy, "orbits", { value: scenes, enumerable: false });
    return copy;
  }

  // plan: {mosaicking, fusion, sources: [{datasource, from, to, scenes}], outputs, metadata}. Answers which scenes to read.
  function begin(text) {
    const plan = parse(text);
    state.plan = plan;
    state.outputs = plan.outputs;
    state.metadata = plan.metadata;
    const kept = plan.sources.map((source) => source.scenes);
    kept.forEach((scenes) => scenes.forEach((scene, position) => { scene.__idx = position; }));
    if (plan.mosaicking === "ORBIT" && typeof preProcessScenes === "function") preProcess(plan, kept);
    const found = kept.map((scenes) => (plan.mosaicking === "ORBIT" ? { orbits: scenes } : { tiles: scenes }));
    state.scenes = plan.fusion ? byDatasource(plan, found) : found[0];
    if (plan.mosaicking === "ORBIT" && typeof updateOutput === "function") resize(plan, kept);
    const keep = kept.map((scenes) => scenes.map((scene) => scene.__idx));
    return bounded(stringify({ keep, outputs: state.outputs }), ANSWER, "what preProcessScenes() or updateOutput() chose");
  }

  // What updateOutput() sees of a scene: `date` as the documentation has it, beside what evaluatePixel() sees.
  function dated(scene) {
    return { ...scene, date: new Day(scene.dateFrom) };
  }

  function preProcess(plan, kept) {
    const given = plan.sources.map((source, i) => ({
      from: new Day(source.from), to: new Day(source.to), scenes: { orbits: kept[i] },
    }));
    const collections = plan.fusion ? byDatasource(plan, given) : given[0];
    const answer = preProcessScenes(collections) || collections;
    plan.sources.forEach((source, i) => {
      const collection = plan.fusion ? answer[source.datasource] : answer;
      const scenes = collection && collection.scenes && collection.scenes.orbits;
      if (!isArray(scenes)) refuse("preProcessScenes() must return collections with scenes.orbits");
      kept[i] = scenes;
    });
  }

  function resize(plan, kept) {
    const outputs = {};
    state.outputs.forEach((output) => { outputs[output.id] = { bands: output.bands }; });
    const collections = kept.map((scenes) => ({ scenes: both(scenes.map(dated)) }));
    updateOutput(outputs, plan.fusion ? byDatasource(plan, collections) : collections[0]);
    state.outputs.forEach((output) => { output.bands = (outputs[output.id] || output).bands; });
  }

  function byDatasource(plan, values) {
    const named = {};
    plan.sources.forEach((source, i) => { named[source.datasource] = values[i]; });
    return named;
  }

  // layout: {bytes, pixels, counts, silent, inputs: [{source, band, type, samples, scale, offset}], results: [offset]}:
  // pixels is the block's capacity, counts the number of scenes a source, samples the same for an input (1 for SIMPLE),
  // scale turns digital numbers to units, offset is a place in the block's memory. Silent: no image is asked for.
  function allocate(text) {
    const layout = parse(text);
    memory = new Memory(layout.bytes);
    state.inputs = layout.inputs.map(
      (input) => new ARRAYS[input.type](memory, input.offset, input.samples * layout.pixels),
    );
    state.results = state.outputs.map((output, i) => {
      const kind = output.sampleType === "AUTO" ? "UINT8" : output.sampleType;
      return new ARRAYS[kind](memory, layout.results[i], output.bands * layout.pixels);
    });
    state.run = compile(layout);
  }

  // One object literal per sample keeps one hidden class and no lookup by name: 50 times faster than filling objects in a loop.
  function compile(layout) {
    const plan = state.plan, orbits = plan.mosaicking === "ORBIT";
    const literal = (source, offset) => "{" + layout.inputs.map((input, i) => {
      if (input.source !== source) return "";
      const value = `i${i}[${offset}]`;
      return `${stringify(input.band)}:${input.scale === null ? value : `${value}*${stringify(input.scale)}`},`;
    }).join("") + "}";
    const samples = plan.sources.map((_, i) => {
      if (!orbits) return `const s${i}=${plan.fusion ? `[${literal(i, "p")}]` : literal(i, "p")};`;
      const count = layout.counts[i];
      return `const s${i}=new Array(${count});for(let t=0;t<${count};t++){const q=t*N+p;s${i}[t]=${literal(i, "q")};}`;
    }).join("");
    const argument = plan.fusion
      ? `{${plan.sources.map((source, i) => `${stringify(source.datasource)}:s${i}`).join(",")}}` : "s0";
    const arrays = layout.inputs.map((_, i) => `const i${i}=I[${i}];`).join("");
    const single = state.outputs.length === 1;
    const writes = state.outputs.map((output, i) => write(output, i, single)).join("");
    const nothing = layout.silent ? "if(r===undefined||r===null)continue;" : "";
    const source = `"use strict";const N=${layout.pixels};${arrays}for(let p=0;p<count;p++){${samples}` +
      `const r=evaluatePixel(${argument},scenes,metadata,{},outputMetadata);${nothing}${writes}}` +
      "\n//# sourceURL=evalscript-driver";
    return new Compile("I", "O", "count", "scenes", "metadata", "outputMetadata", "pick", "wrong", "level", source);
  }

  function write(output, i, single) {
    const convert = output.sampleType === "FLOAT32" ? "+v" : output.sampleType === "AUTO"
      ? "level(v*255,0,255)" : `level(+v,${RANGES[output.sampleType].join(",")})`;
    const id = stringify(output.id);
    return `{const e=pick(r,${id},${single});` +
      `if(e.length!==${output.bands})wrong(${id},${output.bands},e);` +
      `for(let b=0;b<${output.bands};b++){const v=e[b];O[${i}][b*N+p]=${convert};}}`;
  }

  function pick(result, id, single) {
    if (result === undefined || result === null) {
      refuse("evaluatePixel() returned nothing: it must return every output that setup() declares");
    }
    let value = result;
    if (!(single && (typeof result !== "object" || isArray(result) || ArrayBuffer.isView(result)))) value = result[id];
    if (value === undefined || value === null) {
      if (typeof result.then === "function") refuse("evaluatePixel() returned a Promise; it can't be async");
      if (typeof result.next === "function") refuse("evaluatePixel() returned an iterator; it can't be a generator");
      refuse(`Output ${id} requested but evaluatePixel() returned only: ${Object.keys(result).join(", ")}`);
    }
    return typeof value === "object" ? value : [value];
  }

  function wrong(id, bands, value) {
    refuse(`Output ${id} requires ${bands} band(s), but evaluatePixel() returned ${value.length}`);
  }

  // Round half up, clamp to the type's range; NaN becomes 0.
  function level(value, low, high) {
    const whole = floor(value + 0.5);
    return whole < low ? low : whole > high ? high : whole === whole ? whole : 0;
  }

  function run(count) {
    state.run(
      state.inputs, state.results, count, state.scenes, state.metadata, state.outputMetadata, pick, wrong, level,
    );
  }

  // limit: characters of JSON.
  function finish(limit) {
    if (typeof updateOutputMetadata === "function") {
      updateOutputMetadata(state.scenes, state.metadata, state.outputMetadata);
    }
    const answer = state.outputMetadata.userData;
    let text;
    try {
      text = stringify(answer);
    } catch (error) {
      refuse(`outputMetadata.userData can't be written as JSON: ${error}`);
    }
    return bounded(text === undefined ? "null" : text, limit, "outputMetadata.userData");
  }

  return { describe, begin, allocate, run, finish, memory: () => memory };
})();
//# sourceURL=evalscript-driver
