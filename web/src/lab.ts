import * as module from '../dist/lab/lab.js';
import type { Cancel } from './cancel.js';
import { keeper, letGo } from './crash.js';
import { TaipanError, throwIfAborted } from './errors.js';
import { openDevice } from './model.js';
import { collect, hashOf, rangesOf, runtimeFiles } from './fileset.js';
import { loader } from './module.js';
import { Meter } from './progress.js';
import type { Call, HostCall, Method, Note, Params, Result, WireOrigin } from './protocol.js';
import { Server, elsewhere } from './server.js';

const keep = keeper();
const { guard } = keep;
const start = loader(module, keep);

/** Kernel cases and the benchmark, on devices of their own. */
export class Lab extends Server {
    #bench: { bench: module.Bench; device: module.Device } | undefined;

    protected override async answer(request: Call, cancel: Cancel, note: (note: Note) => void): Promise<Result<Method>> {
        switch (request.method) {
            case 'validate':
                return this.#validate(request.params, cancel, note);
            case 'benchOpen':
                return this.#open(request.params, cancel, note);
            case 'benchRow':
                return guard(() => this.#opened().row(request.params.row, say(note)));
            case 'benchKernels':
                return guard(() => this.#opened().kernels(request.params.tokens, request.params.repetitions, say(note)));
            case 'benchClose':
                return this.#close();
            default:
                return elsewhere(request satisfies HostCall);
        }
    }

    async #validate({ device: choice, golden, wasm }: Params<'validate'>, cancel: Cancel, note: (note: Note) => void): Promise<Result<'validate'>> {
        const { Validation } = await start(wasm);
        const device = await openDevice(module, choice);
        const validation = new Validation();
        let ran = 0;
        const unread: string[] = [];
        try {
            const total = validation.length + golden.length;
            const tell = (report: module.CaseReport, index: number): void => {
                ran++;
                note({ kind: 'case', report: { ...report, worst: report.worst ?? Infinity }, index, total });
            };
            for (let index = 0; index < validation.length; index++) {
                throwIfAborted(cancel.signal);
                tell(await guard(() => validation.run(device, index)), index);
            }
            for (const [i, base] of golden.entries()) {
                throwIfAborted(cancel.signal);
                const found = await goldenCase(validation, device, base, cancel.signal);
                for (const report of found.reports) tell(report, validation.length + i);
                if (found.unread) unread.push(found.unread);
            }
            const complaints = [...(validation.complaints() as string[]), ...unread];
            return { complaints, device: device.description, ran };
        } finally {
            letGo(validation, device);
        }
    }

    async #open({ device: choice, settings, model, wasm }: Params<'benchOpen'>, cancel: Cancel, note: (note: Note) => void): Promise<string> {
        const { Bench } = await start(wasm);
        this.#close();
        const begin = performance.now();
        const device = await openDevice(module, choice);
        const deviceMs = performance.now() - begin;
        try {
            const about = { ...settings, deviceMs };
            const bench = model ? await this.#fromFiles(device, about, model, cancel, note) : await guard(() => Bench.open(device, about, say(note)));
            throwIfAborted(cancel.signal);
            this.#bench = { bench, device };
            return device.description;
        } catch (error) {
            letGo(device);
            throw error;
        }
    }

    /** The model of a page, loaded once more: the two modules share no memory. */
    async #fromFiles(
        device: module.Device,
        settings: module.BenchSettings,
        { source, cache, dtype }: WireOrigin,
        { signal }: Cancel,
        note: (note: Note) => void,
    ): Promise<module.Bench> {
        const tools = { shards: module.shards, hash: () => new module.Sha256() };
        const meter = new Meter(({ phase, fraction }) => say(note)(`loading the model: ${phase}, ${Math.round(100 * fraction)} %`));
        try {
            const set = await collect(source, cache, tools, meter, signal);
            const sorted = [...set.weights].sort((a, b) => (a.name < b.name ? -1 : 1));
            const sha256 = await hashOf(sorted, tools, meter, signal);
            const name = 'base' in source ? source.base.split('/').filter(Boolean).at(source.tree ? -3 : -1) : 'files';
            const { read, failed } = rangesOf(set.weights);
            const model = { id: decodeURIComponent(name ?? 'model'), sha256, dtype, files: await runtimeFiles(set) };
            return await guard(() => module.Bench.openModel(device, settings, model, read, say(note))).catch((error: unknown) => {
                throw failed() ?? error;
            });
        } finally {
            meter.stop();
        }
    }

    override close(): void {
        super.close();
        this.#close();
    }

    #opened(): module.Bench {
        if (!this.#bench) throw new TaipanError('disposed', 'the benchmark was closed');
        return this.#bench.bench;
    }

    #close(): void {
        letGo(this.#bench?.bench, this.#bench?.device);
        this.#bench = undefined;
    }
}

const GOLDEN_FILES = ['config.json', 'model.safetensors', 'golden.json', 'golden.safetensors'] as const;

/** A golden case. What cannot be fetched or read is wrong, not left out. */
async function goldenCase(
    validation: module.Validation,
    device: module.Device,
    base: string,
    signal: AbortSignal,
): Promise<{ reports: module.CaseReport[]; unread?: string }> {
    const folder = base.endsWith('/') ? base : `${base}/`;
    const name = decodeURIComponent(folder.split('/').at(-2) ?? '');
    const fetched = async (file: string): Promise<Uint8Array> => {
        const response = await fetch(new URL(file, folder), { signal });
        if (!response.ok) throw new Error(`${file}: status ${response.status}`);
        return new Uint8Array(await response.arrayBuffer());
    };
    try {
        const [config, weights, json, numbers] = await Promise.all(GOLDEN_FILES.map(fetched));
        const bytes = [config, weights, numbers].map((file) => file as Uint8Array) as [Uint8Array, Uint8Array, Uint8Array];
        const text = new TextDecoder().decode(json);
        return { reports: await guard(() => validation.golden(device, name, bytes[0], bytes[1], text, bytes[2])) };
    } catch (error) {
        throwIfAborted(signal);
        if (error instanceof TaipanError && ['crashed', 'device-lost'].includes(error.code)) throw error;
        const detail = `cannot be read: ${error instanceof Error ? error.message : String(error)}`;
        const report = { kernel: 'golden', shape: name, seed: 1, worst: null, tolerance: 0, ok: false, detail };
        return { reports: [report], unread: `golden (${name}): ${detail}` };
    }
}

function say(note: (note: Note) => void): (text: string) => void {
    return (text) => note({ kind: 'say', text });
}
