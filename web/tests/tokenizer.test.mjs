// The tokenizer in a browser: texts have the ids that they have natively, where the same file of cases is read.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { TIMEOUT, launch, open } from './browser.mjs';
import { files, serveModels, withManifest } from './models.mjs';

const cases = JSON.parse(readFileSync(new URL('../../tests/golden/tokenizers/ids.json', import.meta.url))).embedded;

test('texts have the ids that they have natively', { timeout: TIMEOUT }, async (context) => {
    const server = await serveModels({ plain: { files: withManifest(files()) } });
    context.after(() => {
        server.closeAllConnections();
        server.close();
    });
    const browser = await launch({ webgpu: false });
    context.after(() => browser.close());
    const { page } = await open(browser, `${server.url}blank.html`);
    const seen = await page.evaluate(async (texts) => {
        const { loadModel } = await import('/dist/index.js');
        const model = await loadModel('/models/plain/', { device: 'cpu' });
        const ids = [];
        for (const text of texts) ids.push((await model.tokenize(text)).map(({ id }) => id));
        await model.dispose();
        return ids;
    }, cases.map(({ text }) => text));
    assert.ok(cases.length > 30);
    for (const [index, { text, ids }] of cases.entries()) assert.deepEqual(seen[index], ids, JSON.stringify(text));
});
