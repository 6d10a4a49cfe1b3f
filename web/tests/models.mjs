// Models as servers have them: plain, in shards, with a manifest, slow, damaged, without ranges.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { serve } from '../scripts/serve.mjs';

const folder = new URL('../../crates/cli/model/', import.meta.url);
const read = (name) => readFileSync(new URL(name, folder));

/** Greedy texts of the embedded model, made by another implementation and held by the native CPU device. */
export const golden = JSON.parse(read('greedy.json'));

export const PROMPT = Object.keys(golden)[0];

/** The embedded model. */
export function files() {
    return new Map(['config.json', 'tokenizer.json', 'model.safetensors'].map((name) => [name, read(name)]));
}

/** The tensors of the embedded model by their place in its file, and a file of some of them. */
function tensors() {
    const weights = read('model.safetensors');
    const begin = 8 + Number(weights.readBigUInt64LE(0));
    const { __metadata__, ...header } = JSON.parse(weights.subarray(8, begin).toString());
    const all = Object.entries(header).sort(([, a], [, b]) => a.data_offsets[0] - b.data_offsets[0]);
    const file = (some) => {
        const [own, data] = [{}, []];
        let at = 0;
        for (const [name, { data_offsets: [from, to], ...entry }] of some) {
            own[name] = { ...entry, data_offsets: [at, (at += to - from)] };
            data.push(weights.subarray(begin + from, begin + to));
        }
        const text = JSON.stringify(own);
        const json = Buffer.from(text.padEnd(8 * Math.ceil(text.length / 8)));
        const prefix = Buffer.alloc(8);
        prefix.writeBigUInt64LE(BigInt(json.length));
        return Buffer.concat([prefix, json, ...data]);
    };
    return { all, file };
}

/** The same weights in two files with an index. */
export function sharded() {
    const model = files();
    const { all, file } = tensors();
    const middle = all.length >> 1;
    const map = {};
    for (const [index, part] of [all.slice(0, middle), all.slice(middle)].entries()) {
        const name = `model-0000${index + 1}-of-00002.safetensors`;
        for (const [tensor] of part) map[tensor] = name;
        model.set(name, file(part));
    }
    model.delete('model.safetensors');
    model.set('model.safetensors.index.json', Buffer.from(JSON.stringify({ metadata: {}, weight_map: map })));
    return model;
}

/** Its layers before the first with attention: a third of the shaders, and nothing to say. */
export function withoutAttention() {
    const model = files();
    const { selective_attention, ...config } = JSON.parse(model.get('config.json').toString());
    const layers = config.layer_types.indexOf('selective_attention');
    config.layer_types.length = layers;
    const { all, file } = tensors();
    const some = all.filter(([name]) => Number(/^layers\.(\d+)\./.exec(name)?.[1] ?? 0) < layers);
    return new Map([...model, ['config.json', Buffer.from(JSON.stringify(config))], ['model.safetensors', file(some)]]);
}

