// The page: names the adapter, and sets up its three tabs. The two that few visitors open come when they are opened.

import { TaipanError } from '../dist/index.js';
import { app, setUpModel, showError, showSupport } from './app.js';
import { enable, find } from './dom.js';
import { setUpGenerate } from './generate.js';
import { watchBound } from './panels.js';
import { setUpReplay } from './replay.js';
import { decode, readLink } from './settings.js';

const TABS = ['generate', 'validate', 'benchmark'] as const;
type Tab = (typeof TABS)[number];

/** Scripts of tabs, there or on their way. */
const scripts = new Map<Tab, Promise<void>>([['generate', Promise.resolve()]]);
let chosen: Tab = 'generate';

async function fetchTab(name: Tab): Promise<void> {
    find('error').hidden = true;
    const arrived = <T>(script: Promise<T>): Promise<T> =>
        script.catch((error: unknown) => {
            scripts.delete(name);
            const hint = 'Choose it again when you are connected; if that does not help, reload the page.';
            throw new TaipanError('network', `${find(`tab-${name}`).textContent} could not be fetched: ${String(error)}`, hint);
        });
    if (name === 'validate') (await arrived(import('./validate.js'))).setUpValidate();
    if (name === 'benchmark') await (await arrived(import('./benchmark.js'))).setUpBenchmark();
}

/** Shows a tab, once its script is there: what is pressed before that would do nothing. */
async function openTab(name: Tab, focus = false): Promise<void> {
    chosen = name;
    for (const tab of TABS) {
        const button = find(`tab-${tab}`);
        button.setAttribute('aria-selected', String(tab === name));
        button.tabIndex = tab === name ? 0 : -1;
        find(tab).hidden = true;
    }
    if (focus) find(`tab-${name}`).focus();
    find('opening').hidden = false;
    const script = scripts.get(name) ?? fetchTab(name);
    scripts.set(name, script);
    try {
        await script;
        if (chosen === name) find(name).hidden = false;
    } finally {
        if (chosen === name) find('opening').hidden = true;
    }
}

function setUpTabs(): void {
    for (const [i, name] of TABS.entries()) {
        enable(`tab-${name}`, () => void openTab(name).catch(showError));
        find(`tab-${name}`).addEventListener('keydown', ({ key }) => {
            const step = { ArrowRight: 1, ArrowLeft: -1, Home: -i, End: TABS.length - 1 - i }[key];
            const next = step === undefined ? undefined : TABS[(i + step + TABS.length) % TABS.length];
            if (next) void openTab(next, true).catch(showError);
        });
    }
}

/** What came with the address is shown; nothing is loaded or run by it. */
function readAddress(): void {
    if (readLink()) find('status').textContent = 'Prompt and settings are from a link. Load the model first.';
    if (decode('v') !== undefined) void openTab('validate').catch(showError);
}

setUpTabs();
setUpModel();
setUpGenerate();
setUpReplay();
readAddress();
watchBound();
void app.supported.then(showSupport);

// After the first visit the page works without a network.
if (!import.meta.env.DEV && 'serviceWorker' in navigator && globalThis.isSecureContext) {
    addEventListener('load', () => void navigator.serviceWorker.register(new URL('./sw.js', location.href)).catch(() => {}));
}
