// Sessions of the package, in a worker and in the page's thread, on the CPU device: stopping and going on, states, options,
// and the facade of OpenAI's client.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { TIMEOUT } from './browser.mjs';
import { assertGolden, pages } from './inpage.mjs';
import { PROMPT, files, withManifest } from './models.mjs';

const { here, inPage } = pages({ plain: { files: withManifest(files()) } });

/** Runs in the page, and returns what it saw. */
async function story({ prompt, worker }) {
    const model = await load('plain', { worker });
    const stopAfter = 7;
    const seen = {};
    const from = (session, text, options) => session.generate(text, { ...greedy, maxTokens: 30, ...options });
    const at = (n) => (pieces) => pieces === n;

    seen.whole = await textOf(from(model.createSession(), prompt, { maxTokens: 60 }));

    const left = model.createSession();
    seen.left = await textOf(from(left, prompt), at(stopAfter));
    seen.leftAtPosition = left.position;
    seen.leftAndOn = await textOf(from(left, ''));

    const controller = new AbortController();
    const aborted = model.createSession();
    seen.aborted = '';
    seen.abortedWith = await failure(async () => {
        for await (const event of from(aborted, prompt, { signal: controller.signal })) {
            if (event.type !== 'text') continue;
            seen.aborted += event.text;
            if (seen.aborted.length >= seen.left.length) controller.abort();
        }
    });
    seen.abortedAndOn = await textOf(from(aborted, ''));
    seen.before = await failure(() => textOf(from(aborted, '', { signal: AbortSignal.abort() })));

    const base = model.createSession();
    await textOf(from(base, prompt), at(3));
    const bytes = await base.save();
    const fork = await base.fork();
    const restored = await model.restoreSession(bytes);
    seen.positions = [base.position, fork.position, restored.position];
    seen.continued = await Promise.all([base, fork, restored].map((session) => textOf(from(session, ''))));
    seen.badState = await failure(() => model.restoreSession(bytes.map((byte, i) => (i === bytes.length >> 1 ? byte ^ 1 : byte))));

    const types = new Set();
    let gates = 0;
    for await (const event of from(model.createSession(), prompt, { trace: ['gates'] })) {
        types.add(event.type);
        if (event.type === 'gates') gates += event.alpha[0].length;
        if (event.type === 'done') seen.done = event;
    }
    seen.types = [...types].sort();
    // Of whichever tokens an abort leaves, in which session they are gone on from: the gates are told of each once.
    seen.told = await (async () => {
        const [told, controller, session] = [[], new AbortController(), model.createSession()];
        const note = ({ first, alpha }) => told.push(...alpha[0].map((_, i) => first + i));
        let late = 0;
        const error = await failure(async () => {
            for await (const event of from(session, prompt, { trace: ['gates'], signal: controller.signal })) {
                if (event.type === 'gates') note(event);
                if (event.type === 'token' && controller.signal.aborted) late++;
                if (event.type === 'token' && session.position === 9) controller.abort();
            }
        });
        await session.save();
        const fork = await session.fork();
        for await (const event of from(fork, '', { trace: ['gates'], maxTokens: 5 })) if (event.type === 'gates') note(event);
        return { told, late, error: error.name, position: fork.position };
    })();
    seen.gates = gates;
    seen.bounded = await (async () => {
        const session = model.createSession({ attentionBudget: 0.05, burst: 2 });
        await textOf(from(session, prompt, { maxTokens: 100 }));
        return session.stats();
    })();
    seen.stopped = await (async () => {
        let text = '';
        for await (const event of from(model.createSession(), prompt, { stop: ['little'] })) {
            if (event.type === 'text') text += event.text;
            if (event.type === 'done') return { text, reason: event.finishReason, stop: event.stop };
        }
        return undefined;
    })();
    const draw = (seed) => textOf(model.createSession({ seed }).generate(prompt, { temperature: 1, maxTokens: 12 }));
    seen.seeds = [await draw(1), await draw(1), await draw(2)];
    seen.pieces = (await model.tokenize(prompt)).map(({ text }) => text).join('');

    const session = model.createSession();
    seen.badOptions = [];
    for (const options of [{ topK: -1 }, { temperature: NaN }, { maxTokens: NaN }, { topP: Infinity }, { seed: -1 }]) {
        seen.badOptions.push(await failure(() => textOf(session.generate(prompt, options))));
    }
    for (const text of [undefined, null, 5, ['a']]) {
        seen.badOptions.push(await failure(() => textOf(session.generate(text, greedy))), await failure(() => model.tokenize(text)));
        seen.badOptions.push(await failure(() => model.restoreSession(text)));
    }
    for (const attentionBudget of [2, NaN, Infinity]) seen.badOptions.push(await failure(() => model.createSession({ attentionBudget }).stats()));
    seen.oneStop = await textOf(from(model.createSession(), prompt, { stop: 'little' }));
    // A long prompt is read in stretches, and can be given up between them.
    const long = 'One day Tom and Lily went to the park to play. '.repeat(100);
    const total = (await model.tokenize(long)).length;
    const reading = model.createSession();
    const read = [];
    const giveUp = new AbortController();
    seen.reading = await failure(async () => {
        for await (const event of reading.generate(long, { ...greedy, signal: giveUp.signal })) {
            read.push(event);
            giveUp.abort();
        }
    });
    seen.read = { events: read, total, position: reading.position };
    const rest = (await model.tokenize(long)).slice(reading.position).map(({ text }) => text).join('');
    seen.readOn = await textOf(from(reading, rest));
    const events0 = [];
    for await (const event of from(model.createSession(), long)) events0.push(event);
    seen.readWhole = { events: events0.filter(({ type }) => type === 'prompt'), text: events0.map(({ type, text }) => (type === 'text' ? text : '')).join('') };
    const events = session.generate('', greedy);
    await events.next();
    seen.meanwhile = await failure(() => session.stats());
    await model.dispose();
    await events.return();
    seen.afterDispose = await failure(() => session.stats());
    seen.modelAfterDispose = await failure(async () => model.createSession());
    return seen;
}

