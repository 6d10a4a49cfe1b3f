// What a visitor downloads, as servers compress it; fails where it has grown past what we promise.

import { readFileSync, readdirSync } from 'node:fs';

import { gzipped } from './gzip.mjs';

const site = new URL('../site/', import.meta.url);
const files = readdirSync(site, { recursive: true }).map((name) => String(name).replaceAll('\\', '/'));
const html = readFileSync(new URL('index.html', site), 'utf8');

/** What the page names in its head; scripts name others, which come later. */
const named = files.filter((name) => name === 'index.html' || (/\.(js|css)$/.test(name) && html.includes(name)));

/** Name, budget in bytes after gzip, and the files that count. */
const BUDGETS = [
    ['text module', 1_000_000, files.filter((name) => /taipan_bg.*\.wasm$/.test(name))],
    ['lab module', 500_000, files.filter((name) => /lab_bg.*\.wasm$/.test(name))],
    ['first paint (page, style, scripts)', 100_000, named],
    ['all scripts', 120_000, files.filter((name) => name.endsWith('.js'))],
];

let failed = false;
for (const [name, budget, counted] of BUDGETS) {
    const contents = counted.map((file) => readFileSync(new URL(file, site)));
    const raw = contents.reduce((sum, content) => sum + content.length, 0);
    const gzip = contents.reduce((sum, content) => sum + gzipped(content), 0);
    const fits = contents.length > 0 && gzip <= budget;
    failed ||= !fits;
    console.log(`${fits ? 'ok  ' : 'FAIL'} ${name}: ${gzip} bytes gzip (${raw} raw), at most ${budget}`);
}
process.exit(failed ? 1 : 0);
