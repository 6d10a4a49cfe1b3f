import type { Model } from './client.js';
import { Connection, type Place, connect } from './connection.js';
import { throwIfAborted } from './errors.js';
import type { BenchRow, Note, WireOrigin } from './protocol.js';
import { wireSource } from './source.js';
import type { CaseReport, DeviceChoice, Source, Urls } from './types.js';

// The native benchmark, compiled to wasm: the same rows in the same JSON. `schema.json` of the benchmark describes it.

export type { BenchRow } from './protocol.js';
export type { CaseReport } from './types.js';

/** A row as `taipan bench -o json` writes it. */
export type Entry = Record<string, unknown>;

export interface LabOptions extends Urls {
    device?: DeviceChoice;
    signal?: AbortSignal;
    /** Hears what is being done. */
    onStatus?: (text: string) => void;
}

export interface BenchOptions extends LabOptions {
    /** A model that is drawn from a seed; `taipan bench --random` lists the names. */
    preset?: string;
    seed?: number;
    /** Instead of a drawn one: a model that is loaded, or where one is. It is loaded once more, from the cache if it is there. */
    model?: Model | Source;
    /** Rows; two short ones if left out. */
    rows?: readonly BenchRow[];
    /** Time every kernel as well, at a prompt of so many tokens. */
    kernels?: { tokens?: number; repetitions?: number } | boolean;
    /** Called with every row as it is done. */
    onEntry?: (entry: Entry) => void;
}

/** Bundlers look for exactly these expressions. */
const PLACE: Place = {
    worker: () => new Worker(new URL('./lab-worker.js', import.meta.url), { type: 'module', name: 'taipan-lab' }),
    thread: async () => (await import('./lab.js')).Lab,
};

const ROWS: readonly BenchRow[] = [{ prompt: 128 }, { generate: 32 }];

/** Measures this device. The result is what `taipan bench compare` and `report` read. */
export async function runBenchmark(options: BenchOptions = {}): Promise<Entry[]> {
    const { preset = 'taipan-4.7m', seed = 0, model, rows = ROWS, kernels = false, device = 'gpu', signal, onStatus, onEntry } = options;
    const entries: Entry[] = [];
    const keep = (entry: Entry): void => {
        entries.push(entry);
        onEntry?.(entry);
    };
    await withLab(options, async (lab) => {
        const onNote = (note: Note): void => void (note.kind === 'say' && onStatus?.(note.text));
        const settings = { preset, seed, ...machine() };
        await lab.call('benchOpen', { device, settings, model: model === undefined ? undefined : originOf(model), wasm: wasmOf(options) }, { signal, onNote });
        for (const row of rows) {
            throwIfAborted(signal);
            keep((await lab.call('benchRow', { row: { repetitions: 3, minTimeMs: 500, ...row } }, { onNote })) as Entry);
        }
        if (!kernels) return;
        throwIfAborted(signal);
        const { tokens = 128, repetitions = 3 } = kernels === true ? {} : kernels;
        for (const entry of await lab.call('benchKernels', { tokens, repetitions }, { onNote })) keep(entry as Entry);
    });
    return entries;
}

function originOf(model: Model | Source): WireOrigin {
    if (typeof model === 'object' && 'origin' in model && 'createSession' in model) return model.origin;
    return { source: wireSource(model as Source), cache: 'opfs', dtype: 'auto' };
}

export interface Validation {
    /** Whether every case agrees, and every kernel has one. */
    ok: boolean;
    device: string;
    reports: CaseReport[];
    /** In words, what is wrong. */
    complaints: string[];
}

export interface ValidateOptions extends LabOptions {
    /**
     * Addresses of golden cases: folders as `tests/golden/taipan` of the repository has them, a small checkpoint each, with what
     * another implementation makes of it.
     */
    golden?: readonly (string | URL)[];
    onCase?: (report: CaseReport, index: number, total: number) => void;
}

/** Runs every kernel, small models of every kind and golden cases on this device, and compares them with plain loops on the CPU. */
export async function validate(options: ValidateOptions = {}): Promise<Validation> {
    const { device = 'gpu', signal, onCase, golden = [] } = options;
    return withLab(options, async (lab) => {
        const reports: CaseReport[] = [];
        const onNote = (note: Note): void => {
            if (note.kind !== 'case') return;
            reports.push(note.report);
            onCase?.(note.report, note.index, note.total);
        };
        const result = await lab.call('validate', { device, golden: golden.map(addressOf), wasm: wasmOf(options) }, { signal, onNote });
        const { complaints } = result;
        return { ok: complaints.length === 0 && reports.length === result.ran && result.ran > 0, device: result.device, reports, complaints };
    });
}

function addressOf(url: string | URL): string {
    return new URL(url, globalThis.location?.href).href;
}

function wasmOf({ wasm }: Urls): string | undefined {
    return wasm === undefined ? undefined : addressOf(wasm);
}

/** Of the computer, what a browser tells. */
function machine(): { browser?: string; os: string; cpu: string } {
    const { userAgent = '', hardwareConcurrency = 0 } = globalThis.navigator ?? {};
    const browser = /(Edg|Firefox|Chrome|Version)\/[\d.]+/.exec(userAgent)?.[0];
    const os = /\(([^)]*)\)/.exec(userAgent)?.[1] ?? '';
    return { ...(browser ? { browser: browser.replace('Version', 'Safari') } : {}), os, cpu: `CPU with ${hardwareConcurrency} threads` };
}

async function withLab<T>(options: LabOptions, work: (lab: Connection) => Promise<T>): Promise<T> {
    throwIfAborted(options.signal);
    const lab = await connect(options, PLACE);
    // Rows cannot be interrupted, the worker can.
    const abort = (): void => lab.breakOff(new DOMException('The operation was aborted.', 'AbortError'));
    options.signal?.addEventListener('abort', abort);
    try {
        return await work(lab);
    } finally {
        options.signal?.removeEventListener('abort', abort);
        await lab.call('benchClose', {}).catch(() => {});
        lab.close();
    }
}
