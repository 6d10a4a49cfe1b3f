// The compiled package in a page of its own, without a bundler: downloads, the cache, errors. On the CPU device,
// which needs no time to compile; what WebGPU does is in gpu.test.mjs.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { TIMEOUT } from './browser.mjs';
import { assertGolden, helpers, pages } from './inpage.mjs';
import { PROMPT, damaged, files, sharded, withManifest } from './models.mjs';

const plain = files();
const parts = sharded();
const shard = [...parts.keys()].find((name) => name.endsWith('.safetensors'));
const size = plain.get('model.safetensors').length;
const PART = 1 << 21;

/** A file that means the same and has another hash. */
function withSpaces(all, name) {
    return new Map([...all, [name, Buffer.concat([all.get(name), Buffer.from(' ')])]]);
}

const { here, inPage } = pages({
    plain: { files: withManifest(plain) },
    bare: { files: plain },
    parts: { files: withManifest(parts) },
    damaged: { files: damaged(withManifest(parts), shard) },
    otherConfig: { files: withSpaces(withManifest(plain), 'config.json') },
    otherTokenizer: { files: withSpaces(withManifest(plain), 'tokenizer.json') },
    slow: { files: withManifest(plain), bytesPerSecond: 6e6 },
    whole: { files: plain, ranges: false },
    hub: { files: plain, id: 'stories/small', revision: 'refs/pr/1' },
    hubShards: { files: parts, id: 'stories/parts', revision: 'main' },
    hubDamaged: { files: plain, id: 'stories/damaged', revision: 'main', oid: 'ab'.repeat(32) },
    missing: { files: new Map([...plain].filter(([name]) => !name.endsWith('.safetensors'))) },
    refused: { files: plain, broken: (name) => (name === 'config.json' ? 403 : undefined) },
    foreign: { files: new Map([...plain, ['config.json', Buffer.from('{"model_type": "llama"}')]]) },
    cut: { files: new Map([...plain, ['model.safetensors', plain.get('model.safetensors').subarray(0, 3_000_000)]]) },
});

