// The built page in a real browser: the same greedy text as the native CPU device, on WebGPU and on the CPU in wasm, with and
// without a network; stopping, forks, links, a hard bound, and what goes wrong.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { TIMEOUT } from './browser.mjs';
import { PROMPT } from './models.mjs';
import { TOKENS, assertGolden, ended, generate, load, openTab, picture, set, settled, site } from './site.mjs';

const here = site();

describe('greedy text', { timeout: 2 * TIMEOUT }, () => {
    test('on WebGPU it is that of the native CPU device, with gates, heat map, charts and numbers', async () => {
        const { page, troubles, close } = await here.visit();
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
        const { page, troubles, close } = await here.visit();
        const announced = await page.locator('main').innerText();
        for (const words of [/Stories, 8\.\d million parameters/, /Load \(\d\d\.\d MB model, [\d.]+ MB program\)/, /nothing you write leaves your device/]) {
            assert.match(announced, words);
        }
        await page.evaluate(() => {
            globalThis.said = [];
            const note = () => said.push([document.querySelector('#load-status').textContent, document.querySelector('#progress').value]);
            new MutationObserver(note).observe(document.querySelector('#load-status'), { childList: true });
        });
        assert.match(await load(page), /^Runs on CPU/);
        const said = await page.evaluate(() => globalThis.said);
        assert.ok(said.some(([text]) => /^Downloading: [\d.]+ \w+ of \d\d\.\d MB/.test(text)), JSON.stringify(said));
        const between = new Set(said.map(([, value]) => value).filter((value) => value > 0 && value < 1));
        assert.ok(between.size >= 2, 'the bar moves');
        assertGolden(await generate(page, { prompt: PROMPT, tokens: TOKENS }));
        await page.reload();
        assert.match(await load(page), /from the cache/);
        assert.deepEqual(troubles, []);
        await close();
    });

    test('without a network, after the first visit: text, and a validation', async () => {
        const hide = () => Object.defineProperty(Navigator.prototype, 'gpu', { get: () => undefined });
        const { page, close } = await here.visit({}, [hide]);
        await page.evaluate(() => navigator.serviceWorker.ready);
        await page.waitForFunction(() => navigator.serviceWorker.controller !== null);
        const kept = () => page.evaluate(async () => {
            const cache = await caches.open((await caches.keys()).find((name) => name.startsWith('taipan-page-')));
            return (await cache.keys()).map(({ url }) => url);
        });
        assert.deepEqual((await kept()).filter((url) => /\.wasm$|golden/.test(url)), [], 'nothing large before Load');
        await load(page, 'cpu');
        while (!(await kept()).some((url) => url.endsWith('greedy.json'))) await page.waitForTimeout(100);
        await page.context().setOffline(true);
        await page.reload();
        assert.equal(await page.evaluate(() => fetch('model/README.md').then(() => 'reached', () => 'offline')), 'offline');
        assert.match(await load(page, 'cpu'), /from the cache/);
        assertGolden(await generate(page, { prompt: PROMPT, tokens: TOKENS }));
        await openTab(page, 'validate');
        await page.locator('#validate-run').click();
        assert.match(await settled(page, '#validate-status', /agree on|DO NOT AGREE|Not finished|network|fetch/i, 2 * TIMEOUT), /^All \d{3,} cases agree on CPU/);
        await close();
    });
});

