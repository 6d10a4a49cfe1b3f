// What tests of the package use in a page, and what they hold texts to.

import assert from 'node:assert/strict';

import { PROMPT, golden } from './models.mjs';

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
