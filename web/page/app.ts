import { type DeviceChoice, type Model, type Progress, type Support, TaipanError, checkSupport, estimate, loadModel } from '../dist/index.js';
import { button, find } from './dom.js';
import { bytes, milliseconds } from './format.js';
import { showMemory } from './panels.js';

declare const __FACTS__: { model: number; program: number; parameters: number; layers: string; golden: string[]; goldenBytes: number };

/** Beside the built page; in the repository while developing. */
export const MODEL = new URL(import.meta.env.DEV ? './crates/cli/model/' : './model/', location.href);

/** Golden cases, for the Validate tab. */
const GOLDEN = new URL(import.meta.env.DEV ? './tests/golden/taipan/' : './golden/', location.href);
export const { goldenBytes } = __FACTS__;
export const goldenCases = (): URL[] => __FACTS__.golden.map((name) => new URL(`${name}/`, GOLDEN));

/** What the page has at the moment. One thing runs at a time. */
export const app = {
    model: undefined as Model | undefined,
    /** What the browser offers; never rejects. */
    supported: checkSupport(),
    /** What Stop aborts. */
    running: undefined as AbortController | undefined,
};

const changed: (() => void)[] = [];

/** Calls back whenever what can be pressed may have changed. */
export function onChange(work: () => void): void {
    changed.push(work);
    work();
}

export function update(): void {
    for (const work of changed) work();
}

/** Shows what failed and what to do about it; an abort is no failure. */
export function showError(error: unknown): void {
    if (error instanceof Error && error.name === 'AbortError') return;
    const message = error instanceof Error ? error.message : String(error);
    const hint = error instanceof TaipanError && error.hint ? `\nHint: ${error.hint}` : '';
    const element = find('error');
    element.textContent = remedy(error) + message.charAt(0).toUpperCase() + message.slice(1) + hint;
    element.hidden = false;
    element.scrollIntoView({ block: 'nearest' });
    button('load-once').hidden = !(error instanceof TaipanError && error.code === 'quota-exceeded');
}

/** What the visitor may do, before the runtime's own words. */
function remedy(error: unknown): string {
    if (!(error instanceof TaipanError)) return '';
    switch (error.code) {
        case 'out-of-memory':
        case 'limit-too-small':
            return 'The graphics device has too little memory for this model. Choose the CPU above, or close other tabs and programs.\n';
        case 'quota-exceeded':
            return 'The browser has no room to keep the model. It can be loaded without being kept.\n';
        case 'device-lost':
            return 'The graphics device was reset. Load the model again; it comes from the cache.\n';
        case 'adapter-null':
        case 'webgpu-unavailable':
            return 'WebGPU cannot be used here. Choose the CPU above.\n';
        default:
            return '';
    }
}

/** Does one thing that Stop can end; nothing else can be started meanwhile. */
export async function run(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    if (app.running) return;
    app.running = new AbortController();
    find('error').hidden = true;
    update();
    try {
        await work(app.running.signal);
    } catch (error) {
        showError(error);
    } finally {
        app.running = undefined;
        update();
    }
}

const PHASES: Record<Progress['phase'], string> = {
    manifest: 'Looking at the model',
    download: 'Downloading',
    verify: 'Checking',
    upload: 'Bringing it to the device',
    compile: 'Compiling the kernels',
    warmup: 'Warming up',
    ready: 'Ready',
};

function showProgress({ phase, loaded, total, fraction, bytesPerSecond, etaMs, fromCache }: Progress): void {
    const bar = find<HTMLProgressElement>('progress');
    bar.value = fraction;
    const speed = bytesPerSecond > 0 && Number.isFinite(etaMs) && etaMs > 500 ? `, ${bytes(bytesPerSecond)}/s, ${milliseconds(etaMs)} left` : '';
    const of = phase === 'download' && !fromCache ? `: ${bytes(loaded)} of ${bytes(total)}${speed}` : '…';
    find('load-status').textContent = PHASES[phase] + of;
}

/** What of the model the graphics device has no room for, before anything large is downloaded. */
async function lacking(signal: AbortSignal): Promise<string | undefined> {
    try {
        const { fits, limitingFactor } = await estimate(MODEL, { signal });
        return fits === 'no' ? limitingFactor : undefined;
    } catch {
        return undefined; // loading says what is wrong
    }
}

