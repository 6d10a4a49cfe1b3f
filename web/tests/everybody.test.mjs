// The built page for everybody: what is said where WebGPU is missing or too small, with a recorded run; whether it can be used
// with a keyboard, by those who hear it, on narrow screens, in light and dark.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { describe, test } from 'node:test';

import { TIMEOUT } from './browser.mjs';
import { PROMPT } from './models.mjs';
import { TOKENS, assertGolden, beforeWorker, generate, load, onDisk, picture, settled, site } from './site.mjs';

const require = createRequire(import.meta.url);
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const here = site();

/** Nothing sticks out, and axe finds nothing. */
async function assertUsable(page, width) {
    const found = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(found <= width, `the page is ${found} pixels wide, the window ${width}`);
    await page.evaluate(axe); // from the test, so the page's own policy does not apply
    const { violations, passes } = await page.evaluate(() => globalThis.axe.run());
    assert.deepEqual(violations.map((v) => `${v.id}: ${v.nodes.map((node) => node.html).join(' ')}`), []);
    assert.ok(passes.length > 0, 'axe checked nothing');
}

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
            const { page, troubles, close } = await here.visit({ reducedMotion: 'reduce' }, [prepare]);
            await page.waitForFunction(() => !document.querySelector('#notice').hidden);
            assert.equal(await page.locator('#notice').getAttribute('data-code'), code);
            const text = await page.locator('#notice').textContent();
            assert.ok(text.length > 60 && !said.has(text), text);
            said.add(text);
            assert.equal(await page.locator('input[value=gpu]').isDisabled(), code !== 'software-adapter');
            await page.locator('#replay').click();
            await settled(page, '#status', /recorded run\.$/);
            assert.ok((await page.locator('#text .gated').count()) > 50);
            const words = await settled(page, '#memory-text', /tokens on/);
            const { stateBytes, info } = await page.evaluate(async () => (await fetch('recorded.json')).json());
            const cache = (tokens) => tokens * info.layers.length * 2 * info.hiddenSize * 4; // keys and values in f32
            const crossover = Number(/from ([\d,]+) tokens on/.exec(words)[1].replaceAll(',', ''));
            assert.ok(cache(crossover) > stateBytes && cache(crossover - 1) <= stateBytes, words);
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

describe('reduced motion', { timeout: TIMEOUT }, () => {
    const waits = () => {
        globalThis.waits = 0;
        const { setTimeout } = globalThis;
        globalThis.setTimeout = (work, ms, ...rest) => (ms === 30 && globalThis.waits++, setTimeout(work, ms, ...rest));
    };
    for (const reducedMotion of ['reduce', 'no-preference']) {
        test(`${reducedMotion}: ${reducedMotion === 'reduce' ? 'nothing moves' : 'tokens come one after another'}`, async () => {
            const { page, close } = await here.visit({ reducedMotion }, [waits]);
            await page.locator('#replay').click();
            await settled(page, '#status', /recorded run\.$/);
            const { count, moving, tokens } = await page.evaluate(() => {
                const lasts = (element, pseudo) => {
                    const { transitionDuration, animationName, scrollBehavior } = getComputedStyle(element, pseudo);
                    return transitionDuration.split(', ').some((time) => time !== '0s') || animationName !== 'none' || scrollBehavior === 'smooth';
                };
                const moving = [...document.querySelectorAll('*')].filter((element) => [undefined, '::before', '::after'].some((pseudo) => lasts(element, pseudo)));
                return { count: globalThis.waits, moving: moving.length, tokens: document.querySelectorAll('#text .gated').length };
            });
            assert.ok(tokens > 50);
            if (reducedMotion === 'reduce') assert.deepEqual([count, moving], [0, 0]);
            else assert.ok(count >= tokens && moving >= tokens, `${count} pauses, ${moving} elements that move`);
            await close();
        });
    }
});

describe('too little memory', { timeout: 2 * TIMEOUT }, () => {
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
            const { page, close } = await here.visit({ serviceWorkers: 'block' });
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
        const { page, troubles, close } = await here.visit({ serviceWorkers: 'block' }, [hardware]);
        await beforeWorker(page, small);
        assert.ok(await page.locator('#notice').isHidden());
        assert.match(await load(page), /^Runs on CPU.*The graphics device has too little memory \(maxStorageBufferBindingSize/);
        assertGolden(await generate(page, { prompt: PROMPT, tokens: TOKENS }));
        assert.deepEqual(troubles, []);
        await close();
    });
});

/** What others share: a result with something wrong in it, and files of benchmarks. */
const kernels = ['rms_norm_gated', 'matvec', 'window_attention', 'golden, CPU'].map((kernel, i) => ({ kernel, cases: 90, worst: 1.5e-6, allowed: 5e-5, failed: i === 2 ? 1 : 0 }));
const SHARED = { device: 'some graphics card (webgpu)', browser: 'any', ok: false, rows: kernels };
const bench = (speed) => {
    const row = (n_prompt, n_gen) => ({ gpu_info: 'some graphics card', model_type: 'model f16', n_prompt, n_gen, avg_ts: speed, stddev_ts: 1 });
    return JSON.stringify([row(128, 0), row(0, 32)]);
};

describe('usable', { timeout: 2 * TIMEOUT }, () => {
    const views = ['light', 'dark'].flatMap((colorScheme) => [1100, 360].map((width) => ({ colorScheme, viewport: { width, height: 800 } })));
    for (const options of views) {
        const { width } = options.viewport;
        const name = `${options.colorScheme}-${width}`;
        test(`${name}: nothing sticks out and axe finds nothing, in every state`, async () => {
            const { page, troubles, close } = await here.visit(options);
            await settled(page, '#adapter', /adapter/);
            await assertUsable(page, width);
            await picture(page, `${name}-first`);
            await load(page, 'cpu');
            await generate(page, { prompt: PROMPT, tokens: 60 });
            await page.locator('#continue').click();
            await page.waitForFunction(() => document.querySelectorAll('#tree button').length === 2);
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
            await page.locator('#validate').waitFor();
            await assertUsable(page, width);
            await page.keyboard.press('ArrowRight');
            await page.locator('#benchmark').waitFor();
            await page.locator('#bench-files').setInputFiles(onDisk({ 'desktop.json': bench(310), 'telephone.json': bench(42), 'none.json': '{]' }));
            await settled(page, '#compare-status', /2 files compared/);
            await assertUsable(page, width);
            await picture(page, `${name}-benchmark`);
            const other = await page.context().newPage();
            await other.goto(`${here.server.url}#v=${Buffer.from(JSON.stringify(SHARED)).toString('base64url')}`);
            await settled(other, '#validate-status', /NOT in agreement/);
            await assertUsable(other, width);
            await picture(other, `${name}-validate`);
            assert.deepEqual(troubles, []);
            await close();
        });
    }
});