describe('what a visitor does', { timeout: 2 * TIMEOUT }, () => {
    test('stops with Escape at once, forks, edits and continues from a kept state', async (t) => {
        const { page, troubles, close } = await here.visit({ permissions: ['clipboard-read', 'clipboard-write'] });
        await load(page, 'cpu');
        await page.locator('#examples button').nth(1).click();
        assert.match(await page.locator('#prompt').inputValue(), /^Lily and Tom/);
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
        const { page, troubles, close } = await here.visit();
        await load(page, 'cpu');
        await page.locator('#prompt').fill('One day Tom and Lily went to the park to play. '.repeat(400));
        await page.locator('#run').click();
        const said = await settled(page, '#status', /^Reading the prompt… [\d,]+ of 4,\d{3} tokens$/);
        const prompt = Number(/of (4,\d{3})/.exec(said)[1].replace(',', ''));
        const ms = await page.evaluate(async () => {
            const begin = performance.now();
            document.querySelector('#stop').click();
            while (document.querySelector('#run').disabled) await new Promise((resolve) => setTimeout(resolve, 2));
            return performance.now() - begin;
        });
        t.diagnostic(`reading a prompt: stopped and ready for more after ${Math.round(ms)} ms`);
        assert.equal(await page.locator('#status').textContent(), 'Stopped.');
        const read = await page.locator('#text span').count();
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
        const { page, close } = await here.visit();
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
        const { page, close } = await here.visit({ permissions: ['clipboard-read', 'clipboard-write'] });
        await page.locator('#prompt').fill('A <b>link</b> & more');
        await set(page, { tokens: 33, temperature: 0.25, stoptext: 'end' });
        await page.locator('#share').click();
        const link = await page.evaluate(() => navigator.clipboard.readText());
        assert.ok(link.startsWith(here.server.url) && link.includes('#p='));
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
            const by = new Set();
            document.addEventListener('securitypolicyviolation', ({ effectiveDirective }) => by.add(effectiveDirective));
            const put = (name, properties) => document.body.append(Object.assign(document.createElement(name), properties));
            put('script', { textContent: 'globalThis.attacked = true' });
            put('script', { src: 'https://example.org/x.js' });
            put('img', { src: 'https://example.org/x.png' });
            put('iframe', { src: 'https://example.org/' });
            put('style', { textContent: 'body { display: none }' });
            put('button', {}); // a handler as an attribute
            document.body.lastChild.setAttribute('onclick', 'globalThis.attacked = true');
            document.body.lastChild.click();
            // In a task of its own: what a test itself evaluates is excused from the policy.
            const compile = (resolve) => {
                try {
                    resolve(Function('return true')());
                } catch {
                    resolve(false);
                }
            };
            const evaluated = await new Promise((resolve) => setTimeout(compile, 0, resolve));
            const fetched = await fetch('https://example.org/', { mode: 'no-cors' }).then(() => true, () => false);
            await new Promise((resolve) => setTimeout(resolve, 200));
            return { attacked: globalThis.attacked === true, evaluated, fetched, by: [...by].sort() };
        });
        // Violations are the policy's own words: without a network a fetch fails as well.
        const by = ['connect-src', 'frame-src', 'img-src', 'script-src', 'script-src-attr', 'script-src-elem', 'style-src-elem'];
        assert.deepEqual(refused, { attacked: false, evaluated: false, fetched: false, by });
        await other.goto(`${here.server.url}#p=${Buffer.from('{"prompt": 5}').toString('base64url')}`);
        await other.goto(`${here.server.url}#p=%%%`);
        assert.equal(await other.locator('#run').isDisabled(), true);
        await close();
    });

    test('what goes wrong is said, and can be tried again', async () => {
        const { page, close } = await here.visit();
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

    test('no space to keep the model: it can be loaded without', async () => {
        const { page, close } = await here.visit();
        const session = await page.context().newCDPSession(page);
        await session.send('Storage.overrideQuotaForOrigin', { origin: new URL(here.server.url).origin, quotaSize: 1_000_000 });
        assert.match(await load(page, 'cpu'), /^Not loaded/);
        assert.match(await page.locator('#error').textContent(), /no room to keep the model/);
        await page.locator('#load-once').click();
        assert.match(await settled(page, '#load-status', /Runs on/), /CPU/);
        await session.send('Storage.overrideQuotaForOrigin', { origin: new URL(here.server.url).origin });
        await close();
    });
});