/** The device to load on. The CPU stands in for one that was not asked for by name and is too small. */
async function chooseDevice(chosen: DeviceChoice, signal: AbortSignal): Promise<{ device: DeviceChoice; note: string }> {
    if (chosen === 'cpu') return { device: chosen, note: '' };
    const { ok, adapter } = await app.supported;
    const gpu = chosen === 'gpu' || (ok && adapter?.software === false);
    const lack = gpu ? await lacking(signal) : undefined;
    if (lack === undefined) return { device: chosen, note: '' };
    if (chosen === 'gpu') throw new TaipanError('limit-too-small', `the model does not fit: ${lack}`);
    return { device: 'cpu', note: ` The graphics device has too little memory (${lack}).` };
}

async function load(signal: AbortSignal, keep: boolean): Promise<void> {
    const chosen = (document.querySelector<HTMLInputElement>('input[name=device]:checked')?.value ?? 'auto') as DeviceChoice;
    find('progress').hidden = false;
    find('load-status').textContent = 'Connecting…';
    let status = 'Not loaded.';
    try {
        const begin = performance.now();
        const { device, note } = await chooseDevice(chosen, signal);
        const model = await loadModel(MODEL, { device, signal, autoRecover: true, cache: keep ? 'opfs' : 'memory', onProgress: showProgress });
        app.model = model;
        model.on('device-lost', () => (find('load-status').textContent = 'The graphics device was lost. Bringing the model back…'));
        model.on('recovered', ({ error }) => {
            find('load-status').textContent = error ? 'The device did not come back.' : `Runs on ${model.device} again.`;
        });
        const { fromCache } = model.info;
        status = `Runs on ${model.device}. Ready after ${milliseconds(performance.now() - begin)}${fromCache ? ', from the cache' : ''}.${note}`;
        // What a session holds is known before the first text.
        const session = model.createSession();
        const { bytes: held } = await session.stats();
        await session.dispose();
        await showMemory(model.info, held.state);
        // The other tabs then work without a network too.
        void navigator.serviceWorker?.ready.then(({ active }) => active?.postMessage('keep'));
    } finally {
        find('progress').hidden = true;
        find('load-status').textContent = status;
    }
}

/** Another device needs another copy of the weights. */
export async function unload(): Promise<void> {
    const { model } = app;
    app.model = undefined;
    update();
    find('load-status').textContent = '';
    await model?.dispose();
}

export function setUpModel(): void {
    find('model-facts').textContent = `${(__FACTS__.parameters / 1e6).toFixed(1)} million parameters, ${__FACTS__.layers}`;
    button('load').textContent = `Load (${bytes(__FACTS__.model)} model, ${bytes(__FACTS__.program)} program)`;
    button('load').addEventListener('click', () => void run((signal) => load(signal, true)));
    button('load-once').addEventListener('click', () => {
        button('load-once').hidden = true;
        void run((signal) => load(signal, false));
    });
    button('unload').addEventListener('click', () => void unload());
    find('devices').addEventListener('change', () => void (app.model && unload()));
    onChange(() => {
        find<HTMLFieldSetElement>('devices').disabled = app.running !== undefined;
        button('load').hidden = app.model !== undefined;
        button('load').disabled = app.running !== undefined;
        button('unload').hidden = app.model === undefined;
        button('unload').disabled = app.running !== undefined;
    });
}

/** Each thing that may be missing has its own message and remedy. */
export function showSupport(support: Support): void {
    const { adapter, code, hints } = support;
    const gpu = document.querySelector<HTMLInputElement>('input[name=device][value=gpu]');
    if (gpu) gpu.disabled = !support.ok;
    find('adapter').textContent = adapter ? `WebGPU adapter: ${adapter.name}` : 'No WebGPU adapter, so the CPU will compute.';
    const notice = find('notice');
    notice.hidden = code === undefined;
    notice.dataset.code = code ?? '';
    const also = support.ok ? '' : ' Until then the model runs on the CPU, and a recorded run can be replayed.';
    notice.textContent = hints.join(' ') + also;
}
