import * as module from '../dist/lab/lab.js';
import type { Cancel } from './cancel.js';
import { keeper, letGo } from './crash.js';
import { TaipanError, throwIfAborted } from './errors.js';
import { openDevice } from './model.js';
import { loader } from './module.js';
import type { Call, Method, Note, Params, Result } from './protocol.js';
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
                return this.#open(request.params, note);
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

    async #open({ device: choice, settings, wasm }: Params<'benchOpen'>, note: (note: Note) => void): Promise<string> {
        const { Bench } = await start(wasm);
        this.#close();
        const begin = performance.now();
        const device = await openDevice(module, choice);
        const deviceMs = performance.now() - begin;
        try {
            const bench = await guard(() => Bench.open(device, { ...settings, deviceMs }, say(note)));
            this.#bench = { bench, device };
            return device.description;
        } catch (error) {
            letGo(device);
            throw error;
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
