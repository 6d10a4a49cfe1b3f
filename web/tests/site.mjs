// The built page as tests use it: served to a browser, and what people do in it.

import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before } from 'node:test';
import { fileURLToPath } from 'node:url';

import { serve } from '../scripts/serve.mjs';
import { TIMEOUT, launch, open } from './browser.mjs';
import { PROMPT, golden } from './models.mjs';

/** Tokens that texts are compared over. */
export const TOKENS = 20;

/** Serves what `cargo xtask build-web` made. */
async function serveSite() {
    const site = fileURLToPath(new URL('../site', import.meta.url));
    if (!existsSync(`${site}/model/model.safetensors`)) {
        throw new Error('the page is not built\n\nhint: cargo xtask build-web');
    }
    return serve(site, 0);
}

/** Serves the page to a browser, which is there for all tests of a file; `visit` opens it. */
export function site() {
    const here = { server: undefined, browser: undefined, visit: undefined };
    before(async () => {
        here.server = await serveSite();
        here.browser = await launch();
        here.visit = (options, prepare) => open(here.browser, here.server.url, options, prepare);
    });
    after(async () => {
        await here.browser?.close();
        here.server?.closeAllConnections();
        here.server?.close();
    });
    return here;
}

export function assertGolden({ text, status }) {
    assert.match(status, new RegExp(`^Done: ${TOKENS} tokens, limit reached`));
    assert.ok(text.length > PROMPT.length + TOKENS, `too short a text: ${JSON.stringify(text)}`);
    assert.equal(text, golden[PROMPT].slice(0, text.length));
}

export async function picture(page, name) {
    if (process.env.SCREENSHOTS) await page.screenshot({ path: `${process.env.SCREENSHOTS}/${name}.png`, fullPage: true });
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

/** Opens a tab, and waits until it is there. */
export async function openTab(page, name) {
    await page.locator(`#tab-${name}`).click();
    await page.locator(`#${name}`).waitFor();
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

/** Waits until an element says something like this, whether or not anything is drawn meanwhile. */
export async function settled(page, selector, pattern, timeout = TIMEOUT) {
    const seen = ([selector, source]) => new RegExp(source).test(document.querySelector(selector).textContent);
    const said = () => page.locator(selector).textContent();
    await page.waitForFunction(seen, [selector, pattern.source], { timeout, polling: 100 }).catch(async (error) => {
        throw new Error(`${selector} says ${JSON.stringify(await said())}, not ${pattern}: ${error.message}`, { cause: error });
    });
    return said();
}

/** Files for an input, on a disk as those that people choose are; what is written there goes with the process. */
export function onDisk(files) {
    const folder = mkdtempSync(join(tmpdir(), 'taipan-page-'));
    process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
    return Object.entries(files).map(([name, text]) => {
        const path = join(folder, name);
        writeFileSync(path, text);
        return path;
    });
}
