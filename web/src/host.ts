import * as runtime from '../dist/wasm/taipan.js'; // the same folder seen from src and, compiled, from dist
import { Cancel } from './cancel.js';
import { crash, guard } from './crash.js';
import { TaipanError, abortError, isAbort, toWire } from './errors.js';
import { peek } from './fileset.js';
import { LiveModel } from './model.js';
import { loader } from './module.js';
import { Meter } from './progress.js';
import type { Call, LabCall, Method, Note, Params, Result, WireEstimate } from './protocol.js';
import { Server, elsewhere } from './server.js';
import type { LiveSession } from './session.js';
import type { Estimate, GenerateEvent } from './types.js';

const start = loader(runtime, { crash, guard });

interface Generation {
    session: LiveSession;
    events: AsyncGenerator<GenerateEvent[], void, void>;
    cancel: Cancel;
}

/** The side that computes texts. */
export class Host extends Server {
    readonly #models = new Map<number, LiveModel>();
    readonly #sessions = new Map<number, LiveSession>();
    readonly #generations = new Map<number, Generation>();

    protected override async answer(request: Call, cancel: Cancel, note: (note: Note) => void): Promise<Result<Method>> {
        switch (request.method) {
            case 'load':
                return this.#load(request.params, cancel, note);
            case 'estimate':
                return estimate(request.params, cancel);
            case 'tokenize': {
                const model = await this.#model(request.params.model).ready();
                return guard(() => model.tokenize(request.params.text));
            }
            case 'gpuBytes':
                return this.#model(request.params.model).gpuBytes();
            case 'disposeModel':
                return this.#disposeModel(request.params.model);
            case 'createSession':
                return this.#keep(request.params.session, await this.#model(request.params.model).createSession(request.params.options));
            case 'restoreSession': {
                const session = await this.#model(request.params.model).createSession(request.params.options);
                try {
                    await session.restore(request.params.bytes);
                } catch (error) {
                    await session.dispose();
                    throw error;
                }
                return this.#keep(request.params.session, session);
            }
            case 'fork':
                return this.#keep(request.params.fork, await this.#session(request.params.session).fork());
            case 'save':
                return this.#session(request.params.session).save();
            case 'stats':
                return this.#session(request.params.session).stats();
            case 'disposeSession':
                return this.#disposeSession(request.params.session);
            case 'generate':
                return this.#generate(request.params);
            case 'next':
                return this.#next(request.params, cancel);
            case 'end':
                return this.#end(request.params);
            default:
                return elsewhere(request satisfies LabCall);
        }
    }

    async #load({ model: name, source, options }: Params<'load'>, cancel: Cancel, note: (note: Note) => void): Promise<Result<'load'>> {
        const meter = new Meter((progress) => note({ kind: 'progress', progress }));
        try {
            const module = await start(options.wasm);
            const lost = (reason: string, recovering: boolean): void => this.post({ type: 'lost', model: name, reason, recovering });
            const recovered = (error: unknown): void =>
                this.post({ type: 'recovered', model: name, error: error === undefined ? undefined : toWire(error) });
            const model = new LiveModel(module, source, options, lost, recovered);
            const info = await model.load(meter, cancel);
            this.#models.set(name, model);
            return info;
        } catch (error) {
            throw isAbort(error) || !cancel.signal.aborted ? error : abortError(cancel.signal);
        } finally {
            meter.stop();
        }
    }

    async #disposeModel(name: number): Promise<void> {
        const model = this.#models.get(name);
        this.#models.delete(name);
        await model?.dispose();
        for (const [key, session] of this.#sessions) if (session.disposed) this.#sessions.delete(key);
    }

    async #disposeSession(name: number): Promise<void> {
        const session = this.#sessions.get(name);
        this.#sessions.delete(name);
        for (const generation of this.#generations.values()) {
            if (generation.session !== session) continue;
            generation.cancel.abort();
            void generation.events.return().catch(() => {}); // its loop may be paused for good
        }
        await session?.dispose();
    }

    #generate({ session: name, generation, prompt, options }: Params<'generate'>): void {
        const session = this.#session(name);
        const cancel = new Cancel();
        this.#generations.set(generation, { session, events: session.generate(prompt, options, cancel), cancel });
    }

    async #next({ generation: name }: Params<'next'>, call: Cancel): Promise<GenerateEvent[]> {
        const { events, cancel } = this.#generation(name);
        const abort = (): void => cancel.abort();
        if (call.signal.aborted) abort();
        call.signal.addEventListener('abort', abort);
        try {
            const { done, value } = await events.next();
            return done ? [] : value;
        } finally {
            call.signal.removeEventListener('abort', abort);
        }
    }

    async #end({ generation: name }: Params<'end'>): Promise<number> {
        const { session, events } = this.#generation(name);
        this.#generations.delete(name);
        await events.return();
        return session.position;
    }

    #keep(name: number, session: LiveSession): number {
        this.#sessions.set(name, session);
        return session.position;
    }

    #model(name: number): LiveModel {
        const model = this.#models.get(name);
        if (!model) throw new TaipanError('disposed', 'the model was disposed');
        return model;
    }

    #session(name: number): LiveSession {
        const session = this.#sessions.get(name);
        if (!session) throw new TaipanError('disposed', 'the session was disposed');
        return session;
    }

    #generation(name: number): Generation {
        const generation = this.#generations.get(name);
        if (!generation) throw new TaipanError('disposed', 'the generation has ended');
        return generation;
    }
}

/** What a model takes, from its config and headers. */
async function estimate({ source, cache, dtype, wasm }: WireEstimate, cancel: Cancel): Promise<Estimate> {
    const module = await start(wasm);
    const tools = { shards: module.shards, hash: () => new module.Sha256() };
    const { files, downloadBytes, cachedBytes } = await peek(source, cache, tools, cancel.signal);
    const adapter = await globalThis.navigator?.gpu?.requestAdapter({ powerPreference: 'high-performance' }).catch(() => null);
    const limits = adapter?.limits;
    const binding = limits && Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize);
    // Without an adapter the usual limit stands for it.
    const f = await guard(() => module.estimate(files, dtype, binding ?? 1 << 27));
    const gpuBytes = f.weightBytes + f.stateBytes + f.scratchBytes;
    const verdict = (): Pick<Estimate, 'fits' | 'limitingFactor'> => {
        if (!limits || binding === undefined) return { fits: 'unknown', limitingFactor: 'no WebGPU adapter' };
        if (f.largestBufferBytes > binding) {
            return { fits: 'no', limitingFactor: `maxStorageBufferBindingSize: ${f.largestBuffer} needs ${f.largestBufferBytes} of ${binding}` };
        }
        // A browser does not tell how much memory a GPU has. What it allows in one buffer, it has.
        if (gpuBytes <= limits.maxBufferSize) return { fits: 'yes', limitingFactor: undefined };
        return { fits: 'unknown', limitingFactor: 'memory of the GPU' };
    };
    return { downloadBytes, cachedBytes, gpuBytes, stateBytes: f.stateBytes, parameters: f.parameters, ...verdict() };
}
