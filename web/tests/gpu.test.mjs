// The package on WebGPU, on a software adapter: the same texts as on the CPU, memory that is given back, a device that is
// lost, a wrong kernel, and the benchmark. (That all kernels are right is seen in the page's tab.)

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import Ajv from 'ajv/dist/2020.js';

import { TIMEOUT } from './browser.mjs';
import { assertGolden, pages } from './inpage.mjs';
import { PROMPT, files, withManifest, withoutAttention } from './models.mjs';

/** Of a session that used subgroups. */
let state;

const models = { plain: { files: withManifest(files()) }, short: { files: withManifest(withoutAttention()) } };
const { here, inPage } = pages(models, { webgpu: true, prepare });

function prepare() {
    const loadOn = globalThis.load;
    globalThis.load = (options = {}, name = 'plain') => loadOn(name, { device: 'gpu', ...options });
    // A software adapter takes half a second for a token.
    globalThis.greedy = { temperature: 0, maxTokens: 12 };
    /** A greedy text with a hash of the state after it. */
    globalThis.outcome = async (model, prompt) => {
        const session = model.createSession();
        const text = await textOf(session.generate(prompt, greedy));
        const state = new Uint8Array(await crypto.subtle.digest('SHA-256', await session.save()));
        return { text, state: [...state].join() };
    };
    /** Counts the bytes of buffers that are alive, and keeps the devices. */
    globalThis.watch = () => {
        const seen = { bytes: 0, buffers: 0, devices: [], subgroups: 0 };
        const { createBuffer, createShaderModule } = GPUDevice.prototype;
        GPUDevice.prototype.createShaderModule = function (descriptor) {
            if (/^enable subgroups;/m.test(descriptor.code)) seen.subgroups++;
            return createShaderModule.call(this, descriptor);
        };
        GPUDevice.prototype.createBuffer = function (descriptor) {
            const buffer = createBuffer.call(this, descriptor);
            if (!seen.devices.includes(this)) seen.devices.push(this);
            seen.bytes += descriptor.size;
            seen.buffers++;
            const { destroy } = buffer;
            let alive = true;
            buffer.destroy = () => {
                if (alive) (seen.bytes -= descriptor.size), seen.buffers--;
                alive = false;
                destroy.call(buffer);
            };
            return buffer;
        };
        return seen;
    };
}

