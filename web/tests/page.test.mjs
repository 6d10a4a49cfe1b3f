// The built page in a real browser: the same greedy text as the native CPU device, on WebGPU and on the CPU in wasm; what a
// visitor without WebGPU sees; stopping, forks, links; validation and benchmark; without a network; and whether it is usable.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, describe, test } from 'node:test';
import Ajv from 'ajv/dist/2020.js';

import { TIMEOUT, beforeWorker, ended, generate, launch, load, open, serveSite, set, settled } from './browser.mjs';
import { PROMPT, golden } from './models.mjs';

const require = createRequire(import.meta.url);
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const TOKENS = 20;

let server;
let browser;

before(async () => {
    server = await serveSite();
    browser = await launch();
});

after(async () => {
    await browser?.close();
    server?.closeAllConnections();
    server?.close();
});

function assertGolden({ text, status }) {
    assert.match(status, new RegExp(`^Done: ${TOKENS} tokens, limit reached`));
    assert.ok(text.length > PROMPT.length + TOKENS, `too short a text: ${JSON.stringify(text)}`);
    assert.equal(text, golden[PROMPT].slice(0, text.length));
}

async function picture(page, name) {
    if (process.env.SCREENSHOTS) await page.screenshot({ path: `${process.env.SCREENSHOTS}/${name}.png`, fullPage: true });
}

/** Nothing sticks out, and axe finds nothing. */
async function assertUsable(page, width) {
    const found = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(found <= width, `the page is ${found} pixels wide, the window ${width}`);
    await page.evaluate(axe); // from the test, so the page's own policy does not apply
    const { violations, passes } = await page.evaluate(() => globalThis.axe.run());
    assert.deepEqual(violations.map((v) => `${v.id}: ${v.nodes.map((node) => node.html).join(' ')}`), []);
    assert.ok(passes.length > 0, 'axe checked nothing');
}

describe('greedy text', { timeout: 2 * TIMEOUT }, () => {
    test('on WebGPU it is that of the native CPU device, with gates, heat map, charts and numbers', async () => {
        const { page, troubles, close } = await open(browser, server.url);
        const adapter = await page.evaluate(async () => Boolean(await navigator.gpu?.requestAdapter()));
        assert.ok(adapter, 'the browser gave no adapter, so nothing would be tested');
        await settled(page, '#adapter', /adapter: ./);
        const before = await page.evaluate(() => performance.getEntriesByType('resource').filter(({ name }) => /wasm|model/.test(name)).length);
        assert.equal(before, 0, 'something was downloaded before Load');
        assert.match(await load(page, 'gpu'), /^Runs on .+ \(webgpu\)/);
        assertGolden(await generate(page, { prompt: PROMPT, tokens: TOKENS }));
        assert.equal(await page.locator('#text .gated').count(), 4 + TOKENS);
        assert.ok((await page.locator('#text .attends').count()) > 0);
        await settled(page, '#stats', /tokens\/s/);
        await settled(page, '#budget-numbers', /attended: layer 1/);
        await settled(page, '#memory-text', /more than that from [\d,]+ tokens on/);
        await page.waitForFunction(() => document.querySelectorAll('#budget-chart canvas, #memory-chart canvas').length === 2);
        await page.locator('#text').focus();
        await page.keyboard.press('End');
        await page.keyboard.press('ArrowLeft');
        assert.match(await page.locator('#token').textContent(), /^Token 23 .*α 0\.\d\d/);
        await page.locator('#text span').nth(5).hover();
        assert.match(await page.locator('#token').textContent(), /^Token 6 .*layer 1 α 0\.\d\d.*layer 2 α/);
        const drawn = (canvas) => new Set(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).size;
        assert.ok((await page.locator('#heat').evaluate(drawn)) > 10, 'the heat map has many shades');
        await picture(page, 'gpu');
        // Stopped and continued, every token has its gates.
        await set(page, { tokens: 10000 });
        await page.locator('#continue').click();
        await page.waitForFunction((n) => document.querySelectorAll('#text span').length > n, 4 + TOKENS + 3);
        await page.locator('#stop').click();
        await set(page, { tokens: 2 });
        await page.locator('#continue').click();
        await settled(page, '#status', /^Done: 2 tokens/);
        assert.equal(await page.locator('#text span:not(.gated)').count(), 0);
        assert.deepEqual(troubles, []);
        await close();
    });

    test('on the CPU in wasm it is the same, and a software adapter is not taken', async () => {
        const { page, troubles, close } = await open(browser, server.url);
        assert.match(await load(page), /^Runs on CPU/);
        assertGolden(await generate(page, { prompt: PROMPT, tokens: TOKENS }));
        await page.reload();
        assert.match(await load(page), /from the cache/);
        assert.deepEqual(troubles, []);
        await close();
    });

    test('without a network, after the first visit', async () => {
        const { page, close } = await open(browser, server.url);
        await page.evaluate(() => navigator.serviceWorker.ready);
        await page.waitForFunction(() => navigator.serviceWorker.controller !== null);
        await load(page, 'cpu');
        await page.context().setOffline(true);
        await page.reload();
        assert.match(await load(page, 'cpu'), /from the cache/);
        assertGolden(await generate(page, { prompt: PROMPT, tokens: TOKENS }));
        await close();
    });
});