describe('sessions', { timeout: 2 * TIMEOUT }, () => {
    const stories = {};
    for (const [where, worker] of [['in a worker', true], ['in the thread', false]]) {
        test(`${where}: stopping keeps exactly what was delivered, states can be kept and copied, errors have codes`, async () => {
            const seen = (stories[where] = await inPage(story, { prompt: PROMPT, worker }));
            assertGolden(seen.whole);
            assert.ok(seen.left.length > 0 && seen.left.length < seen.whole.length / 2);
            assert.ok(seen.leftAndOn.length > seen.left.length);
            assert.ok(seen.whole.startsWith(seen.left + seen.leftAndOn), JSON.stringify(seen));
            assert.equal(seen.leftAtPosition, 4 + 7, 'the prompt and the tokens delivered');
            assert.equal(seen.abortedWith.name, 'AbortError');
            assert.equal(seen.before.name, 'AbortError');
            assert.equal(seen.aborted, seen.left);
            assert.equal(seen.abortedAndOn, seen.leftAndOn);

            assert.deepEqual(seen.positions, [7, 7, 7]);
            assert.equal(new Set(seen.continued).size, 1, 'fork and restored session go on as the original');
            assert.equal(seen.badState.code, 'saved-state');

            assert.deepEqual(seen.types, ['done', 'gates', 'stats', 'text', 'token']);
            assert.equal(seen.gates, 4 + 30, 'the prompt, and every token');
            assert.deepEqual(seen.told.told, Array.from({ length: seen.told.position }, (_, i) => i));
            assert.equal(seen.told.error, 'AbortError');
            assert.ok(seen.told.late <= 1, `${seen.told.late} tokens after an abort`);
            assert.deepEqual(seen.done.usage, { promptTokens: 4, completionTokens: 30 });
            const { prompt, firstToken, total } = seen.done.timings;
            assert.ok(prompt > 0 && firstToken >= prompt && total >= firstToken);
            for (const [i, selected] of seen.bounded.selected.entries()) {
                assert.ok(selected <= 0.05 * seen.bounded.tokens + 2, `layer ${i}: ${selected} of ${seen.bounded.tokens}`);
            }
            assert.ok(seen.bounded.refused.some((n) => n > 0), 'the bound refused something');
            assert.equal(seen.stopped.reason, 'stop');
            assert.equal(seen.stopped.stop, 'little');
            assert.ok(seen.whole.startsWith(`${seen.stopped.text}little`), JSON.stringify(seen.stopped));
            assert.equal(seen.seeds[0], seen.seeds[1]);
            assert.notEqual(seen.seeds[0], seen.seeds[2]);
            assert.equal(seen.pieces, PROMPT);

            for (const error of seen.badOptions) assert.equal(error?.code, 'invalid-option', JSON.stringify(seen.badOptions));
            assert.equal(seen.oneStop, seen.stopped.text);
            assert.equal(seen.reading.name, 'AbortError');
            assert.ok(seen.read.total > 1100, `${seen.read.total} tokens`);
            assert.deepEqual(seen.read.events, [{ type: 'prompt', read: 512, total: seen.read.total }]);
            assert.equal(seen.read.position, 512);
            const steps = Array.from({ length: Math.ceil(seen.read.total / 512) - 1 }, (_, i) => ({ type: 'prompt', read: 512 * (i + 1), total: seen.read.total }));
            assert.deepEqual(seen.readWhole.events, steps);
            assert.ok(seen.readOn.length > 20);
            assert.equal(seen.readOn, seen.readWhole.text, 'a prompt that was given up and read on is the same prompt');
            assert.equal(seen.meanwhile.code, 'busy');
            assert.equal(seen.afterDispose.code, 'disposed');
            assert.equal(seen.modelAfterDispose.code, 'disposed');
            assert.deepEqual(here.opened.troubles, []);
        });
    }

    test('both ways give the same texts', () => {
        const [a, b] = Object.values(stories);
        assert.ok(a && b, 'both have run');
        for (const key of ['whole', 'left', 'leftAndOn', 'continued', 'stopped', 'seeds', 'gates']) assert.deepEqual(a[key], b[key], key);
    });

    test('the facade of OpenAI streams and answers', async () => {
        const seen = await inPage(async (prompt) => {
            const { createOpenAI } = await import('/dist/openai.js');
            const openai = createOpenAI(await load('plain'), { model: 'stories' });
            const request = { prompt, temperature: 0, max_tokens: 20 };
            const whole = await openai.completions.create(request);
            let streamed = '';
            let last;
            for await (const chunk of await openai.completions.create({ ...request, stream: true, stream_options: { include_usage: true } })) {
                streamed += chunk.choices[0]?.text ?? '';
                last = chunk;
            }
            const messages = [{ role: 'user', content: prompt }];
            const chat = await openai.chat.completions.create({ messages, temperature: 0, max_tokens: 8 });
            const stopped = await openai.completions.create({ ...request, stop: 'little' });
            const unlimited = await openai.completions.create({ prompt, temperature: 0 });
            const draw = async (seed) => (await openai.completions.create({ prompt, max_tokens: 12, seed })).choices[0].text;
            const seeds = [await draw(1), await draw(1), await draw(2)];
            const inParts = [{ role: 'user', content: [{ type: 'text', text: prompt.slice(0, 3) }, { type: 'text', text: prompt.slice(3) }] }];
            const parts = await openai.chat.completions.create({ messages: inParts, temperature: 0, max_tokens: 8, n: 1, tools: [] });
            const refused = [];
            const picture = [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'data:,' } }] }];
            const bad = [{ n: 2 }, { tools: [{}] }, { logprobs: true }, { response_format: { type: 'json_object' } }, { presence_penalty: 1 }, { messages: picture }, { messages: [{ role: 'tool', content: 'x' }] }, { messages: [{ role: 'user' }] }];
            for (const wrong of bad) refused.push(await failure(() => openai.chat.completions.create({ messages, max_tokens: 1, ...wrong })));
            refused.push(await failure(() => openai.completions.create({ prompt: ['a', 'b'] })));
            const abort = new AbortController();
            const aborted = await failure(async () => {
                for await (const chunk of await openai.completions.create({ ...request, stream: true }, { signal: abort.signal })) {
                    if (chunk.choices[0].text !== '') abort.abort();
                }
            });
            const chunks = [];
            for await (const chunk of await openai.chat.completions.create({ messages, temperature: 0, max_tokens: 8, stream: true })) {
                chunks.push(chunk);
            }
            return { whole, streamed, last, chat, chunks, stopped, unlimited, seeds, parts, refused, aborted };
        }, PROMPT);
        assertGolden(seen.whole.choices[0].text);
        assert.equal(seen.streamed, seen.whole.choices[0].text);
        assert.deepEqual(seen.whole.usage, { prompt_tokens: 4, completion_tokens: 20, total_tokens: 24 });
        assert.deepEqual(seen.last.usage, seen.whole.usage);
        assert.equal(seen.whole.choices[0].finish_reason, 'length');
        assert.equal(seen.whole.object, 'text_completion');
        assert.deepEqual(Object.keys(seen.whole).sort(), ['choices', 'created', 'id', 'model', 'object', 'usage']);
        assert.ok(seen.whole.model === 'stories' && Math.abs(seen.whole.created - Date.now() / 1000) < 600);
        assert.deepEqual(seen.last.choices, [], 'the usage comes after the choices');
        assert.equal(seen.stopped.choices[0].finish_reason, 'stop');
        assert.equal(seen.stopped.choices[0].text, seen.whole.choices[0].text.split('little')[0]);
        assert.equal(seen.unlimited.usage.completion_tokens, 16);
        assert.ok(seen.seeds[0] === seen.seeds[1] && seen.seeds[0] !== seen.seeds[2], JSON.stringify(seen.seeds));
        assert.deepEqual(seen.parts.choices, seen.chat.choices);
        assert.deepEqual(seen.refused.map((error) => error?.code), Array(9).fill('invalid-option'));
        assert.equal(seen.aborted.name, 'AbortError');
        const { id } = seen.chunks[0];
        assert.ok(seen.chunks.every((chunk) => chunk.id === id && chunk.object === 'chat.completion.chunk'), 'all chunks are of one answer');
        const reasons = seen.chunks.map((chunk) => chunk.choices[0].finish_reason);
        assert.ok(reasons.slice(0, -1).every((reason) => reason === null), reasons.join());
        assert.equal(seen.chat.object, 'chat.completion');
        assert.equal(seen.chunks[0].choices[0].delta.role, 'assistant');
        const text = seen.chunks.map((chunk) => chunk.choices[0].delta.content ?? '').join('');
        assert.equal(text, seen.chat.choices[0].message.content);
        assert.ok(text.length > 0 && ['stop', 'length'].includes(seen.chunks.at(-1).choices[0].finish_reason));
    });
});
