// What a visitor downloads, as servers compress it; fails where it has grown past what we promise.

import { readFileSync, readdirSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

const site = new URL('../site/', import.meta.url);
const files = readdirSync(site, { recursive: true }).filter((name) => !name.startsWith('model'));

/** Name, budget in bytes after gzip, and the files that count. */
const BUDGETS = [
    ['wasm', 1_000_000, /\.wasm$/],
    ['scripts', 40_000, /\.js$/],
    ['first paint (page, style, scripts)', 100_000, /\.(html|css|js)$/],
];

let failed = false;
for (const [name, budget, pattern] of BUDGETS) {
    const contents = files.filter((file) => pattern.test(file)).map((file) => readFileSync(new URL(file, site)));
    const raw = contents.reduce((sum, content) => sum + content.length, 0);
    const gzip = contents.reduce((sum, content) => sum + gzipSync(content, { level: 9 }).length, 0);
    const fits = contents.length > 0 && gzip <= budget;
    failed ||= !fits;
    console.log(`${fits ? 'ok  ' : 'FAIL'} ${name}: ${gzip} bytes gzip (${raw} raw), at most ${budget}`);
}
process.exit(failed ? 1 : 0);