// Two idle cores take 200 s for all of it, in a software adapter's compiler most of the time.
describe('on WebGPU', { timeout: 4 * TIMEOUT }, () => {
    test('in a worker: the text is that of the native CPU device; saved, restored and copied sessions go on alike', async (t) => {
        const seen = await inPage(async (prompt) => {
            const support = await (await import('/dist/index.js')).checkSupport();
            const phases = new Set();
            const model = await load({ onProgress: ({ phase }) => phases.add(phase) });
            const whole = await textOf(model.createSession().generate(prompt, greedy));
            const base = model.createSession();
            const start = await textOf(base.generate(prompt, greedy), (pieces) => pieces === 5);
            const restored = await model.restoreSession(await base.save());
            const fork = await base.fork();
            const rest = [];
            for (const session of [base, restored, fork]) {
                rest.push(start + (await textOf(session.generate('', { ...greedy, maxTokens: 7 }))));
            }
            const told = [];
            const note = ({ first, alpha }) => told.push(...alpha[0].map((_, i) => first + i));
            const traced = model.createSession();
            const text = await (async () => {
                let text = '';
                for await (const event of traced.generate(prompt, { ...greedy, trace: ['gates'] })) {
                    if (event.type === 'gates') note(event);
                    if (event.type === 'text') text += event.text;
                }
                return text;
            })();
            /** Aborts, and says how many tokens came after that and how long it took. */
            const abort = async (session, text, options) => {
                const controller = new AbortController();
                let [stopped, late] = [NaN, 0];
                const until = session.position + 8;
                let made = '';
                const error = await failure(async () => {
                    for await (const event of session.generate(text, { ...greedy, maxTokens: 100, ...options, ignoreEos: true, signal: controller.signal })) {
                        if (event.type === 'gates') note(event);
                        if (event.type === 'text') made += event.text;
                        if (event.type !== 'token') continue;
                        if (controller.signal.aborted) late++;
                        else if (session.position > until) controller.abort(), (stopped = performance.now());
                    }
                });
                return { name: error.name, late, made, ms: performance.now() - stopped };
            };
            const stopped = model.createSession();
            const aborts = [await abort(stopped, prompt, {}), await abort(traced, '', { trace: ['gates'] })];
            const goneOn = aborts[0].made + (await textOf(stopped.generate('', greedy)));
            for await (const event of traced.generate('', { maxTokens: 3, trace: ['gates'] })) if (event.type === 'gates') note(event);
            const estimate = await taipan.estimate('/models/plain/');
            const { device, onGpu } = model;
            const { position } = traced;
            return { support, phases: [...phases], whole, rest, told, position, text, aborts, goneOn, stats: await base.stats(), estimate, device, onGpu };
        }, PROMPT);
        assert.equal(seen.support.ok, true);
        assert.equal(seen.support.code, 'software-adapter');
        assert.ok(seen.support.limits.maxBufferSize > 0 && seen.support.features.length > 0);
        assert.ok(seen.onGpu && /webgpu/.test(seen.device), seen.device);
        assertGolden(seen.whole);
        assert.deepEqual(seen.rest.map((text) => text.slice(0, seen.whole.length)), Array(3).fill(seen.whole));
        assert.equal(seen.text, seen.whole, 'watching the gates changes nothing');
        assert.deepEqual(seen.phases, ['manifest', 'download', 'verify', 'upload', 'compile', 'warmup', 'ready']);
        assert.deepEqual(seen.told, Array.from({ length: seen.position }, (_, i) => i), 'the gates are told of every token once, stopped or not');
        for (const { name, late, ms } of seen.aborts) {
            t.diagnostic(`an abort took ${Math.round(ms)} ms`);
            assert.equal(name, 'AbortError');
            assert.ok(late <= 1, `${late} tokens after an abort`);
        }
        assert.ok(seen.aborts[0].made.length < seen.whole.length, 'it was aborted in the middle');
        assert.equal(seen.goneOn.slice(0, seen.whole.length), seen.whole, 'after an abort the state is that of the tokens delivered');
        assert.ok(seen.stats.dispatches > 10 && seen.stats.submits === 1, JSON.stringify(seen.stats));
        assert.equal(seen.estimate.fits, 'yes');
        const { weights, state, scratch } = seen.stats.bytes;
        assert.equal(weights + state + scratch, seen.estimate.gpuBytes, 'the estimate is what is allocated');
        assert.equal(state, seen.estimate.stateBytes);
        assert.deepEqual(here.opened.troubles, []);
    });

    test('in the thread: the same text; a lost device is reported, and comes back with its sessions; all memory is freed', async () => {
        const seen = await inPage(async (prompt) => {
            const watched = watch();
            const { requestDevice } = GPUAdapter.prototype;
            const { instantiateStreaming } = WebAssembly;
            let memory;
            WebAssembly.instantiateStreaming = async (...given) => {
                const result = await instantiateStreaming(...given);
                memory = result.instance.exports.memory;
                return result;
            };
            const hasSubgroups = (await navigator.gpu.requestAdapter()).features.has('subgroups');
            const model = await load({ worker: false, autoRecover: true, warmup: false });
            const wasmBytes = memory.buffer.byteLength;
            const untouched = GPUAdapter.prototype.requestDevice === requestDevice;
            const { text: whole, state } = await outcome(model, prompt);
            const session = model.createSession();
            const start = await textOf(session.generate(prompt, { ...greedy, maxTokens: 6 }));
            // A loop that is paused must not hold up the others.
            const paused = model.createSession().generate(prompt, greedy);
            await paused.next();
            const events = [];
            model.on('device-lost', ({ reason, recovering }) => events.push({ type: 'lost', reason, recovering }));
            const recovered = new Promise((resolve) => model.on('recovered', ({ error }) => resolve(error?.message)));
            const [device] = watched.devices;
            const error = await failure(async () => {
                for await (const event of session.generate('', { ...greedy, maxTokens: 30 })) {
                    if (event.type === 'text') device.destroy();
                }
            });
            const failed = await recovered;
            const pausedError = await failure(async () => {
                while (!(await paused.next()).done);
            });
            const rest = await textOf(session.generate('', { ...greedy, maxTokens: 6 }));
            const held = await model.gpuBytes();
            const other = model.createSession();
            await other.stats();
            const more = await model.gpuBytes();
            await other.dispose();
            const less = await model.gpuBytes();
            await model.dispose();
            const lost = await Promise.all(watched.devices.map((device) => device.lost.then(({ reason }) => reason)));
            const subgroups = { has: hasSubgroups, used: watched.subgroups, untouched };
            return { wasmBytes, whole, state, subgroups, text: start + rest, events, error, failed, pausedError, held, more, less, lost, bytes: watched.bytes, devices: watched.devices.length };
        }, PROMPT);
        assertGolden(seen.whole);
        const weights = files().get('model.safetensors').length;
        assert.ok(seen.wasmBytes > 0 && seen.wasmBytes < weights, `${seen.wasmBytes} bytes of wasm memory after ${weights} of weights`);
        assert.equal(seen.subgroups.has, true, 'this browser has subgroups, so that they are tried');
        assert.ok(seen.subgroups.used >= 3, `${seen.subgroups.used} shaders use subgroups`);
        assert.ok(seen.subgroups.untouched, 'the browser is left as it was');
        state = seen.state;
        assert.equal(seen.error.code, 'device-lost');
        assert.deepEqual(seen.events.map(({ type, recovering }) => [type, recovering]), [['lost', true]]);
        assert.equal(seen.failed, undefined);
        assert.equal(seen.pausedError?.code, 'device-lost');
        assert.equal(seen.text, seen.whole, 'the session went on from its last snapshot');
        assert.ok(seen.more > seen.held && seen.less === seen.held, `${seen.held} → ${seen.more} → ${seen.less}`);
        assert.equal(seen.devices, 2);
        assert.deepEqual(seen.lost, ['destroyed', 'destroyed'], 'a device that is given back holds nothing');
        assert.ok(seen.bytes < 4096, `${seen.bytes} bytes of buffers were never destroyed`);
        assert.deepEqual(here.opened.troubles, []);
    });

    test('without subgroups the same state to the bit; without recovery a lost device is an error with its code', async () => {
        const seen = await inPage(async (prompt) => {
            const watched = watch();
            Object.defineProperty(GPUAdapter.prototype, 'features', { get: () => new Set() });
            const model = await load({ worker: false, warmup: false });
            const lost = new Promise((resolve) => model.on('device-lost', resolve));
            const { text, state } = await outcome(model, prompt);
            const session = model.createSession();
            const running = failure(async () => {
                for await (const event of session.generate(prompt, { maxTokens: 50 })) {
                    if (event.type === 'text') watched.devices[0].destroy();
                }
            });
            const [error, event] = [await running, await lost];
            const after = await failure(() => session.stats());
            return { text, state, subgroups: watched.subgroups, error, event, after };
        }, PROMPT);
        assertGolden(seen.text);
        assert.equal(seen.subgroups, 0);
        assert.equal(seen.state, state, 'the state is the same, bit by bit');
        assert.equal(seen.error.code, 'device-lost');
        assert.equal(seen.event.recovering, false);
        assert.equal(seen.after.code, 'device-lost');
    });

    test('loading can be given up in every phase, and what was on the device is freed', async () => {
        const seen = await inPage(async () => {
            const watched = watch();
            const phases = ['manifest', 'download', 'verify', 'upload', 'compile', 'warmup'];
            const found = [];
            for (const phase of phases) {
                const controller = new AbortController();
                const heard = [];
                const onProgress = (progress) => {
                    heard.push(progress.phase);
                    if (progress.phase === phase) controller.abort();
                };
                const error = await failure(() => load({ worker: false, signal: controller.signal, onProgress }, 'short'));
                found.push({ phase, name: error?.name, last: heard.at(-1) });
            }
            const lost = await Promise.all(watched.devices.map((device) => device.lost.then(({ reason }) => reason)));
            const before = await failure(() => load({ signal: AbortSignal.abort() }));
            const estimate = await failure(() => taipan.estimate('/models/plain/', { signal: AbortSignal.abort() }));
            return { found, lost, bytes: watched.bytes, others: [before.name, estimate.name] };
        });
        for (const { phase, name, last } of seen.found) assert.deepEqual([name, last], ['AbortError', phase]);
        assert.ok(seen.lost.length >= 2 && seen.lost.every((reason) => reason === 'destroyed'), seen.lost.join());
        assert.ok(seen.bytes < 4096, `${seen.bytes} bytes of buffers were never destroyed`);
        assert.deepEqual(seen.others, ['AbortError', 'AbortError']);
        assert.deepEqual(here.opened.troubles, []);
    });

    test('a device that does not come back is said so, and everything that is asked for rejects', async () => {
        const seen = await inPage(async () => {
            const watched = watch();
            const model = await load({ worker: false, autoRecover: true, warmup: false }, 'short');
            const session = model.createSession();
            await session.stats();
            const recovered = new Promise((resolve) => model.on('recovered', ({ error }) => resolve(error)));
            GPU.prototype.requestAdapter = async () => null;
            watched.devices[0].destroy();
            const { code, message } = await recovered;
            const after = await failure(() => textOf(session.generate('Once', greedy)));
            await model.dispose();
            return { code, message, after };
        });
        assert.deepEqual([seen.code, seen.after.code], ['adapter-null', 'adapter-null'], seen.message);
        assert.deepEqual(here.opened.troubles, []);
    });

    test('a shader that the browser refuses, a crash and an exception are errors, not promises that stay pending', async () => {
        const codes = await inPage(async () => {
            const attempt = async (prototype, key, replacement) => {
                const original = prototype[key];
                prototype[key] = replacement(original);
                const error = await failure(() => load({ worker: false }));
                prototype[key] = original;
                return error;
            };
            const garbled = (original) =>
                function (descriptor) {
                    return original.call(this, { ...descriptor, code: `${descriptor.code}\n!` });
                };
            const shader = await attempt(GPUDevice.prototype, 'createShaderModule', garbled);
            const full = (original) =>
                function (descriptor) {
                    const event = new GPUUncapturedErrorEvent('uncapturederror', { error: new GPUOutOfMemoryError('no room'), cancelable: true });
                    setTimeout(() => this.dispatchEvent(event));
                    return original.call(this, descriptor);
                };
            const memory = await attempt(GPUDevice.prototype, 'createBuffer', full);
            const limits = GPUSupportedLimits.prototype;
            const binding = Object.getOwnPropertyDescriptor(limits, 'maxStorageBufferBindingSize');
            Object.defineProperty(limits, 'maxStorageBufferBindingSize', { configurable: true, get: () => 1 << 20 });
            const small = await failure(() => load({ worker: false }));
            const fit = await taipan.estimate('/models/plain/', { worker: false });
            Object.defineProperty(limits, 'maxStorageBufferBindingSize', binding);
            const none = await attempt(GPU.prototype, 'requestAdapter', () => async () => null);
            // What throws in there is a panic, after which the module is not used again.
            const crash = await attempt(GPUQueue.prototype, 'submit', () => () => {
                throw new TypeError('no submissions today');
            });
            return { shader, memory, small, fit, none, crash };
        });
        assert.equal(codes.shader.code, 'shader-compile');
        assert.ok(codes.shader.hint.length > 10);
        assert.equal(codes.memory.code, 'out-of-memory');
        assert.ok(codes.memory.hint.length > 10);
        assert.equal(codes.small.code, 'limit-too-small');
        assert.ok(codes.small.hint.length > 10);
        assert.equal(codes.fit.fits, 'no');
        assert.match(codes.fit.limitingFactor, /maxStorageBufferBindingSize: .* needs \d+ of 1048576/);
        assert.equal(codes.none.code, 'adapter-null');
        assert.equal(codes.crash.code, 'crashed');
        assert.match(codes.crash.message, /no submissions today/);
    });
});

