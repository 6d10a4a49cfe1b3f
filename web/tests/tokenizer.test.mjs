// The tokenizer in a browser: texts have the ids that they have natively, where the same file of cases is read.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { TIMEOUT } from './browser.mjs';
import { pages } from './inpage.mjs';
import { files, withManifest } from './models.mjs';

const cases = JSON.parse(readFileSync(new URL('../../tests/golden/tokenizers/ids.json', import.meta.url))).embedded;

const { inPage } = pages({ plain: { files: withManifest(files()) } });

test('texts have the ids that they have natively', { timeout: TIMEOUT }, async () => {
    const seen = await inPage(async (texts) => {
        const model = await load('plain');
        const ids = [];
        for (const text of texts) ids.push((await model.tokenize(text)).map(({ id }) => id));
        await model.dispose();
        return ids;
    }, cases.map(({ text }) => text));
    assert.ok(cases.length > 30);
    for (const [index, { text, ids }] of cases.entries()) assert.deepEqual(seen[index], ids, JSON.stringify(text));
});
