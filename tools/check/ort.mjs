// Runs one model in ONNX Runtime, the yardstick of the longer tests.
//   STARLING_ORT=DIR node ort.mjs MODEL.onnx [--input IN.npy]… [--output OUT.npy] [--feed OUT=IN]… [--threads 1] [--repeat 1]
//   STARLING_ORT=DIR node ort.mjs MODEL.onnx [--threads 1] --serve
// DIR holds node_modules/onnxruntime-node. Inputs are taken in the model's order; where none is
// given, one is made up, good for timing only. If the first has one leading axis more
// than the model's, it is a batch run in turn, and --feed makes an output the next run's input.
// OUT is the first output, of a batch all of them along a new leading axis. Prints one JSON line:
// {"median_ms":…,"outputs":{"name":[dims]}}.
import { createRequire } from 'node:module';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    input: { type: 'string', multiple: true, default: [] },
    output: { type: 'string' },
    feed: { type: 'string', multiple: true, default: [] },
    threads: { type: 'string', default: '1' },
    repeat: { type: 'string', default: '1' },
    serve: { type: 'boolean', default: false },
  },
});
const repeat = Number(flags.repeat);
if (positionals.length !== 1 || !(repeat >= 1) || !process.env.STARLING_ORT) {
  console.error('usage: STARLING_ORT=DIR node ort.mjs MODEL.onnx [--input IN.npy]… [--output OUT.npy] [--feed OUT=IN]… [--threads N] [--repeat N]');
  process.exit(2);
}
const ort = createRequire(join(process.env.STARLING_ORT, 'package.json'))('onnxruntime-node');

// NumPy's type descriptors, ONNX Runtime's names for them, and the arrays that hold them.
const types = [
  ['<f4', 'float32', Float32Array],
  ['<i4', 'int32', Int32Array],
  ['<i8', 'int64', BigInt64Array],
  ['|u1', 'uint8', Uint8Array],
  ['|i1', 'int8', Int8Array],
];

// The .npy format, https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html:
// magic (6 bytes), version (2), header length (2, in version 2 and later 4), header, data.
function readNpy(file) {
  const bytes = readFileSync(file);
  const wide = bytes[6] > 1;
  const start = (wide ? 12 : 10) + (wide ? bytes.readUInt32LE(8) : bytes.readUInt16LE(8));
  const header = bytes.toString('latin1', 10, start);
  const descr = /'descr': *'([^']*)'/.exec(header)?.[1];
  const type = types.find(([d]) => d === descr);
  if (!type || !/'fortran_order': *False/.test(header)) {
    throw new Error(`${file}: a row-major array of type ${types.map(([d]) => d).join(', ')} is wanted, its header is ${header.trim()}`);
  }
  const dims = (/'shape': *\(([^)]*)\)/.exec(header)[1].match(/\d+/g) ?? []).map(Number);
  // A copy, because a view would have to be aligned.
  const data = Uint8Array.from(bytes.subarray(start)).buffer;
  return new ort.Tensor(type[1], new type[2](data), dims);
}

function writeNpy(file, tensor) {
  const [descr] = types.find(([, name]) => name === tensor.type);
  const shape = tensor.dims.length === 1 ? `${tensor.dims[0]},` : tensor.dims.join(', ');
  const dict = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${shape}), }`;
  // The data begins at a multiple of 64 bytes; the header ends in a newline.
  const header = dict.padEnd(Math.ceil((10 + dict.length + 1) / 64) * 64 - 11) + '\n';
  const prefix = Buffer.from('\x93NUMPY\x01\x00\x00\x00', 'latin1');
  prefix.writeUInt16LE(header.length, 8);
  const { buffer, byteOffset, byteLength } = tensor.data;
  writeFileSync(file, Buffer.concat([prefix, Buffer.from(header, 'latin1'), Buffer.from(buffer, byteOffset, byteLength)]));
}

const session = await ort.InferenceSession.create(positionals[0], {
  intraOpNumThreads: Number(flags.threads),
  interOpNumThreads: 1,
  executionMode: 'sequential',
  logSeverityLevel: 3,
});
// -1, -2/3, … 1, in turn, or 0, 1, … 6 if not float32; free dimensions are 1.
function madeUp(i) {
  const { type, shape } = session.inputMetadata[i];
  const [, , Values] = types.find(([, name]) => name === type) ?? [];
  if (!Values) throw new Error(`input ${session.inputNames[i]} is ${type}: none can be made up`);
  const dims = shape.map((d) => (d > 0 ? d : 1));
  const value = { float32: (k) => (k % 7) / 3 - 1, int64: (k) => BigInt(k % 7) }[type] ?? ((k) => k % 7);
  return new ort.Tensor(type, Values.from({ length: dims.reduce((a, b) => a * b, 1) }, (_, k) => value(k)), dims);
}

if (flags.input.length > 0 && flags.input.length !== session.inputNames.length) {
  throw new Error(`${positionals[0]} takes ${session.inputNames.length} inputs (${session.inputNames.join(', ')}), ${flags.input.length} are given`);
}
const feeds = Object.fromEntries(session.inputNames.map((name, i) => [name, flags.input.length > 0 ? readNpy(flags.input[i]) : madeUp(i)]));

if (flags.input.length > 0 && feeds[session.inputNames[0]].dims.length > session.inputMetadata[0].shape.length) {
  const name = session.inputNames[0];
  const batch = feeds[name];
  const [count, ...dims] = batch.dims;
  const size = batch.data.length / count;
  const list = [];
  for (let i = 0; i < count; i++) {
    feeds[name] = new ort.Tensor(batch.type, batch.data.slice(i * size, (i + 1) * size), dims);
    const results = await session.run(feeds);
    list.push(results[session.outputNames[0]]);
    for (const [from, to] of flags.feed.map((f) => f.split('='))) feeds[to] = results[from];
  }
  const all = new list[0].data.constructor(list[0].data.length * count);
  list.forEach((t, i) => all.set(t.data, i * t.data.length));
  writeNpy(flags.output, new ort.Tensor(list[0].type, all, [count, ...list[0].dims]));
  console.log(JSON.stringify({ outputs: { [session.outputNames[0]]: [count, ...list[0].dims] } }));
  process.exit(0);
}

// Milliseconds: of CPU time on one thread, as in internal/experiment/beside.go.
function now() {
  if (flags.threads !== '1') return performance.now();
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e3;
}

let results;
async function median(requests) {
  const times = [];
  for (let i = 0; i < requests; i++) {
    const start = now();
    results = await session.run(feeds);
    times.push(now() - start);
  }
  times.sort((a, b) => a - b);
  return times[times.length >> 1];
}

if (flags.serve || repeat > 1) await median(1); // warm up before measuring
if (flags.serve) {
  console.log('ready');
  for await (const line of createInterface({ input: process.stdin })) {
    // As long as Starling's own turns go on before they count.
    for (const start = performance.now(); performance.now() - start < 100; ) await median(1);
    console.log(await median(Number(line)));
  }
  process.exit();
}
const medianMs = await median(repeat);
if (flags.output) writeNpy(flags.output, results[session.outputNames[0]]);
console.log(JSON.stringify({
  median_ms: medianMs,
  outputs: Object.fromEntries(session.outputNames.map((name) => [name, results[name].dims])),
}));
