// A small static file server for one folder, on this machine only.

import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize, resolve, sep } from 'node:path';

const TYPES = {
    '.css': 'text/css; charset=utf-8',
    '.html': 'text/html; charset=utf-8',
    '.js': 'text/javascript; charset=utf-8',
    '.json': 'application/json; charset=utf-8',
    '.svg': 'image/svg+xml',
    '.wasm': 'application/wasm',
};

/** The file that a request means, or nothing if it points outside the folder. */
function locate(mounts, url) {
    const path = decodeURIComponent(new URL(url, 'http://localhost').pathname);
    const [prefix, folder] = mounts.find(([prefix]) => path.startsWith(prefix));
    const rest = path.slice(prefix.length);
    const file = normalize(join(folder, rest === '' || rest.endsWith('/') ? `${rest}index.html` : rest));
    return file.startsWith(folder + sep) ? file : undefined;
}

/** The bytes that a request asks for; all of them if it does not say, or says it in a way that is not understood. */
function rangeOf(request, size) {
    const found = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
    if (!found) return undefined;
    const start = Number(found[1]);
    const end = Math.min(size - 1, found[2] === '' ? size - 1 : Number(found[2]));
    return { start, end, satisfiable: start < size && start <= end };
}

async function answer(mounts, request, response) {
    let file;
    let found;
    try {
        file = locate(mounts, request.url);
        found = file && (await stat(file));
        if (!found?.isFile()) throw new Error('not a file');
    } catch {
        response.writeHead(404, { 'content-type': 'text/plain' }).end('not found\n');
        return;
    }
    const { size, mtimeMs } = found;
    const range = rangeOf(request, size);
    const headers = {
        'content-type': TYPES[extname(file)] ?? 'application/octet-stream',
        'cache-control': 'no-cache',
        'x-content-type-options': 'nosniff',
        'accept-ranges': 'bytes',
        etag: `"${size}-${Math.round(mtimeMs)}"`,
    };
    if (request.headers['if-none-match'] === headers.etag) {
        response.writeHead(304, headers).end();
        return;
    }
    if (range && !range.satisfiable) {
        response.writeHead(416, { 'content-range': `bytes */${size}` }).end();
        return;
    }
    const { start, end } = range ?? { start: 0, end: size - 1 };
    const length = { 'content-length': end - start + 1 };
    if (range) response.writeHead(206, { ...headers, ...length, 'content-range': `bytes ${start}-${end}/${size}` });
    else response.writeHead(200, { ...headers, ...length });
    if (request.method === 'HEAD' || size === 0) response.end();
    else createReadStream(file, { start, end }).on('error', () => response.destroy()).pipe(response);
}

/**
 * Serves a folder, and others below a path: `{ '/model/': folder }`. `before` may answer a request itself, and then returns
 * true. Resolves to the server, with `url`. Port 0 is any free one.
 */
export function serve(folder, port, { mounts = {}, before = () => false } = {}) {
    const all = [...Object.entries(mounts), ['/', folder]].map(([prefix, path]) => [prefix, resolve(path)]);
    const server = createServer((request, response) => {
        if (!before(request, response)) void answer(all, request, response);
    });
    return new Promise((ready, reject) => {
        server.once('error', reject);
        server.listen(port, '127.0.0.1', () => {
            server.url = `http://localhost:${server.address().port}/`;
            ready(server);
        });
    });
}
