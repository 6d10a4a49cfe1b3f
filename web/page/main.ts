// The page: names the adapter, loads the model when asked to, and continues a prompt.

import {
    type DeviceChoice,
    type GenerateEvent,
    type Model,
    type Progress,
    type SessionStats,
    TaipanError,
    checkSupport,
    loadModel,
} from '../src/index.js';
import { bytes, milliseconds, rate } from './format.js';
import { define, view } from './view.js';

declare const __SIZES__: { model: number; program: number };

/** Beside the built page; in the repository while developing. */
const MODEL = import.meta.env.DEV ? './crates/cli/model/' : './model/';

type Done = Extract<GenerateEvent, { type: 'done' }>;

let model: Model | undefined;
/** What Stop aborts: a download or a generation. */
let running: AbortController | undefined;

/** Shows what failed and what to do about it; an abort is no failure. */
function showError(error: unknown): void {
    if (error instanceof DOMException && error.name === 'AbortError') return;
    const message = error instanceof Error ? error.message : String(error);
    const hint = error instanceof TaipanError && error.hint ? `\nHint: ${error.hint}` : '';
    view.error.textContent = message + hint;
    view.error.hidden = false;
}

/** What can be pressed in the present state. */
function update(): void {
    view.devices.disabled = running !== undefined;
    view.load.disabled = running !== undefined || model !== undefined;
    view.load.textContent = model ? 'Loaded' : `Load (${bytes(__SIZES__.model)} model, ${bytes(__SIZES__.program)} program)`;
    view.generate.disabled = running !== undefined || model === undefined;
    view.stop.disabled = running === undefined;
}

/** Does one thing that Stop can end; nothing else can be started meanwhile. */
async function run(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    if (running) return;
    running = new AbortController();
    view.error.hidden = true;
    update();
    try {
        await work(running.signal);
    } catch (error) {
        showError(error);
    } finally {
        running = undefined;
        update();
    }
}

async function nameAdapter(): Promise<void> {
    const support = await checkSupport();
    const none = 'No WebGPU adapter, so the CPU will compute.';
    view.adapter.textContent = support.adapter ? `WebGPU adapter: ${support.adapter}` : none;
    view.adapterHint.textContent = support.hints.join(' ');
    view.adapterHint.hidden = support.hints.length === 0;
    const gpu = view.devices.querySelector<HTMLInputElement>('[value=gpu]');
    if (gpu) gpu.disabled = !support.ok;
}

function showProgress(progress: Progress): void {
    const { phase, loaded, total, fraction } = progress;
    if (fraction !== undefined) view.progress.value = fraction;
    else view.progress.removeAttribute('value');
    const of = total === undefined ? '' : ` of ${bytes(total)}`;
    view.loadStatus.textContent = phase === 'download' ? `${bytes(loaded)}${of}` : 'Preparing…';
}

async function load(signal: AbortSignal): Promise<void> {
    const device = (view.devices.querySelector<HTMLInputElement>(':checked')?.value ?? 'auto') as DeviceChoice;
    view.progress.hidden = false;
    view.loadStatus.textContent = 'Connecting…';
    let status = 'Not loaded.';
    try {
        const begin = performance.now();
        model = await loadModel(new URL(MODEL, location.href), { device, signal, onProgress: showProgress });
        status = `Runs on ${model.device}. Ready after ${milliseconds(performance.now() - begin)}.`;
        view.status.textContent = '';
    } finally {
        view.progress.hidden = true;
        view.loadStatus.textContent = status;
    }
}

/** Another device needs another copy of the weights. */
function unload(): void {
    model?.dispose();
    model = undefined;
    view.loadStatus.textContent = '';
    view.status.textContent = 'Load the model first.';
    update();
}

async function generate(signal: AbortSignal): Promise<void> {
    if (!model) return;
    const prompt = view.prompt.value;
    const options = {
        temperature: view.temperature.valueAsNumber,
        maxTokens: view.tokens.valueAsNumber,
        seed: view.seed.valueAsNumber,
        signal,
    };
    view.given.textContent = prompt;
    view.made.textContent = '';
    view.stats.replaceChildren();
    view.result.hidden = false;
    view.status.textContent = 'Generating…';
    const session = model.createSession();
    let status = 'Failed.';
    try {
        let done: Done | undefined;
        for await (const event of session.generate(prompt, options)) {
            if (event.type === 'text') view.made.append(event.text);
            else done = event;
        }
        if (!done) return;
        showStats(done, await session.stats());
        status = `Done: ${done.usage.completionTokens} tokens, ${REASONS[done.finishReason]}.`;
    } catch (error) {
        if (signal.aborted) status = 'Stopped.';
        throw error;
    } finally {
        session.dispose();
        view.status.textContent = status;
    }
}

const REASONS = { stop: 'stop text met', eos: 'the text ended', limit: 'limit reached' };

function showStats({ usage, timings }: Done, stats: SessionStats): void {
    define(view.stats, [
        ['Device', model?.device ?? '–'],
        ['First token', milliseconds(timings.firstToken)],
        ['Prompt', `${usage.promptTokens} tokens, ${rate(usage.promptTokens, timings.prompt)}`],
        ['Speed', rate(usage.completionTokens - 1, timings.total - timings.firstToken)],
        ['State, at any length', bytes(stats.bytes.state)],
        ['Weights', bytes(stats.bytes.weights)],
        ['Tokens that attended', `${stats.selected.join(' and ')} of ${stats.tokens}`],
    ]);
}

view.load.addEventListener('click', () => void run(load));
view.devices.addEventListener('change', unload);
view.stop.addEventListener('click', () => running?.abort());
document.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') running?.abort();
});
view.form.addEventListener('submit', (event) => {
    event.preventDefault();
    void run(generate);
});
view.prompt.addEventListener('keydown', (event) => {
    // As in other programs of this kind; the key alone makes a new line.
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) view.form.requestSubmit();
});

update();
void nameAdapter();
