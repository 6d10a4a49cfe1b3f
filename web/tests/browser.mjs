// A browser with WebGPU on a software adapter, and the built page served to it.

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

import { serve } from '../scripts/serve.mjs';

/** Nothing in a test may wait longer than this; a promise that never settles must fail it. */
export const TIMEOUT = 150_000;

const PLACES = [
    '/usr/bin/chromium',
    '/usr/bin/chromium-browser',
    '/usr/bin/google-chrome',
    '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
    'C:/Program Files/Google/Chrome/Application/chrome.exe',
];

/** The software adapter is asked for by name, so that a machine's own graphics do not decide the result. */
const WEBGPU = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'];

/** A test talks to nobody but its own server. */
const QUIET = [
    '--no-sandbox',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--disable-quic',
];

/** Where a browser is; fails if there is none. */
export function findBrowser() {
    const path = process.env.CHROME_PATH ?? PLACES.find((place) => existsSync(place));
    if (path) return path;
    throw new Error('no Chromium found\n\nhint: sudo apt-get install --yes chromium, or set CHROME_PATH');
}

export function launch({ webgpu = true } = {}) {
    const args = webgpu ? [...QUIET, ...WEBGPU] : QUIET;
    return chromium.launch({ executablePath: findBrowser(), args, timeout: TIMEOUT });
}

/** Serves what `cargo xtask build-web` made. */
export async function serveSite() {
    const site = fileURLToPath(new URL('../site', import.meta.url));
    if (!existsSync(`${site}/model/model.safetensors`)) {
        throw new Error('the page is not built\n\nhint: cargo xtask build-web');
    }
    return serve(site, 0);
}

/** A page that notes everything that went wrong in it. The functions of `prepare` run in it before its own scripts. */
export async function open(browser, url, options = {}, prepare = []) {
    const context = await browser.newContext(options);
    context.setDefaultTimeout(TIMEOUT);
    const page = await context.newPage();
    const troubles = [];
    page.on('pageerror', (error) => troubles.push(String(error)));
    page.on('console', (message) => {
        if (message.type() === 'error') troubles.push(message.text());
    });
    for (const script of prepare) await page.addInitScript(script);
    await page.goto(url, { waitUntil: 'load' });
    return { page, troubles, close: () => context.close() };
}

/** Runs a function in the page's worker before its own script: what is hidden or replaced there. */
export function beforeWorker(page, script) {
    return page.route(/assets\/worker-[^/]*\.js$/, async (route) => {
        const response = await route.fetch();
        await route.fulfill({ response, body: `(${script})();\n${await response.text()}` });
    });
}

/** Chooses a device, loads the model and waits until it is ready; returns the line that says where it runs. */
export async function load(page, device = undefined) {
    if (device) await page.locator(`input[name=device][value=${device}]`).check();
    await page.locator('#load').click();
    return settled(page, '#load-status', /Runs on|Not loaded/);
}

/** Sets what the settings dialog has; in it, as people do. */
export async function set(page, values) {
    await page.locator('#open-settings').click();
    for (const [id, value] of Object.entries(values)) await page.locator(`#${id}`).fill(String(value));
    await page.locator('#settings button').click();
}

/** Generates and returns the text without the prompt, and the line that says how it ended. */
export async function generate(page, { prompt, tokens, temperature = 0 }) {
    await page.locator('#prompt').fill(prompt);
    await set(page, { temperature, tokens });
    await page.locator('#run').click();
    return ended(page);
}

/** Waits for the end of a generation. */
export async function ended(page) {
    const status = await settled(page, '#status', /^(Done|Stopped|Failed)/);
    return { text: await page.locator('#text').textContent(), status };
}

/** Waits until an element says something like this. */
export async function settled(page, selector, pattern, timeout = TIMEOUT) {
    const seen = ([selector, source]) => new RegExp(source).test(document.querySelector(selector).textContent);
    await page.waitForFunction(seen, [selector, pattern.source], { timeout });
    return page.locator(selector).textContent();
}
