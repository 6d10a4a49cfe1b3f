// The compiled package in a page of its own, without a bundler: stopping and going on, one thing at a time, freeing.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { serve } from '../scripts/serve.mjs';
import { TIMEOUT, launch, open } from './browser.mjs';

let server;
let browser;

before(async () => {
    server = await serve(fileURLToPath(new URL('..', import.meta.url)), 0);
    browser = await launch();
});

after(async () => {
    await browser?.close();
    server?.closeAllConnections();
    server?.close();
});

/** Runs in the page, and returns what it saw. */
async function story() {
    const { loadModel } = await import('/dist/index.js');
    const model = await loadModel('/site/model/', { device: 'cpu' });
    const [prompt, stopAfter] = ['Once upon a time', 7];
    const options = { temperature: 0, maxTokens: 30 };
    const seen = {};

    /** Adds the text to `seen[key]`; `stop` is asked after every piece whether to leave the loop. */
    async function collect(key, events, stop = () => false) {
        seen[key] ??= '';
        let pieces = 0;
        for await (const event of events) {
            if (event.type === 'text') seen[key] += event.text;
            if (stop(++pieces)) break;
        }
    }

    await collect('whole', model.createSession().generate(prompt, { ...options, maxTokens: 60 }));

    const left = model.createSession();
    await collect('left', left.generate(prompt, options), (pieces) => pieces === stopAfter);
    seen.leftAtPosition = left.position;
    await collect('leftAndOn', left.generate('', options));

    const controller = new AbortController();
    const aborted = model.createSession();
    const { signal } = controller;
    const abort = (pieces) => void (pieces === stopAfter && controller.abort());
    seen.abortedWith = await collect('aborted', aborted.generate(prompt, { ...options, signal }), abort).catch((e) => e.name);
    await collect('abortedAndOn', aborted.generate('', options));

    const session = model.createSession();
    seen.badOption = await collect('none', session.generate(prompt, { topK: -1 })).catch((e) => e.code);
    const events = session.generate('', options);
    await events.next();
    seen.meanwhile = await session.stats().catch((e) => e.code);
    model.dispose();
    await events.return();
    seen.afterDispose = await session.stats().catch((e) => e.code);
    seen.modelAfterDispose = await Promise.resolve().then(() => model.createSession()).catch((e) => e.code);
    return seen;
}

test('stopping keeps exactly what was delivered, and errors have codes', { timeout: TIMEOUT }, async () => {
    const { page, troubles, close } = await open(browser, 'about:blank');
    await page.route('**/blank.html', (route) => route.fulfill({ contentType: 'text/html', body: '<!doctype html>' }));
    await page.goto(`${server.url}blank.html`);
    const seen = await page.evaluate(story);

    assert.ok(seen.left.length > 0 && seen.left.length < seen.whole.length / 2);
    assert.ok(seen.leftAndOn.length > seen.left.length);
    assert.ok(seen.whole.startsWith(seen.left + seen.leftAndOn), JSON.stringify(seen));
    assert.equal(seen.leftAtPosition, 4 + 7, 'the prompt and the tokens delivered');

    assert.equal(seen.abortedWith, 'AbortError');
    assert.equal(seen.aborted, seen.left);
    assert.equal(seen.abortedAndOn, seen.leftAndOn);

    assert.equal(seen.badOption, 'invalid-option');
    assert.equal(seen.meanwhile, 'busy');
    assert.equal(seen.afterDispose, 'disposed');
    assert.equal(seen.modelAfterDispose, 'disposed');
    assert.deepEqual(troubles, []);
    await close();
});
