// What the built page needs besides what Vite makes: a recorded run, the golden cases, and a service worker that keeps the page's files, so
// that it works without a network after the first visit. The model is kept by the package itself.

import { createHash } from 'node:crypto';
import { cpSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';

import { record } from './record.mjs';

const site = new URL('../site/', import.meta.url);

const recording = await record();
if (recording.tokens.length < 50 || !recording.tokens[0].alpha) throw new Error('the recorded run has no tokens or no gates');
writeFileSync(new URL('recorded.json', site), JSON.stringify(recording));
cpSync(new URL('../../tests/golden/taipan/', import.meta.url), new URL('golden/', site), { recursive: true });

const names = readdirSync(site, { recursive: true })
    .map((name) => String(name).replaceAll('\\', '/'))
    .filter((name) => !name.startsWith('model/') && name !== 'sw.js' && statSync(new URL(name, site)).isFile());
const hash = createHash('sha256');
for (const name of names) hash.update(name).update(readFileSync(new URL(name, site)));
const version = `taipan-page-${hash.digest('hex').slice(0, 16)}`;

// The program's modules and the golden cases are large, so they are fetched with the model, when somebody loads that; the rest is fetched at once.
const large = (name) => name.endsWith('.wasm') || name.startsWith('golden/');
const first = ['./', ...names.filter((name) => !large(name))];
const later = [...names.filter(large), 'model/greedy.json'];

writeFileSync(
    new URL('sw.js', site),
    `const VERSION = ${JSON.stringify(version)};
const FIRST = ${JSON.stringify(first)};
const LATER = ${JSON.stringify(later)};

self.addEventListener('install', (event) => {
    event.waitUntil(caches.open(VERSION).then((cache) => cache.addAll(FIRST)).then(() => self.skipWaiting()));
});

self.addEventListener('activate', (event) => {
    const old = (names) => names.filter((name) => name.startsWith('taipan-page-') && name !== VERSION);
    const clean = async () => Promise.all(old(await caches.keys()).map((name) => caches.delete(name)));
    event.waitUntil(clean().then(() => self.clients.claim()));
});

// The page says so when the model is loaded: what the other tabs need is there without a network then.
self.addEventListener('message', (event) => {
    const keep = async () => {
        const cache = await caches.open(VERSION);
        for (const name of LATER) if (!(await cache.match(name))) await cache.add(name);
    };
    if (event.data === 'keep') event.waitUntil(keep().catch(() => {})); // no space, or no network: another time
});

async function answer(request) {
    const cache = await caches.open(VERSION);
    const kept = await cache.match(request, { ignoreSearch: true });
    if (kept) return kept;
    const response = await fetch(request);
    if (response.ok && LATER.some((name) => request.url === new URL(name, self.registration.scope).href)) await cache.put(request, response.clone()).catch(() => {}); // no space: it goes without
    return response;
}

self.addEventListener('fetch', (event) => {
    const { request } = event;
    const below = new URL(request.url).href.startsWith(self.registration.scope);
    const { pathname } = new URL(request.url);
    const model = pathname.includes('/model/') && !pathname.endsWith('/greedy.json');
    if (request.method === 'GET' && below && !model) event.respondWith(answer(request));
});
`,
);
console.log(`${first.length} files kept at the first visit, ${recording.tokens.length} tokens recorded`);
process.exit(0); // ports of the runtime may still be open