describe('without WebGPU', { timeout: 2 * TIMEOUT }, () => {
    const hide = (change) => ({ prepare: change });
    const cases = {
        'webgpu-unavailable': hide(() => Object.defineProperty(Navigator.prototype, 'gpu', { get: () => undefined })),
        'adapter-null': hide(() => {
            GPU.prototype.requestAdapter = async () => null;
        }),
        'insecure-context': hide(() => Object.defineProperty(globalThis, 'isSecureContext', { get: () => false })),
        'limit-too-small': hide(() => Object.defineProperty(GPUSupportedLimits.prototype, 'maxStorageBuffersPerShaderStage', { get: () => 4 })),
        'software-adapter': hide(() => {}),
    };
    const said = new Set();
    for (const [code, { prepare }] of Object.entries(cases)) {
        test(`${code}: its own message, the CPU computes, and a recorded run replays`, async () => {
            const { page, troubles, close } = await open(browser, server.url, { reducedMotion: 'reduce' }, [prepare]);
            await page.waitForFunction(() => !document.querySelector('#notice').hidden);
            assert.equal(await page.locator('#notice').getAttribute('data-code'), code);
            const text = await page.locator('#notice').textContent();
            assert.ok(text.length > 60 && !said.has(text), text);
            said.add(text);
            assert.equal(await page.locator('input[value=gpu]').isDisabled(), code !== 'software-adapter');
            await page.locator('#replay').click();
            await settled(page, '#status', /recorded run\.$/);
            assert.ok((await page.locator('#text .gated').count()) > 50);
            await settled(page, '#memory-text', /tokens on/);
            await picture(page, `notice-${code}`);
            if (code === 'webgpu-unavailable') {
                assert.match(await load(page), /^Runs on CPU/);
                assertGolden(await generate(page, { prompt: PROMPT, tokens: TOKENS }));
            }
            assert.deepEqual(troubles, []);
            await close();
        });
    }
});

