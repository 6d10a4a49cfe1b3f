// The built page in a real browser: the same greedy text as the native CPU device, on WebGPU and on the CPU in wasm; what
// a visitor without WebGPU sees; stopping; a crash of the runtime; and whether the page is usable.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, describe, test } from 'node:test';

import { TIMEOUT, ended, generate, launch, load, open, serveSite } from './browser.mjs';

const require = createRequire(import.meta.url);
const PROMPT = 'Once upon a time';
const TOKENS = 20;
/** Greedy texts of the embedded model, made by another implementation and held by the native CPU device. */
const golden = JSON.parse(readFileSync(new URL('../../crates/cli/model/greedy.json', import.meta.url)));

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
    assert.ok(text.length > TOKENS, `too short a text: ${JSON.stringify(text)}`);
    const expected = golden[PROMPT];
    assert.equal(PROMPT + text, expected.slice(0, PROMPT.length + text.length));
}

describe('greedy text', { timeout: 2 * TIMEOUT }, () => {
    test('on WebGPU it is that of the native CPU device', async () => {
        const { page, troubles, close } = await open(browser, server.url);
        const adapter = await page.evaluate(async () => Boolean(await navigator.gpu?.requestAdapter()));
        assert.ok(adapter, 'the browser gave no adapter, so nothing would be tested');
        await page.waitForFunction(() => /adapter: ./.test(document.querySelector('#adapter').textContent));
        assert.match(await load(page, 'gpu'), /^Runs on .+ \(webgpu\)/);
        assertGolden(await generate(page, { prompt: PROMPT, tokens: TOKENS }));
        assert.match(await page.locator('#stats').textContent(), /tokens\/s/);
        assert.deepEqual(troubles, []);
        await close();
    });

    test('on the CPU in wasm it is the same, and a software adapter is not taken', async () => {
        const { page, troubles, close } = await open(browser, server.url);
        assert.match(await load(page), /^Runs on CPU/);
        assertGolden(await generate(page, { prompt: PROMPT, tokens: TOKENS }));
        assert.deepEqual(troubles, []);
        await close();
    });
});

describe('without WebGPU', { timeout: 2 * TIMEOUT }, () => {
    test('a browser without the interface computes on the CPU and says why', async () => {
        const remove = () => Object.defineProperty(Navigator.prototype, 'gpu', { get: () => undefined });
        const { page, troubles, close } = await open(browser, server.url, {}, remove);
        await page.waitForFunction(() => /No WebGPU adapter/.test(document.querySelector('#adapter').textContent));
        assert.match(await page.locator('#adapter-hint').textContent(), /This browser has no WebGPU/);
        assert.ok(await page.locator('input[value=gpu]').isDisabled());
        assert.match(await load(page), /^Runs on CPU/);
        assertGolden(await generate(page, { prompt: PROMPT, tokens: TOKENS }));
        assert.deepEqual(troubles, []);
        await close();
    });

    test('a browser that gives no adapter computes on the CPU and says why', async () => {
        const refuse = () => {
            GPU.prototype.requestAdapter = async () => null;
        };
        const { page, close } = await open(browser, server.url, {}, refuse);
        await page.waitForFunction(() => /gives no adapter/.test(document.querySelector('#adapter-hint').textContent));
        assert.match(await load(page), /^Runs on CPU/);
        await close();
    });
});

