// The page: names the adapter, and sets up its three tabs. The two that few visitors open come when they are opened.

import { checkSupport } from '../dist/index.js';
import { setUpModel, showError, showSupport } from './app.js';
import { find } from './dom.js';
import { setUpGenerate } from './generate.js';
import { watchBound } from './panels.js';
import { setUpReplay } from './replay.js';
import { decode, readLink } from './settings.js';

const TABS = ['generate', 'validate', 'benchmark'] as const;
type Tab = (typeof TABS)[number];

const opened = new Set<Tab>(['generate']);

async function openTab(name: Tab, focus = false): Promise<void> {
    for (const tab of TABS) {
        const button = find(`tab-${tab}`);
        button.setAttribute('aria-selected', String(tab === name));
        button.tabIndex = tab === name ? 0 : -1;
        find(tab).hidden = tab !== name;
    }
    if (focus) find(`tab-${name}`).focus();
    if (opened.has(name)) return;
    opened.add(name);
    if (name === 'validate') (await import('./validate.js')).setUpValidate();
    if (name === 'benchmark') await (await import('./benchmark.js')).setUpBenchmark();
}

function setUpTabs(): void {
    for (const [i, name] of TABS.entries()) {
        const button = find(`tab-${name}`);
        button.addEventListener('click', () => void openTab(name).catch(showError));
        button.addEventListener('keydown', ({ key }) => {
            const step = { ArrowRight: 1, ArrowLeft: -1, Home: -i, End: TABS.length - 1 - i }[key];
            const next = step === undefined ? undefined : TABS[(i + step + TABS.length) % TABS.length];
            if (next) void openTab(next, true).catch(showError);
        });
    }
}

/** What came with the address is shown; nothing is loaded or run by it. */
function readAddress(): void {
    if (readLink()) find('status').textContent = 'Prompt and settings are from a link. Load the model first.';
    if (decode('v') !== undefined) void openTab('validate');
}

setUpTabs();
setUpModel();
setUpGenerate();
setUpReplay();
readAddress();
watchBound();
void checkSupport().then(showSupport);

// After the first visit the page works without a network.
if (!import.meta.env.DEV && 'serviceWorker' in navigator && globalThis.isSecureContext) {
    addEventListener('load', () => void navigator.serviceWorker.register(new URL('./sw.js', location.href)).catch(() => {}));
}