describe('downloads and the cache', { timeout: 2 * TIMEOUT }, () => {
    test('a model is downloaded in one piece, kept, and comes from the cache after a reload', async () => {
        const visit = async (prompt) => {
            const reports = [];
            const onProgress = (progress) => reports.push({ ...progress, at: performance.now() });
            const model = await load('plain', { onProgress });
            const text = await textOf(model.createSession().generate(prompt, greedy));
            const { info } = model;
            await model.dispose();
            const { cache } = taipan;
            return { text, info, reports, has: await cache.has('/models/plain/'), list: await cache.list() };
        };
        const first = await inPage(visit, PROMPT);
        assertGolden(first.text);
        assert.equal(first.info.fromCache, false);
        assert.equal(first.info.cache, 'opfs');
        assert.equal(here.server.requests.length, 1, JSON.stringify(here.server.requests));
        assert.ok(first.has && first.list.length === 1 && first.list[0].complete && first.list[0].bytes >= size);

        const phases = [...new Set(first.reports.map(({ phase }) => phase))];
        assert.deepEqual(phases, ['manifest', 'download', 'verify', 'upload', 'compile', 'ready']);
        for (const [i, { fraction, at, total, loaded }] of first.reports.entries()) {
            assert.ok(i === 0 || fraction >= first.reports[i - 1].fraction, 'the fraction went back');
            assert.ok(loaded <= total || total === 0);
            const recent = first.reports.filter((other) => other.at > at - 1000 && other.at <= at);
            assert.ok(recent.length <= 10, `${recent.length} reports in a second`);
        }
        assert.equal(first.reports.at(-1).fraction, 1);

        await here.opened.page.reload();
        here.server.requests.length = 0;
        const second = await inPage(visit, PROMPT);
        assert.equal(second.info.fromCache, true);
        assert.equal(second.text, first.text);
        assert.deepEqual(here.server.requests, []);
        assert.ok(second.reports.some(({ fromCache }) => fromCache));
        assert.deepEqual(here.opened.troubles, []);
    });

    test('nothing of the weights is in memory as a whole', async () => {
        // The GPU's memory is elsewhere; on the CPU device the weights themselves are in the wasm memory, once.
        const largest = await inPage(async () => {
            let largest = 0;
            const note = (bytes) => (largest = Math.max(largest, bytes));
            for (const { prototype } of [Blob, Response]) {
                const { arrayBuffer } = prototype;
                prototype.arrayBuffer = async function () {
                    const buffer = await arrayBuffer.call(this);
                    note(buffer.byteLength);
                    return buffer;
                };
            }
            globalThis.Uint8Array = new Proxy(Uint8Array, {
                construct(target, given, proxy) {
                    if (typeof given[0] === 'number') note(given[0]);
                    return Reflect.construct(target, given, proxy);
                },
            });
            const seen = {};
            for (const [how, options] of [['downloaded', {}], ['kept', {}], ['in ranges', { cache: 'none' }]]) {
                largest = 0;
                await (await load('plain', { worker: false, ...options })).dispose();
                seen[how] = largest;
            }
            return seen;
        });
        // The tokenizer is a file that is read whole.
        for (const [how, bytes] of Object.entries(largest)) assert.ok(bytes > 0 && bytes <= PART + 32, `${how}: ${bytes} bytes at once`);
        assert.ok(size > 4 * PART, 'a whole file would be noticed');
    });

    test('a download that was aborted goes on where it stopped, after a reload too', async () => {
        const aborted = await inPage(async () => {
            const controller = new AbortController();
            const onProgress = ({ phase, loaded }) => {
                if (phase === 'download' && loaded > 3e6) controller.abort();
            };
            const error = await failure(() => load('slow', { signal: controller.signal, onProgress }));
            return { error, has: await taipan.cache.has('/models/slow/'), list: await taipan.cache.list() };
        });
        assert.equal(aborted.error.name, 'AbortError');
        assert.equal(aborted.has, false);
        assert.equal(aborted.list[0].complete, false);
        assert.ok(aborted.list[0].bytes >= PART, `${aborted.list[0].bytes} bytes were kept`);

        await here.opened.page.reload();
        here.server.requests.length = 0;
        const text = await inPage(async (prompt) => {
            const model = await load('slow');
            return textOf(model.createSession().generate(prompt, greedy));
        }, PROMPT);
        assertGolden(text);
        const starts = here.server.requests.map(({ range }) => Number(/bytes=(\d+)-/.exec(range ?? 'bytes=0-')[1]));
        assert.ok(Math.min(...starts) >= PART, `fetched again from ${Math.min(...starts)}`);
    });

    test('a damaged shard is an integrity error, and nothing of it is kept', async () => {
        const seen = await inPage(async () => {
            const error = await failure(() => load('damaged'));
            const small = [await failure(() => load('otherConfig')), await failure(() => load('otherTokenizer', { cache: 'none' }))];
            return { error, small, list: await taipan.cache.list() };
        });
        assert.deepEqual(seen.small.map(({ code, details }) => [code, details.file]), [['integrity', 'config.json'], ['integrity', 'tokenizer.json']]);
        assert.equal(seen.error.code, 'integrity');
        assert.ok(seen.error.ours, 'the class is the exported one');
        assert.ok(seen.error.message.includes(shard), seen.error.message);
        assert.equal(seen.list.some(({ complete }) => complete), false);
    });

    test('matrices can be stored in another format', async () => {
        const seen = await inPage(async (prompt) => {
            const bytes = {};
            for (const dtype of ['auto', 'f32', 'q8', 'q4']) {
                const model = await load('plain', { dtype });
                const session = model.createSession();
                const text = await textOf(session.generate(prompt, greedy));
                bytes[dtype] = { weights: (await session.stats()).bytes.weights, estimate: await taipan.estimate('/models/plain/', { dtype }), text };
                await model.dispose();
            }
            return bytes;
        }, PROMPT);
        const sizes = ['f32', 'auto', 'q8', 'q4'].map((dtype) => seen[dtype].weights);
        for (const [i, bytes] of sizes.entries()) assert.ok(i === 0 || bytes < 0.7 * sizes[i - 1], sizes.join());
        for (const dtype of ['f32', 'auto']) assertGolden(seen[dtype].text);
        for (const { weights, estimate, text } of Object.values(seen)) assert.ok(text.length > 20 && estimate.gpuBytes > weights, JSON.stringify(estimate));
    });

    test('shards load as the single file does', async () => {
        const text = await inPage(async (prompt) => textOf((await load('parts')).createSession().generate(prompt, greedy)), PROMPT);
        assertGolden(text);
    });

    test('a part that was damaged on the disk is noticed and fetched again', async () => {
        const seen = await inPage(async (prompt) => {
            await (await load('plain')).dispose();
            const root = await (await navigator.storage.getDirectory()).getDirectoryHandle('taipan-models');
            const [[, model]] = await Array.fromAsync(root.entries());
            const parts = await (await model.getDirectoryHandle('model.safetensors')).getDirectoryHandle('parts');
            const handle = await parts.getFileHandle('1');
            const bytes = new Uint8Array(await (await handle.getFile()).arrayBuffer());
            bytes[bytes.length >> 1] ^= 1;
            const writable = await handle.createWritable();
            await writable.write(bytes);
            await writable.close();
            const error = await failure(() => load('plain'));
            const again = await load('plain');
            return { error, text: await textOf(again.createSession().generate(prompt, greedy)) };
        }, PROMPT);
        assert.equal(seen.error.code, 'integrity');
        assertGolden(seen.text);
    });

    test('without space there is an error, and a way to load all the same', async () => {
        await inPage(() => 0);
        const session = await here.opened.page.context().newCDPSession(here.opened.page);
        await session.send('Storage.overrideQuotaForOrigin', { origin: new URL(here.server.url).origin, quotaSize: 8_000_000 });
        const seen = await inPage(async (prompt) => {
            // Chromium promises more than it has, so it shows in the middle; a browser that tells is believed.
            const middle = await failure(() => load('plain'));
            const { estimate } = StorageManager.prototype;
            StorageManager.prototype.estimate = async () => ({ quota: 8e6, usage: 7e6 });
            const error = await failure(() => load('plain', { worker: false }));
            StorageManager.prototype.estimate = estimate;
            const model = await load('plain', { cache: 'none' });
            return { error, middle, text: await textOf(model.createSession().generate(prompt, greedy)) };
        }, PROMPT);
        const requests = here.server.requests.length;
        await session.send('Storage.overrideQuotaForOrigin', { origin: new URL(here.server.url).origin });
        assert.equal(seen.error.code, 'quota-exceeded');
        assert.match(seen.error.hint, /cache: 'none'/);
        assert.equal(seen.error.details.available, 1e6, JSON.stringify(seen.error));
        assert.ok(seen.error.details.needed > 8e6 && seen.error.details.needed < size, 'some of it is there');
        assert.equal(seen.middle.code, 'quota-exceeded');
        assert.ok(seen.middle.details.key.includes('/parts/'), JSON.stringify(seen.middle.details));
        assertGolden(seen.text);
        const again = await inPage(async (prompt) => textOf((await load('plain')).createSession().generate(prompt, greedy)), PROMPT);
        assertGolden(again);
        const { range } = here.server.requests[requests];
        assert.match(range, /^bytes=[1-9]/, 'with space again, it goes on where it stopped');
    });

    test('where nothing is kept, hashes are compared all the same', async () => {
        const seen = await inPage(async (prompt) => {
            const phases = new Set();
            const onProgress = ({ phase }) => phases.add(phase);
            const model = await load('parts', { cache: 'none', onProgress });
            const text = await textOf(model.createSession().generate(prompt, greedy));
            await model.dispose();
            const error = await failure(() => load('damaged', { cache: 'none' }));
            return { text, error, phases: [...phases], list: await taipan.cache.list() };
        }, PROMPT);
        assertGolden(seen.text);
        assert.ok(seen.phases.includes('verify'), seen.phases.join());
        assert.equal(seen.error.code, 'integrity');
        assert.ok(seen.error.message.includes(shard), seen.error.message);
        assert.deepEqual(seen.list, []);
    });

    test('from a hub: its list of files, a revision, redirections to another origin, hashes', async () => {
        const seen = await inPage(async (prompt) => {
            globalThis.taipan = await import('/dist/index.js');
            const hub = new URL('/hub', location.href);
            const options = { device: 'cpu', hub };
            const source = 'hf:stories/small@refs/pr/1';
            const estimate = await taipan.estimate(source, { hub });
            const read = async (source, more) => {
                const model = await taipan.loadModel(source, { ...options, ...more });
                const text = await textOf(model.createSession().generate(prompt, greedy));
                const { fromCache } = model.info;
                await model.dispose();
                return { text, fromCache };
            };
            const first = await read(source);
            const second = await read(source);
            const shards = await read('hf:stories/parts', { cache: 'none' });
            const has = [await taipan.cache.has(source, hub), await taipan.cache.has(source)];
            const damaged = await failure(() => taipan.loadModel('hf:stories/damaged', options));
            const revision = await failure(() => taipan.loadModel('hf:stories/small@no-such', options));
            return { estimate, first, second, shards, has, damaged, revision };
        }, PROMPT);
        assert.equal(seen.estimate.downloadBytes, size);
        for (const key of ['first', 'second', 'shards']) assertGolden(seen[key].text);
        assert.deepEqual([seen.first.fromCache, seen.second.fromCache], [false, true]);
        assert.deepEqual(seen.has, [true, false]);
        assert.equal(seen.damaged.code, 'integrity');
        assert.equal(seen.revision.code, 'weights-invalid');
        assert.ok(here.server.requests.every(({ model }) => model.startsWith('hub')), 'the files came from where the hub sent us');
    });

    test('where the private file system is missing, other stores stand in', async () => {
        for (const [hide, kind] of [[['opfs'], 'cache'], [['opfs', 'cache'], 'memory']]) {
            const info = await inPage(async (hide) => {
                // The stores are chosen where things are computed, so this is done in the thread.
                if (hide.includes('opfs')) navigator.storage.getDirectory = () => Promise.reject(new Error('hidden'));
                if (hide.includes('cache')) Object.defineProperty(globalThis, 'caches', { value: undefined, configurable: true });
                const first = await load('plain', { worker: false });
                await first.dispose();
                const second = await load('plain', { worker: false });
                return second.info;
            }, hide);
            assert.deepEqual([info.cache, info.fromCache], [kind, true]);
            await here.opened.page.reload();
        }
    });

    test('a server without ranges, without a manifest, and files that somebody dropped', async () => {
        const seen = await inPage(async (prompt) => {
            const text = async (source, options) => {
                const model = await taipan.loadModel(source, { device: 'cpu', ...options });
                const text = await textOf(model.createSession().generate(prompt, greedy));
                await model.dispose();
                return text;
            };
            globalThis.taipan = await import('/dist/index.js');
            const names = ['config.json', 'tokenizer.json', 'model.safetensors'];
            const dropped = await Promise.all(
                names.map(async (name) => new File([await (await fetch(`/models/bare/${name}`)).arrayBuffer()], name)),
            );
            const manifest = await (await fetch('/models/plain/model-manifest.json')).text();
            const entry = (files) => new File([JSON.stringify({ files })], 'model-manifest.json');
            const { files } = JSON.parse(manifest);
            const checked = await text([...dropped, entry(files)]);
            const wrong = [];
            for (const name of names) {
                const other = { ...files, [name]: { ...files[name], sha256: 'ab'.repeat(32) } };
                wrong.push((await failure(() => taipan.loadModel([...dropped, entry(other)], { device: 'cpu' })))?.details.file);
            }
            const estimate = await taipan.estimate('/models/whole/');
            return { checked, wrong, names, whole: await text('/models/whole/'), bare: await text('/models/bare/'), dropped: await text(dropped), estimate };
        }, PROMPT);
        for (const key of ['whole', 'bare', 'dropped', 'checked']) assertGolden(seen[key]);
        assert.deepEqual(seen.wrong, seen.names, 'dropped files are held to a manifest among them');
        assert.equal(seen.estimate.downloadBytes, size);
    });

    test('two tabs that load the same model download it once', async () => {
        await inPage(() => 0);
        const other = await here.opened.page.context().newPage();
        await other.addInitScript(helpers);
        await other.goto(`${here.server.url}blank.html`);
        const visit = async (prompt) => {
            const model = await load('slow');
            return textOf(model.createSession().generate(prompt, greedy));
        };
        const texts = await Promise.all([here.opened.page.evaluate(visit, PROMPT), other.evaluate(visit, PROMPT)]);
        texts.forEach(assertGolden);
        assert.equal(here.server.requests.length, 1, JSON.stringify(here.server.requests));
    });

    test('an estimate reads the header, and the cache can be emptied', async () => {
        const seen = await inPage(async () => {
            globalThis.taipan = await import('/dist/index.js');
            const before = await taipan.estimate('/models/plain/');
            const fetched = performance.getEntriesByType('resource').filter(({ name }) => name.endsWith('.safetensors'));
            await (await load('plain')).dispose();
            const between = await taipan.estimate('/models/plain/');
            const { usage, quota } = await taipan.cache.estimate();
            const persisted = await taipan.cache.persist();
            await taipan.cache.delete('/models/plain/');
            return { before, between, usage, quota, persisted, list: await taipan.cache.list(), fetched: fetched.length };
        });
        assert.deepEqual([seen.before.downloadBytes, seen.before.cachedBytes], [size, 0]);
        assert.deepEqual([seen.between.downloadBytes, seen.between.cachedBytes], [0, size]);
        assert.ok(seen.before.gpuBytes > seen.before.stateBytes && seen.before.stateBytes > 0);
        assert.equal(seen.before.fits, 'unknown');
        assert.match(seen.before.limitingFactor, /no WebGPU adapter/);
        assert.ok(seen.usage >= size && seen.quota > seen.usage);
        assert.equal(typeof seen.persisted, 'boolean');
        assert.deepEqual(seen.list, []);
        const whole = here.server.requests.findIndex(({ range }) => range === undefined);
        const asked = here.server.requests.slice(0, whole).map(({ range }) => Number(/^bytes=0-(\d+)$/.exec(range)?.[1]));
        const header = Number(plain.get('model.safetensors').readBigUInt64LE(0));
        assert.ok(asked.length >= 2 && asked.every((end) => end <= 7 + header), `the estimate asked for the header alone: ${asked}`);
    });
});