describe('when something goes wrong', { timeout: 2 * TIMEOUT }, () => {
    test('Escape stops, and the same text can be made again', async () => {
        const { page, troubles, close } = await open(browser, server.url);
        await load(page, 'cpu');
        await page.locator('#tokens').fill('10000');
        await page.locator('#temperature').fill('0.8');
        await page.locator('#generate').click();
        await page.waitForFunction(() => document.querySelector('#made').textContent.length > 50);
        await page.keyboard.press('Escape');
        const { status, text } = await ended(page);
        assert.equal(status, 'Stopped.');
        assert.ok(text.length > 50);
        assertGolden(await generate(page, { prompt: PROMPT, tokens: TOKENS }));
        assert.deepEqual(troubles, []);
        await close();
    });

    test('a missing model file is named, and loading can be tried again', async () => {
        const { page, close } = await open(browser, server.url);
        await page.route('**/model.safetensors', (route) => route.fulfill({ status: 404 }));
        assert.match(await load(page, 'cpu'), /^Not loaded/);
        assert.match(await page.locator('#error').textContent(), /model\.safetensors: status 404/);
        await page.unroute('**/model.safetensors');
        assert.match(await load(page, 'cpu'), /^Runs on CPU/);
        assert.ok(await page.locator('#error').isHidden());
        await close();
    });

    test('damaged weights are an error with its reason', async () => {
        const { page, close } = await open(browser, server.url);
        await page.route('**/model.safetensors', (route) => route.fulfill({ body: Buffer.alloc(5000, 0xff) }));
        assert.match(await load(page, 'cpu'), /^Not loaded/);
        assert.match(await page.locator('#error').textContent(), /model\.safetensors: .*header/);
        await close();
    });

    test('an empty prompt is refused with words', async () => {
        const { page, close } = await open(browser, server.url);
        await load(page, 'cpu');
        assert.match((await generate(page, { prompt: '', tokens: 5 })).status, /^Failed/);
        assert.match(await page.locator('#error').textContent(), /prompt is empty/);
        await close();
    });

    test('shaders that the browser refuses are an error of loading', async () => {
        const garble = () => {
            const { createShaderModule } = GPUDevice.prototype;
            GPUDevice.prototype.createShaderModule = function (descriptor) {
                return createShaderModule.call(this, { ...descriptor, code: `${descriptor.code}\n!` });
            };
        };
        const { page, close } = await open(browser, server.url, {}, garble);
        assert.match(await load(page, 'gpu'), /^Not loaded/);
        assert.match(await page.locator('#error').textContent(), /GPU error: /);
        await close();
    });

    test('a panic of the runtime is shown instead of waited for', async () => {
        const refuse = () => {
            // The runtime takes it for granted that a buffer can be described; what throws here panics in there.
            GPUDevice.prototype.createBuffer = () => {
                throw new RangeError('no buffers today');
            };
        };
        const { page, troubles, close } = await open(browser, server.url, {}, refuse);
        assert.match(await load(page, 'gpu'), /^Not loaded/);
        assert.match(await page.locator('#error').textContent(), /the runtime crashed: panicked at .*no buffers today/s);
        assert.ok(troubles.length > 0, 'the console has it as well');
        await close();
    });

    test('an exception thrown through the runtime is shown instead of waited for', async () => {
        const refuse = () => {
            GPUQueue.prototype.submit = () => {
                throw new TypeError('no submissions today');
            };
        };
        const { page, close } = await open(browser, server.url, {}, refuse);
        assert.match(await load(page, 'gpu'), /^Not loaded/);
        assert.match(await page.locator('#error').textContent(), /the runtime crashed: .*no submissions today/s);
        await close();
    });
});

describe('usable', { timeout: 2 * TIMEOUT }, () => {
    const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
    const views = [
        { colorScheme: 'light', viewport: { width: 1100, height: 900 } },
        { colorScheme: 'dark', viewport: { width: 1100, height: 900 } },
        { colorScheme: 'light', viewport: { width: 360, height: 740 } },
        { colorScheme: 'dark', viewport: { width: 360, height: 740 } },
    ];
    for (const options of views) {
        const name = `${options.colorScheme}-${options.viewport.width}`;
        test(`${name}: nothing sticks out and axe finds nothing`, async () => {
            const { page, close } = await open(browser, server.url, options);
            await load(page, 'cpu');
            await generate(page, { prompt: PROMPT, tokens: 40 });
            const width = await page.evaluate(() => document.documentElement.scrollWidth);
            assert.ok(width <= options.viewport.width, `the page is ${width} pixels wide`);
            await page.evaluate(axe); // from the test, so the page's own policy does not apply
            const { violations, passes } = await page.evaluate(() => globalThis.axe.run());
            const found = violations.map((v) => `${v.id}: ${v.nodes.map((node) => node.html).join(' ')}`);
            assert.deepEqual(found, []);
            assert.ok(passes.length > 0, 'axe checked nothing');
            if (process.env.SCREENSHOTS) await page.screenshot({ path: `${process.env.SCREENSHOTS}/${name}.png`, fullPage: true });
            await close();
        });
    }
});
