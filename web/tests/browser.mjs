// A browser, with WebGPU on a software adapter or without.

import { existsSync } from 'node:fs';
import { chromium } from 'playwright-core';

/** Nothing in a test may wait longer than this; a promise that never settles must fail it. */
export const TIMEOUT = 300_000;

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
