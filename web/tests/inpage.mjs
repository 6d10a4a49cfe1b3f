// A page for tests of the package: who serves it, what its functions use, and what texts are held to.

import assert from 'node:assert/strict';
import { after, afterEach, before } from 'node:test';

import { launch, open } from './browser.mjs';
import { PROMPT, golden, serveModels } from './models.mjs';

/**
 * Serves models to a browser, which is there for all tests of a file; each has a page of its own. `inPage` runs a function in
 * it, with `helpers` and what `prepare` adds in `globalThis`; `here` has what is there at the moment.
 */
export function pages(models, { webgpu = false, prepare = undefined } = {}) {
    const here = { server: undefined, browser: undefined, opened: undefined };

    before(async () => {
        here.server = await serveModels(models);
        here.browser = await launch({ webgpu });
    });

    after(async () => {
        await here.browser?.close();
        here.server?.closeAllConnections();
        here.server?.close();
    });

    afterEach(async () => {
        await here.opened?.close();
        here.opened = undefined;
        here.server.requests.length = 0;
    });

    const inPage = async (work, argument) => {
        here.opened ??= await open(here.browser, `${here.server.url}blank.html`, {}, prepare ? [helpers, prepare] : [helpers]);
        const { page } = here.opened;
        if (webgpu) {
            const adapter = await page.evaluate(async () => Boolean(await navigator.gpu?.requestAdapter()));
            assert.ok(adapter, 'the browser gave no adapter, so nothing would be tested');
        }
        return page.evaluate(work, argument);
    };
    return { here, inPage };
}

/** What the functions of the tests use in the page. */
export function helpers() {
    globalThis.load = async (name, options = {}) => {
        globalThis.taipan ??= await import('/dist/index.js');
        return globalThis.taipan.loadModel(`/models/${name}/`, { device: 'cpu', ...options });
    };
    globalThis.textOf = async (events, stop = () => false) => {
        let [text, pieces] = ['', 0];
        for await (const event of events) {
            if (event.type !== 'text') continue;
            text += event.text;
            if (stop(++pieces)) break;
        }
        return text;
    };
    globalThis.failure = async (work) => {
        try {
            await work();
            return undefined;
        } catch (error) {
            const taipan = await import('/dist/index.js');
            const { name, code, message, hint } = error;
            return { name, code, message, hint, ours: error instanceof taipan.TaipanError, details: error.details };
        }
    };
    globalThis.greedy = { temperature: 0, maxTokens: 20 };
}

export function assertGolden(text) {
    assert.ok(text.length > 20, `too short a text: ${JSON.stringify(text)}`);
    assert.equal(PROMPT + text, golden[PROMPT].slice(0, PROMPT.length + text.length));
}