describe('kernels and speed', { timeout: 4 * TIMEOUT }, () => {
    test('a wrong kernel is noticed', async () => {
        const seen = await inPage(async () => {
            const { createShaderModule } = GPUDevice.prototype;
            GPUDevice.prototype.createShaderModule = function (descriptor) {
                const code = descriptor.label === 'rms_norm' ? descriptor.code.replace('inverseSqrt(', '1.01 * inverseSqrt(') : descriptor.code;
                return createShaderModule.call(this, { ...descriptor, code });
            };
            const { validate } = await import('/dist/bench.js');
            const controller = new AbortController();
            const reports = [];
            const onCase = (report) => {
                reports.push(report);
                if (report.kernel === 'rms_norm_gated') controller.abort();
            };
            await failure(() => validate({ device: 'gpu', worker: false, onCase, signal: controller.signal }));
            return reports.filter(({ ok }) => !ok).map(({ kernel }) => kernel);
        });
        assert.ok(seen.length > 0 && seen.every((kernel) => kernel === 'rms_norm'), seen.join());
    });

    test('given up, neither a validation nor a benchmark goes on in the thread', async () => {
        const seen = await inPage(async () => {
            const watched = watch();
            const { runBenchmark, validate } = await import('/dist/bench.js');
            const give = async (work) => {
                const controller = new AbortController();
                // Without attention: a software adapter compiles its kernels in half the time.
                const options = { device: 'gpu', preset: 'mamba2-4.8m', worker: false, signal: controller.signal };
                const error = await failure(() => work(options, () => controller.abort()));
                return error?.name;
            };
            const names = [await give((options, onCase) => validate({ ...options, onCase }))];
            names.push(await give((options, onStatus) => runBenchmark({ ...options, onStatus })));
            names.push(await give((options, onEntry) => runBenchmark({ ...options, onEntry, rows: [{ prompt: 8, maxTimeMs: 1 }, { generate: 100000 }] })));
            const lost = await Promise.all(watched.devices.map((device) => device.lost.then(({ reason }) => reason)));
            return { names, lost };
        });
        assert.deepEqual(seen.names, Array(3).fill('AbortError'));
        assert.ok(seen.lost.length >= 3 && seen.lost.every((reason) => reason === 'destroyed'), seen.lost.join());
    });

    test('the benchmark writes what the native one does', async () => {
        const entries = await inPage(async () => {
            const { runBenchmark } = await import('/dist/bench.js');
            const rows = [{ prompt: 16 }, { generate: 4 }].map((row) => ({ ...row, repetitions: 1, minTimeMs: 1, maxTimeMs: 1 }));
            const drawn = await runBenchmark({ device: 'gpu', rows: rows.slice(0, 1), kernels: { tokens: 8, repetitions: 1 } });
            const model = await load({ device: 'cpu' });
            const loaded = await runBenchmark({ device: 'cpu', model, rows: rows.slice(1) });
            await model.dispose();
            return [...drawn.slice(0, 1), ...loaded, ...drawn.slice(1)];
        });
        const { createHash } = await import('node:crypto');
        const { model } = entries[1];
        const weights = createHash('sha256').update(files().get('model.safetensors')).digest('hex');
        assert.deepEqual([model.id, model.sha256, model.seed ?? null], ['plain', weights, null], 'a model from files');

        const schema = JSON.parse(readFileSync(new URL('../../crates/bench/schema.json', import.meta.url)));
        const valid = new Ajv({ strict: false, validateFormats: false }).compile(schema);
        assert.ok(valid(entries), JSON.stringify(valid.errors?.slice(0, 3)));
        const kernels = entries.splice(2);
        assert.ok(kernels.length > 10 && kernels.every(({ kernel }) => typeof kernel === 'string'), JSON.stringify(kernels[0]));
        assert.deepEqual(entries.map(({ n_prompt, n_gen }) => [n_prompt, n_gen]), [[16, 0], [0, 4]]);
        for (const { runtime, quality, avg_ts, probes } of entries) {
            assert.equal(runtime.kind, 'browser');
            assert.ok(quality.agreement_rate === 1 && avg_ts > 0 && probes.copy_gbps > 0, JSON.stringify({ quality, avg_ts, probes }));
        }
        delete entries[0].quality;
        assert.equal(valid(entries), false, 'the schema refuses a row without its quality');
    });
});