/** Adds the list of sizes and hashes. */
export function withManifest(all) {
    const entry = (bytes) => ({ size: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') });
    const list = Object.fromEntries([...all].map(([name, bytes]) => [name, entry(bytes)]));
    return new Map([...all, ['model-manifest.json', Buffer.from(JSON.stringify({ files: list }))]]);
}

/** A copy with one byte of a file changed, somewhere in its weights. */
export function damaged(all, name) {
    const bytes = Buffer.from(all.get(name));
    bytes[bytes.length - 5000] ^= 0x10;
    return new Map([...all, [name, bytes]]);
}

function send(response, bytes, { headers, status, bytesPerSecond }) {
    response.writeHead(status, { ...headers, 'content-length': bytes.length });
    if (!bytesPerSecond) return response.end(bytes);
    const step = Math.ceil(bytesPerSecond / 50);
    let at = 0;
    const timer = setInterval(() => {
        if (response.destroyed) return clearInterval(timer);
        response.write(bytes.subarray(at, (at += step)));
        if (at < bytes.length) return;
        clearInterval(timer);
        response.end();
    }, 20);
}

/**
 * What a hub has of the models in `models` that have an `id`: a list of files, and addresses of files at a revision. Small
 * ones it answers itself, large ones it sends elsewhere, with the file's hash as their version.
 */
function hub(request, response, models) {
    const { pathname } = new URL(request.url, 'http://localhost');
    const [, kind, id, at, name] = /^\/hub\/(api\/models\/)?([^/]+\/[^/]+)\/(?:tree|resolve)\/([^/]+)(?:\/(.+))?$/.exec(pathname) ?? [];
    const [key, model] = Object.entries(models).find(([, model]) => id && model.id === id) ?? [];
    if (!model) return false;
    const headers = { 'access-control-allow-origin': '*', 'x-repo-commit': 'c0ffee' };
    const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');
    if (decodeURIComponent(at) !== model.revision) {
        response.writeHead(404, { ...headers, 'x-error-code': 'RevisionNotFound' }).end('Revision not found');
    } else if (kind) {
        const list = [...model.files].map(([path, bytes]) => {
            const lfs = path.endsWith('.safetensors') ? { lfs: { oid: model.oid ?? sha256(bytes), size: bytes.length, pointerSize: 135 } } : {};
            return { type: 'file', oid: '0'.repeat(40), path, size: bytes.length, ...lfs };
        });
        response.writeHead(200, { ...headers, 'content-type': 'application/json' }).end(JSON.stringify([{ type: 'directory', oid: '1', path: 'x', size: 0 }, ...list]));
    } else if (!model.files.has(name)) {
        response.writeHead(404, { ...headers, 'x-error-code': 'EntryNotFound' }).end('Entry not found');
    } else if (name.endsWith('.safetensors')) {
        const linked = { 'x-linked-size': model.files.get(name).length, 'x-linked-etag': `"${sha256(model.files.get(name))}"` };
        const { port } = request.socket.address();
        // Another origin, as the hub's own storage is.
        response.writeHead(302, { ...headers, ...linked, location: `http://127.0.0.1:${port}/models/${key}/${name}` }).end();
    } else {
        response.writeHead(200, headers).end(model.files.get(name));
    }
    return true;
}

/**
 * Serves the package and models below `/models/NAME/`. A model has `files` and, if wanted, `ranges: false`,
 * `bytesPerSecond`, and `broken(name)`, which says with which status a request fails. All requests for weights are noted.
 */
export async function serveModels(models) {
    const requests = [];
    const before = (request, response) => {
        const path = decodeURIComponent(new URL(request.url, 'http://localhost').pathname);
        if (path === '/blank.html') {
            response.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html><title>blank</title><link rel="icon" href="data:,">');
            return true;
        }
        if (hub(request, response, models)) return true;
        const [, name, file] = /^\/models\/([^/]+)\/(.+)$/.exec(path) ?? [];
        const model = models[name];
        if (!model) return false;
        const bytes = model.files.get(file);
        const failed = model.broken?.(file);
        if (file.endsWith('.safetensors')) requests.push({ model: name, file, range: request.headers.range, method: request.method });
        if (failed || !bytes) {
            response.writeHead(failed ?? 404).end();
            return true;
        }
        const { bytesPerSecond } = file.endsWith('.safetensors') ? model : {};
        const found = model.ranges === false ? null : /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
        const headers = {
            'content-type': 'application/octet-stream',
            etag: `"${name}"`,
            'access-control-allow-origin': '*',
            'access-control-expose-headers': 'content-range',
        };
        if (request.method === 'OPTIONS') {
            response.writeHead(204, { ...headers, 'access-control-allow-headers': 'range' }).end();
            return true;
        }
        if (!found) {
            send(response, request.method === 'HEAD' ? Buffer.alloc(0) : bytes, { headers, status: 200, bytesPerSecond });
            return true;
        }
        const [start, end] = [Number(found[1]), Math.min(bytes.length - 1, Number(found[2]))];
        headers['content-range'] = `bytes ${start}-${end}/${bytes.length}`;
        send(response, bytes.subarray(start, end + 1), { headers, status: 206, bytesPerSecond });
        return true;
    };
    const server = await serve(fileURLToPath(new URL('..', import.meta.url)), 0, { before });
    return Object.assign(server, { requests, models });
}
