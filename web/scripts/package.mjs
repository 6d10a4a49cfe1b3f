// The package: types and scripts from src to dist, each script made small. The two wasm modules are there already.

import { spawnSync } from 'node:child_process';
import { copyFileSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { transformSync } from 'esbuild';

import { shorten } from './imports.mjs';

const dist = new URL('../dist/', import.meta.url);
const here = (path) => fileURLToPath(new URL(path, import.meta.url));

for (const name of readdirSync(dist)) {
    if (/\.(js|d\.ts)$/.test(name)) rmSync(new URL(name, dist));
}
const { status } = spawnSync(process.execPath, [here('../node_modules/typescript/bin/tsc'), '-p', here('..')], { stdio: 'inherit' });
if (status !== 0) process.exit(status ?? 1);

shorten(new URL('wasm/', dist), 'taipan');
shorten(new URL('lab/', dist), 'lab');

// Script by script, so that a bundler still sees modules and can leave out what is not used.
for (const name of readdirSync(dist, { recursive: true })) {
    if (!name.endsWith('.js')) continue;
    const file = new URL(name, dist);
    const { code } = transformSync(readFileSync(file, 'utf8'), { format: 'esm', target: 'es2022', minify: true });
    writeFileSync(file, code);
}

for (const licence of ['LICENSE-APACHE', 'LICENSE-MIT']) copyFileSync(here(`../../${licence}`), new URL(licence, dist));
