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
function locate(folder, url) {
    const path = decodeURIComponent(new URL(url, 'http://localhost').pathname);
    const file = normalize(join(folder, path.endsWith('/') ? `${path}index.html` : path));
    return file.startsWith(folder + sep) ? file : undefined;
}

async function answer(folder, request, response) {
    let file;
    let size;
    try {
        file = locate(folder, request.url);
        const found = file && (await stat(file));
        if (!found?.isFile()) throw new Error('not a file');
        size = found.size;
    } catch {
        response.writeHead(404, { 'content-type': 'text/plain' }).end('not found\n');
        return;
    }
    response.writeHead(200, {
        'content-type': TYPES[extname(file)] ?? 'application/octet-stream',
        'content-length': size,
        'cache-control': 'no-cache',
        'x-content-type-options': 'nosniff',
    });
    if (request.method === 'HEAD') response.end();
    else createReadStream(file).on('error', () => response.destroy()).pipe(response);
}

/** Serves a folder; resolves to the server, with `url`. Port 0 is any free one. */
export function serve(folder, port) {
    const root = resolve(folder);
    const server = createServer((request, response) => void answer(root, request, response));
    return new Promise((ready, reject) => {
        server.once('error', reject);
        server.listen(port, '127.0.0.1', () => {
            server.url = `http://localhost:${server.address().port}/`;
            ready(server);
        });
    });
}