describe('what a visitor does', { timeout: 2 * TIMEOUT }, () => {
    test('stops with Escape at once, forks, edits and continues from a kept state', async (t) => {
        const { page, troubles, close } = await open(browser, server.url, { permissions: ['clipboard-read', 'clipboard-write'] });
        await load(page, 'cpu');
        await page.locator('#prompt').fill(PROMPT);
        await set(page, { tokens: 10000, temperature: 0.8 });
        const stop = async (how) => {
            await page.waitForFunction(() => document.querySelector('#text').textContent.length > 50);
            const seen = await page.evaluate(async (how) => {
                const spans = () => document.querySelectorAll('#text span').length;
                const [begin, before] = [performance.now(), spans()];
                if (how === 'Escape') document.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape' }));
                else document.querySelector('#stop').click();
                const said = document.querySelector('#status').textContent;
                while (document.querySelector('#run').disabled) await new Promise((resolve) => setTimeout(resolve, 2));
                return { said, more: spans() - before, ms: performance.now() - begin, at: document.querySelector('#status').textContent };
            }, how);
            // Said at once, and one token of delay at most, whatever else this computer does.
            assert.deepEqual([seen.said, seen.at], ['Stopped.', 'Stopped.'], how);
            assert.ok(seen.more <= 1, `${how}: ${seen.more} tokens after it`);
            t.diagnostic(`${how}: stopped and ready for more after ${Math.round(seen.ms)} ms`);
        };
        await page.locator('#run').click();
        await stop('the button');
        await settled(page, '#stats', /First token\d.*Decode\d[\d,.]* tokens\/s/s);
        await page.locator('#report').click();
        const report = await page.evaluate(() => navigator.clipboard.readText());
        assert.match(report, /\| Decode \| \d.*\| Adapter \| .*\| Settings \| \{"temperature":0\.8/s);
        await page.evaluate(() => document.querySelector('#text').replaceChildren());
        await page.locator('#run').click();
        await stop('Escape');
        await page.locator('#tree button').first().click();
        const first = await page.locator('#text').textContent();

        await set(page, { tokens: 10, seed: 7 });
        await page.locator('#continue').click();
        const { text: second } = await ended(page);
        assert.ok(second.startsWith(first) && second.length > first.length);
        await page.locator('#tree button').first().click();
        await set(page, { seed: 8 });
        await page.locator('#continue').click();
        await settled(page, '#status', /^Done/);
        const third = await page.locator('#text').textContent();
        assert.ok(third.startsWith(first) && third !== second, 'another branch from the same state');
        assert.equal(await page.locator('#tree > li:first-child > ul > li').count(), 2);

        await page.locator('#edit').click();
        assert.equal(await page.locator('#prompt').inputValue(), third);
        await page.locator('#prompt').fill(`${third} The end.`);
        await page.locator('#run').click();
        const { text: fourth } = await ended(page);
        assert.ok(fourth.startsWith(`${third} The end.`), fourth);
        assert.equal(await page.locator('#tree > li:first-child > ul > li > ul > li').count(), 1, 'it hangs on the run that was edited');
        await picture(page, 'forks');

        assertGolden(await generate(page, { prompt: PROMPT, tokens: TOKENS }));
        assert.deepEqual(troubles, []);
        await close();
    });

    test('stopped while a long prompt is read, the text is what was read of it', async (t) => {
        const { page, troubles, close } = await open(browser, server.url);
        await load(page, 'cpu');
        await page.locator('#prompt').fill('One day Tom and Lily went to the park to play. '.repeat(400));
        await page.locator('#run').click();
        const all = await page.waitForFunction(() => {
            const { length } = document.querySelectorAll('#text span');
            return length > 4000 && length;
        });
        // A prompt is read in segments; a slow computer takes a while for the first.
        for (let wait = 3000; (await page.locator('#text span').count()) > 4000 || (await page.locator('#text span').count()) === 0; wait *= 2) {
            if (await page.locator('#run').isEnabled()) await page.locator('#run').click();
            await page.waitForTimeout(wait);
            const ms = await page.evaluate(async () => {
                const begin = performance.now();
                document.querySelector('#stop').click();
                while (document.querySelector('#run').disabled) await new Promise((resolve) => setTimeout(resolve, 2));
                return performance.now() - begin;
            });
            t.diagnostic(`reading a prompt: stopped and ready for more after ${Math.round(ms)} ms`);
        }
        assert.equal(await page.locator('#status').textContent(), 'Stopped.');
        const [prompt, read] = [await all.jsonValue(), await page.locator('#text span').count()];
        assert.ok(read > 0 && read < prompt / 2, `${read} of ${prompt} tokens were read`);
        await set(page, { tokens: 3 });
        await page.locator('#continue').click();
        await settled(page, '#status', /^Done: 3 tokens/);
        assert.match(await page.locator('#stats').textContent(), new RegExp(`of ${read + 3}(?!\\d)`), 'it went on from there');
        assert.equal(await page.locator('#text span:not(.gated)').count(), 0);
        assert.deepEqual(troubles, []);
        await close();
    });

    test('a hard bound holds', async () => {
        const { page, close } = await open(browser, server.url);
        await load(page, 'cpu');
        await page.locator('#bound').fill('3');
        assert.match(await page.locator('#bound-value').textContent(), /3 %/);
        await generate(page, { prompt: PROMPT, tokens: 150, temperature: 0 });
        await settled(page, '#budget-numbers', /the bound allows 3 %/);
        const text = await page.locator('#stats').textContent();
        const [, a, b, of] = /attended(\d+) and (\d+) of (\d+)/.exec(text);
        for (const n of [a, b]) assert.ok(Number(n) <= 0.03 * Number(of) + 16, text);
        await close();
    });

    test('a link brings prompt and settings, and runs nothing by itself', async () => {
        const { page, close } = await open(browser, server.url, { permissions: ['clipboard-read', 'clipboard-write'] });
        await page.locator('#prompt').fill('A <b>link</b> & more');
        await set(page, { tokens: 33, temperature: 0.25, stoptext: 'end' });
        await page.locator('#share').click();
        const link = await page.evaluate(() => navigator.clipboard.readText());
        assert.ok(link.startsWith(server.url) && link.includes('#p='));
        const other = await page.context().newPage();
        await other.goto(link);
        assert.equal(await other.locator('#prompt').inputValue(), 'A <b>link</b> & more');
        assert.equal(await other.locator('#tokens').inputValue(), '33');
        assert.equal(await other.locator('#temperature').inputValue(), '0.25');
        await other.waitForTimeout(300);
        assert.ok(await other.locator('#load').isVisible());
        assert.equal(await other.evaluate(() => performance.getEntriesByType('resource').filter(({ name }) => /model\//.test(name)).length), 0);
        // Nothing that is put into the page runs, or fetches from elsewhere.
        const refused = await other.evaluate(async () => {
            document.body.append(Object.assign(document.createElement('script'), { textContent: 'globalThis.attacked = true' }));
            const fetched = await fetch('https://example.org/', { mode: 'no-cors' }).then(() => true, () => false);
            return { attacked: globalThis.attacked === true, fetched };
        });
        assert.deepEqual(refused, { attacked: false, fetched: false });
        await other.goto(`${server.url}#p=${Buffer.from('{"prompt": 5}').toString('base64url')}`);
        await other.goto(`${server.url}#p=%%%`);
        assert.equal(await other.locator('#run').isDisabled(), true);
        await close();
    });

    test('what goes wrong is said, and can be tried again', async () => {
        const { page, close } = await open(browser, server.url);
        await page.route('**/model.safetensors', (route) => route.fulfill({ status: 404 }));
        assert.match(await load(page, 'cpu'), /^Not loaded/);
        assert.match(await page.locator('#error').textContent(), /model\.safetensors/);
        await page.unroute('**/model.safetensors');
        assert.match(await load(page, 'cpu'), /^Runs on CPU/);
        assert.ok(await page.locator('#error').isHidden());
        assert.match((await generate(page, { prompt: '', tokens: 5 })).status, /^Failed/);
        assert.match(await page.locator('#error').textContent(), /prompt is empty/);
        await picture(page, 'error');
        await close();
    });

    const out = () => {
        const { createBuffer } = GPUDevice.prototype;
        GPUDevice.prototype.createBuffer = function (descriptor) {
            const event = new GPUUncapturedErrorEvent('uncapturederror', { error: new GPUOutOfMemoryError('no room'), cancelable: true });
            setTimeout(() => this.dispatchEvent(event));
            return createBuffer.call(this, descriptor);
        };
    };
    const small = () => Object.defineProperty(GPUSupportedLimits.prototype, 'maxStorageBufferBindingSize', { get: () => 1 << 20 });
    const hardware = () => {
        Object.defineProperty(GPUAdapterInfo.prototype, 'isFallbackAdapter', { get: () => false });
        for (const key of ['vendor', 'architecture', 'description']) Object.defineProperty(GPUAdapterInfo.prototype, key, { get: () => 'small card' });
    };

    test('too little memory on the graphics device is said with its remedy, which works', async () => {
        for (const [name, inWorker, said, downloads] of [['out of memory', out, /no room|out of memory/i, true], ['small', small, /maxStorageBufferBindingSize.*1048576/, false]]) {
            const { page, close } = await open(browser, server.url, { serviceWorkers: 'block' });
            await beforeWorker(page, inWorker);
            const asked = [];
            page.on('request', (request) => asked.push(request));
            assert.match(await load(page, 'gpu'), /^Not loaded/, name);
            const error = await page.locator('#error').textContent();
            assert.match(error, /too little memory for this model.*Choose the CPU/);
            assert.match(error, said);
            const whole = asked.filter((request) => /model\.safetensors$/.test(request.url()) && !/^bytes=0-\d{1,5}$/.test(request.headers().range ?? ''));
            assert.equal(whole.some((request) => request.method() === 'GET'), downloads, `${name}: the weights were ${downloads ? '' : 'not '}asked for`);
            await picture(page, `memory-${name.replaceAll(' ', '-')}`);
            assert.match(await load(page, 'cpu'), /^Runs on CPU/);
            assert.ok(await page.locator('#error').isHidden());
            await close();
        }
    });

    test('a graphics device with too little memory, not asked for by name, is left to the CPU', async () => {
        const { page, troubles, close } = await open(browser, server.url, { serviceWorkers: 'block' }, [hardware]);
        await beforeWorker(page, small);
        assert.ok(await page.locator('#notice').isHidden());
        assert.match(await load(page), /^Runs on CPU.*The graphics device has too little memory \(maxStorageBufferBindingSize/);
        assertGolden(await generate(page, { prompt: PROMPT, tokens: TOKENS }));
        assert.deepEqual(troubles, []);
        await close();
    });

    test('no space to keep the model: it can be loaded without', async () => {
        const { page, close } = await open(browser, server.url);
        const session = await page.context().newCDPSession(page);
        await session.send('Storage.overrideQuotaForOrigin', { origin: new URL(server.url).origin, quotaSize: 1_000_000 });
        assert.match(await load(page, 'cpu'), /^Not loaded/);
        assert.match(await page.locator('#error').textContent(), /no room to keep the model/);
        await page.locator('#load-once').click();
        assert.match(await settled(page, '#load-status', /Runs on/), /CPU/);
        await session.send('Storage.overrideQuotaForOrigin', { origin: new URL(server.url).origin });
        await close();
    });
});

describe('the other tabs', { timeout: 3 * TIMEOUT }, () => {
    test('validation is green on this device, texts included, and can be shared', async () => {
        const { page, troubles, close } = await open(browser, server.url, { permissions: ['clipboard-read', 'clipboard-write'] });
        await load(page, 'cpu');
        await page.locator('#tab-validate').click();
        await page.locator('#validate-run').click();
        const said = await settled(page, '#validate-status', /agree on|DO NOT AGREE|Not finished/i, 2 * TIMEOUT);
        assert.match(said, /^All \d{3,} cases agree on .*webgpu/);
        assert.equal(await page.locator('#validate-table tr.bad').count(), 0);
        assert.match(await page.locator('#validate-table').textContent(), /model5.*golden16.*golden, CPU16.*golden text3/s);
        await picture(page, 'validate');
        await page.locator('#validate-link').click();
        const link = await page.evaluate(() => navigator.clipboard.readText());
        const other = await page.context().newPage();
        await other.goto(link);
        await settled(other, '#validate-status', /A shared result, all in agreement/);
        assert.ok((await other.locator('#validate-table tbody tr').count()) > 15);
        assert.deepEqual(troubles, []);
        await close();
    });

    test('a golden case that is damaged or missing turns the result red, and what is shared of it', async () => {
        const hide = () => Object.defineProperty(Navigator.prototype, 'gpu', { get: () => undefined });
        const options = { permissions: ['clipboard-read', 'clipboard-write'], serviceWorkers: 'block' };
        const { page, close } = await open(browser, server.url, options, [hide]);
        await page.route('**/golden/bounded/golden.safetensors', async (route) => {
            const response = await route.fetch();
            const body = await response.body();
            body[body.length - 101] ^= 0x40; // the exponent of some logit
            await route.fulfill({ response, body });
        });
        await page.route('**/golden/rotary/golden.json', (route) => route.fulfill({ status: 404 }));
        await page.locator('#tab-validate').click();
        await page.locator('#validate-run').click();
        const said = await settled(page, '#validate-status', /agree on|DO NOT AGREE|Not finished/i, 2 * TIMEOUT);
        assert.match(said, /^2 of \d{3,} cases DO NOT AGREE on CPU/);
        assert.match(await page.locator('#validate-table tr.bad').textContent(), /^golden16.*2 wrong$/);
        const failures = await page.locator('#validate-failures').textContent();
        assert.match(failures, /golden \(bounded, 100 tokens\).*: numbers differ.*golden \(rotary\): cannot be read: golden\.json: status 404/);
        await picture(page, 'validate-red');
        await page.locator('#validate-copy').click();
        assert.match(await page.evaluate(() => navigator.clipboard.readText()), /DO NOT AGREE.*\| golden \| 16 .*2 wrong/s);
        await page.locator('#validate-link').click();
        const link = await page.evaluate(() => navigator.clipboard.readText());
        const other = await page.context().newPage();
        await other.goto(link);
        await settled(other, '#validate-status', /A shared result, NOT in agreement/);
        assert.equal(await other.locator('#validate-table tr.bad').count(), 1);
        await close();
    });

    test('the benchmark runs, its JSON is the native one’s, and files can be compared, whatever is in them', async () => {
        const { page, troubles, close } = await open(browser, server.url, { acceptDownloads: true, permissions: ['clipboard-read', 'clipboard-write'] });
        await load(page, 'cpu');
        await page.locator('#tab-benchmark').click();
        await page.locator('#bench-device').selectOption('cpu');
        await page.locator('#bench-preset').selectOption('loaded');
        await page.locator('#bench-run').click();
        assert.match(await settled(page, '#bench-status', /rows\.|Not finished/), /^3 rows\./);
        assert.match(await page.locator('#bench-probes').textContent(), /Copy\d+\.\d GB\/s.*Multiply-add\d/);
        assert.match(await page.locator('#bench-table').textContent(), /pp128.*tg32.*tg32 @ d1024/s);
        await page.waitForFunction(() => document.querySelector('#bench-chart canvas'));
        const [download] = await Promise.all([page.waitForEvent('download'), page.locator('#bench-save').click()]);
        const json = readFileSync(await download.path(), 'utf8');
        const schema = JSON.parse(readFileSync(new URL('../../crates/bench/schema.json', import.meta.url)));
        const valid = new Ajv({ strict: false, validateFormats: false }).compile(schema);
        assert.ok(valid(JSON.parse(json)), JSON.stringify(valid.errors?.slice(0, 3)));
        await page.locator('#bench-copy').click();
        assert.match(await page.evaluate(() => navigator.clipboard.readText()), /\| device \| model .*\| pp128 \|.*\| tg32 @ d1024 \|.*Copy: /s);
        const hostile = JSON.parse(json);
        const attack = '<img src=x onerror="document.title=1">';
        for (const row of hostile) [row.gpu_info, row.avg_ts] = [attack, 1];
        await page.locator('#bench-files').setInputFiles([{ name: 'chosen.json', mimeType: 'application/json', buffer: Buffer.from(json) }]);
        await settled(page, '#compare-status', /^1 file compared/);
        const dropped = [['here.json', json], ['<b>there</b>.json', JSON.stringify(hostile)], ['none.json', '{]']];
        const dataTransfer = await page.evaluateHandle((dropped) => {
            const transfer = new DataTransfer();
            for (const [name, text] of dropped) transfer.items.add(new File([text], name, { type: 'application/json' }));
            return transfer;
        }, dropped);
        await page.locator('#drop').dispatchEvent('drop', { dataTransfer });
        await settled(page, '#compare-status', /none\.json: not a file of results[^]*2 files compared/);
        const table = page.locator('#compare-table');
        assert.ok((await table.textContent()).includes(attack), 'shown as text');
        assert.equal(await table.locator('img, b').count(), 0);
        assert.equal(await page.locator('#compare-table tbody tr').count(), 3);
        await picture(page, 'benchmark');
        assert.deepEqual(troubles, []);
        await close();
    });
});

describe('usable', { timeout: 2 * TIMEOUT }, () => {
    const views = ['light', 'dark'].flatMap((colorScheme) => [1100, 360].map((width) => ({ colorScheme, viewport: { width, height: 800 } })));
    for (const options of views) {
        const { width } = options.viewport;
        const name = `${options.colorScheme}-${width}`;
        test(`${name}: nothing sticks out and axe finds nothing, in every state`, async () => {
            const { page, close } = await open(browser, server.url, options);
            await settled(page, '#adapter', /adapter/);
            await assertUsable(page, width);
            await picture(page, `${name}-first`);
            await load(page, 'cpu');
            await generate(page, { prompt: PROMPT, tokens: 60 });
            await page.waitForFunction(() => document.querySelectorAll('#budget-chart canvas, #memory-chart canvas').length === 2);
            await assertUsable(page, width);
            await picture(page, `${name}-text`);
            await page.locator('#open-settings').click();
            await assertUsable(page, width);
            await picture(page, `${name}-settings`);
            await page.keyboard.press('Escape');
            await page.locator('#tab-generate').focus();
            await page.keyboard.press('ArrowRight');
            assert.equal(await page.evaluate(() => document.activeElement.id), 'tab-validate');
            await assertUsable(page, width);
            await page.keyboard.press('ArrowRight');
            await page.locator('#bench-run').waitFor();
            await assertUsable(page, width);
            await picture(page, `${name}-benchmark`);
            await close();
        });
    }
});