describe('errors', { timeout: 2 * TIMEOUT }, () => {
    test('each has its code, its words and the exported class', async () => {
        const seen = await inPage(async () => {
            globalThis.taipan = await import('/dist/index.js');
            const { loadModel } = taipan;
            return {
                status: await failure(() => load('refused')),
                missing: await failure(() => load('missing')),
                foreign: await failure(() => load('foreign')),
                cut: await failure(() => load('cut')),
                network: await failure(() => loadModel('http://localhost:9/none/', { device: 'cpu' })),
                source: await failure(() => loadModel('hf:no-slash')),
                gpu: await failure(() => load('plain', { device: 'gpu' })),
                dtype: await failure(() => load('plain', { dtype: 'f12' })),
                worker: await failure(() => load('plain', { worker: '/no-such-worker.js' })),
            };
        });
        const codes = Object.fromEntries(Object.entries(seen).map(([key, error]) => [key, error?.code]));
        assert.deepEqual(codes, {
            status: 'http-status',
            missing: 'weights-invalid',
            foreign: 'model-unsupported',
            cut: 'weights-invalid',
            network: 'network',
            source: 'invalid-option',
            gpu: 'adapter-null',
            dtype: 'invalid-option',
            worker: 'crashed',
        });
        for (const [key, error] of Object.entries(seen)) assert.ok(error.ours && error.message.length > 10, key);
        assert.equal(seen.status.details.status, 403);
    });

    test('where WebGPU is missing or fails, support is described and loading on it is an error', async () => {
        const seen = await inPage(async () => {
            globalThis.taipan = await import('/dist/index.js');
            const both = async () => [await taipan.checkSupport(), await failure(() => load('plain', { device: 'gpu', worker: false }))];
            navigator.gpu.requestAdapter = () => Promise.reject(new Error('broken'));
            const [broken] = await both();
            delete GPUAdapter.prototype.info;
            const [old, oldError] = await both();
            const standIn = (await load('plain', { device: 'auto', worker: false })).device;
            Object.defineProperty(Navigator.prototype, 'gpu', { get: () => undefined });
            const [missing, error] = await both();
            return { broken, old, oldError, standIn, missing, error };
        });
        assert.deepEqual([seen.broken.ok, seen.broken.code], [false, 'adapter-null'], 'it does not throw');
        assert.deepEqual([seen.old.ok, seen.old.code, seen.oldError.code], [false, 'webgpu-unavailable', 'webgpu-unavailable']);
        assert.match(seen.standIn, /^CPU/);
        assert.deepEqual([seen.missing.ok, seen.missing.code, seen.error.code], [false, 'webgpu-unavailable', 'webgpu-unavailable']);
        assert.ok(seen.missing.hints.length === 1 && seen.error.hint.length > 10);
    });
});
