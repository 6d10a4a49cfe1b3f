import * as module from '../dist/lab/lab.js';
import type { Cancel } from './cancel.js';
import { keeper, letGo } from './crash.js';
import { TaipanError, throwIfAborted } from './errors.js';
import { openDevice } from './model.js';
import { collect, hashOf, rangesOf, runtimeFiles } from './fileset.js';
import { loader } from './module.js';
import { Meter } from './progress.js';
import type { Call, Method, Note, Params, Result, WireOrigin } from './protocol.js';
import { Server } from './server.js';

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
                throw new TaipanError('internal', `there is no method ${request.method}`);
        }
    }

    async #validate({ device: choice, wasm }: Params<'validate'>, cancel: Cancel, note: (note: Note) => void): Promise<Result<'validate'>> {
        const { Validation } = await start(wasm);
        const device = await openDevice(module, choice);
        const validation = new Validation();
        try {
            const total = validation.length;
            for (let index = 0; index < total; index++) {
                throwIfAborted(cancel.signal);
                const report = await guard(() => validation.run(device, index));
                note({ kind: 'case', report: { ...report, worst: report.worst ?? Infinity }, index, total });
            }
            const complaints = validation.complaints() as string[];
            return { complaints, device: device.description, ran: total };
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

    #opened(): module.Bench {
        if (!this.#bench) throw new TaipanError('disposed', 'the benchmark was closed');
        return this.#bench.bench;
    }

    #close(): void {
        letGo(this.#bench?.bench, this.#bench?.device);
        this.#bench = undefined;
    }
}

function say(note: (note: Note) => void): (text: string) => void {
    return (text) => note({ kind: 'say', text });
}
