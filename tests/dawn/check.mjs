// Compiles every .wgsl file of a folder with Dawn, Chromium's WebGPU, whose compiler (Tint) refuses things that naga
// accepts: a barrier after a branch on a value read from read_write storage, for one.
//
// usage: node check.mjs DIR
//
// Needs Node 20 or later and `npm ci --ignore-scripts` in this folder. The npm package `webgpu` brings Dawn as prebuilt
// binaries (Linux with glibc 2.34 and the libstdc++ of GCC 12 or later, macOS, Windows); nothing else is downloaded.
//
// Two passes, both with the default limits of WebGPU:
// 1. Dawn's null backend, on every file. It needs no driver and offers every feature, so the result is the same on any
//    machine: WGSL front end, uniformity, limits, and the pipeline with layout "auto".
// 2. The machine's own adapter, where Dawn accepts one (it refuses the lavapipe of Mesa 22, which lacks dynamic
//    indexing of sampled images), on the files whose `enable` lines it supports. This adds Tint's SPIR-V, MSL or HLSL
//    writer. The files left out are counted. Of override values only the first are tried, since a software driver takes
//    seconds for a large kernel. Point VK_ICD_FILENAMES at another driver to choose one on Linux.
//
// A file is compiled once for every compute entry point, with the defaults of its overrides; if NAME.json lies beside
// NAME.wgsl, it is an array of objects with override values (numbers or booleans), and each is compiled instead.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { create, globals } from 'webgpu';

Object.assign(globalThis, globals); // GPUValidationError and friends, which Dawn looks up by name

// Dawn aborts the process when an instance is collected while its adapter or device is in use.
const instances = [];

function requestAdapter(flags) {
  const instance = create(flags);
  instances.push(instance);
  return instance.requestAdapter();
}

const FEATURES = { f16: 'shader-f16', subgroups: 'subgroups' }; // what an `enable` line asks of the device

/** A shader that Dawn must refuse: if it passes, this check could not have failed on ours. */
const CANARY = {
  name: 'canary',
  code: `@group(0) @binding(0) var<storage, read_write> mask: array<u32>;
    @compute @workgroup_size(64) fn main() { if (mask[0] == 0u) { return; } workgroupBarrier(); }`,
  overrides: [{}],
};

function load(dir) {
  return readdirSync(dir).filter((file) => file.endsWith('.wgsl')).sort().map((file) => {
    const values = join(dir, file.replace(/wgsl$/, 'json'));
    return {
      name: file,
      code: readFileSync(join(dir, file), 'utf8'),
      overrides: existsSync(values) ? JSON.parse(readFileSync(values, 'utf8')) : [{}],
    };
  });
}

const withoutComments = (code) => code.replace(/\/\/.*$/gm, '').replace(/\/\*[^]*?\*\//g, '');

function entryPoints(code) {
  return [...withoutComments(code).matchAll(/@compute\b[^;{}]*?\bfn\s+(\w+)/g)].map((match) => match[1]);
}

function featuresOf(code) {
  const lines = [...withoutComments(code).matchAll(/^\s*enable\s+([^;]+);/gm)];
  return lines.flatMap((match) => match[1].split(',').map((name) => FEATURES[name.trim()] ?? name.trim()));
}

/** Everything that Dawn says against one shader; an empty list means that all of it compiled. */
async function problems(device, { code, overrides }) {
  const found = [];
  device.pushErrorScope('internal');
  device.pushErrorScope('validation');
  const module = device.createShaderModule({ code });
  for (const { type, lineNum, linePos, message } of (await module.getCompilationInfo()).messages) {
    if (type !== 'info') found.push(`${type} at ${lineNum}:${linePos}: ${message}`);
  }
  const entries = entryPoints(code);
  if (entries.length === 0) found.push('no compute entry point found');
  if (overrides.length === 0) found.push('no override values to compile with');
  if (found.length === 0) {
    for (const entryPoint of entries) {
      for (const values of overrides) {
        // The JavaScript API turns true into 1 by itself, this binding does not.
        const constants = Object.fromEntries(Object.entries(values).map(([name, value]) => [name, Number(value)]));
        await device
          .createComputePipelineAsync({ layout: 'auto', compute: { module, entryPoint, constants } })
          .catch((error) => found.push(`${entryPoint} ${JSON.stringify(constants)}: ${error.message.trim()}`));
      }
    }
  }
  for (const scope of ['validation', 'internal']) {
    const error = await device.popErrorScope();
    // A parse error arrives here too, with the source; the compilation messages already told it.
    if (error && found.length === 0) found.push(`${scope}: ${error.message.trim()}`);
  }
  return found;
}

/** One pass over the shaders: the number of those with problems, each printed. */
async function pass(label, adapter, shaders) {
  const requiredFeatures = Object.values(FEATURES).filter((feature) => adapter.features.has(feature));
  const device = await adapter.requestDevice({ requiredFeatures });
  if ((await problems(device, CANARY)).length === 0) {
    throw new Error(`${label}: Dawn accepted a shader that it must refuse, so its verdict on ours means nothing`);
  }
  const supported = shaders.filter(({ code }) => featuresOf(code).every((feature) => requiredFeatures.includes(feature)));
  let bad = 0;
  for (const shader of supported) {
    const found = await problems(device, shader);
    if (found.length > 0) bad += 1;
    for (const problem of found) console.log(`${label}: ${shader.name}: ${problem}`);
  }
  const pipelines = supported.reduce((sum, { code, overrides }) => sum + entryPoints(code).length * overrides.length, 0);
  const left = shaders.length - supported.length;
  console.log(`${label}: ${supported.length} shaders, ${pipelines} pipelines, ${bad} refused` +
    (left > 0 ? `, ${left} left out (they need features it lacks)` : ''));
  return { bad, left };
}

async function main() {
  const dir = process.argv[2];
  if (!dir) throw new Error('usage: node check.mjs DIR');
  const shaders = load(dir);
  if (shaders.length === 0) throw new Error(`no .wgsl file in ${dir}`);

  const front = await pass('Dawn null backend', await requestAdapter(['backend=null']), shaders);
  if (front.left > 0) throw new Error(`${front.left} shaders enable a feature that Dawn does not know`);

  const adapter = await requestAdapter([]);
  if (!adapter) {
    console.log('skipped: the pass of Dawn through a driver, because it accepts no adapter of this machine');
    return front.bad;
  }
  const name = adapter.info.description || adapter.info.device || adapter.info.vendor;
  const once = shaders.map((shader) => ({ ...shader, overrides: shader.overrides.slice(0, 1) }));
  return front.bad + (await pass(`Dawn on ${name}`, adapter, once)).bad;
}

// Exits at once: Dawn's own threads would keep Node alive.
main().then(
  (bad) => process.exit(bad === 0 ? 0 : 1),
  (error) => { console.error(error.message); process.exit(1); },
);
