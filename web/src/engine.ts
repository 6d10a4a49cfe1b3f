import init, * as runtime from '../dist/wasm/taipan.js'; // the same folder seen from src and, compiled, from dist
import { crash, guard } from './crash.js';
import { type Progress, download } from './download.js';
import { TaipanError } from './errors.js';
import { pull } from './pull.js';

/** Where to run: `auto` takes a WebGPU adapter unless it is a software one, and the CPU otherwise. */
export type DeviceChoice = 'auto' | 'gpu' | 'cpu';

export interface LoadOptions {
    device?: DeviceChoice;
    signal?: AbortSignal;
    onProgress?: (progress: Progress) => void;
    /** Where the wasm module is, if not beside the script. */
    wasm?: string | URL;
}

export interface GenerateOptions {
    /** Most tokens to make; no limit if left out. */
    maxTokens?: number;
    /** 0 is greedy: always the most probable token. */
    temperature?: number;
    topK?: number;
    topP?: number;
    minP?: number;
    repetitionPenalty?: number;
    seed?: number;
    /** Texts that end the generation; they are not part of the text. */
    stop?: string[];
    signal?: AbortSignal;
}

export type FinishReason = 'stop' | 'eos' | 'limit';

/** What {@link Session.generate} yields: pieces of text, and at the end one `done`. */
export type GenerateEvent =
    | { type: 'text'; text: string }
    | {
          type: 'done';
          finishReason: FinishReason;
          usage: { promptTokens: number; completionTokens: number };
          /** Milliseconds from the call: until the prompt was read, until the first token, until the end. */
          timings: { prompt: number; firstToken: number; total: number };
      };

/** What a session holds and has done. */
export interface SessionStats {
    tokens: number;
    bytes: { weights: number; state: number; scratch: number };
    /** Dispatches of one decoded token; 0 on the CPU. */
    dispatches: number;
    /** Per selective attention layer, the tokens that attended. */
    selected: number[];
}

/** What a model is made of, in the folder that `source` names. */
const FILES = ['config.json', 'tokenizer.json', 'model.safetensors'] as const;

let started: Promise<void> | undefined;

/** Loads the wasm module, once. */
function start(wasm: string | URL | undefined): Promise<void> {
    const load = async (): Promise<void> => {
        await (wasm === undefined ? init() : init({ module_or_path: wasm }));
        runtime.onPanic(crash);
    };
    const failed = (error: unknown): never => {
        started = undefined; // so that it can be tried again
        const reason = error instanceof Error ? error.message : String(error);
        throw new TaipanError('network', `cannot load the wasm module: ${reason}`, 'check the connection, then try again');
    };
    return (started ??= load().catch(failed));
}

async function openDevice(choice: DeviceChoice): Promise<runtime.Device> {
    if (choice === 'auto') {
        const adapters = await guard(() => runtime.listAdapters());
        choice = adapters.some((adapter) => !adapter.software) ? 'gpu' : 'cpu';
    }
    return choice === 'gpu' ? guard(() => runtime.Device.gpu()) : runtime.Device.cpu();
}

/** Lets the browser paint and handle input: the CPU device computes on the thread that calls it. */
function breathe(): Promise<void> {
    return new Promise((resolve) => {
        const { port1, port2 } = new MessageChannel(); // unlike a timer's, its turn comes without delay
        port1.onmessage = () => (port1.close(), resolve());
        port2.postMessage(null);
    });
}

/** Downloads a model folder and opens it. Whatever it needs is freed by {@link Model.dispose}. */
export async function loadModel(source: string | URL, options: LoadOptions = {}): Promise<Model> {
    const { signal, onProgress = () => {} } = options;
    signal?.throwIfAborted();
    const base = new URL(source, globalThis.location?.href).href;
    const [files] = await Promise.all([download(base, FILES, signal, onProgress), start(options.wasm)]);
    const bytes = Object.values(files).reduce((sum, file) => sum + file.length, 0);
    onProgress({ phase: 'upload', loaded: 0, total: bytes, fraction: 0 });
    await breathe();
    const device = await openDevice(options.device ?? 'auto');
    const model = await guard(() => runtime.Model.load(device, files));
    if (signal?.aborted) {
        model.free();
        device.free();
        signal.throwIfAborted();
    }
    onProgress({ phase: 'ready', loaded: bytes, total: bytes, fraction: 1 });
    return new Model(model, device);
}

/** An open model. Its sessions share its weights. */
export class Model {
    readonly #model: runtime.Model;
    readonly #device: runtime.Device;
    readonly #sessions = new Set<Session>();
    /** Where it runs, for people. */
    readonly device: string;
    readonly onGpu: boolean;
    readonly parameters: number;
    #disposed = false;

    /** @internal */
    constructor(model: runtime.Model, device: runtime.Device) {
        [this.#model, this.#device] = [model, device];
        this.device = device.description;
        this.onGpu = device.adapter !== undefined;
        this.parameters = model.parameters;
    }

    /** A new session with nothing in it. */
    createSession(): Session {
        if (this.#disposed) throw new TaipanError('disposed', 'the model was disposed');
        const session = new Session(this.#model.session(), this.onGpu, () => this.#sessions.delete(session));
        this.#sessions.add(session);
        return session;
    }

    /** Frees its memory and that of its sessions. */
    dispose(): void {
        if (this.#disposed) return;
        this.#disposed = true;
        for (const session of this.#sessions) session.dispose();
        this.#model.free();
        this.#device.free();
    }
}

/** One text in progress. It does one thing at a time; a call meanwhile rejects with `busy`. */
export class Session {
    readonly #session: runtime.Session;
    readonly #onGpu: boolean;
    readonly #forget: () => void;
    #state: 'idle' | 'busy' | 'disposed' = 'idle';
    #freeWhenIdle = false;

    /** @internal */
    constructor(session: runtime.Session, onGpu: boolean, forget: () => void) {
        [this.#session, this.#onGpu, this.#forget] = [session, onGpu, forget];
    }

    /** Tokens of the text so far. */
    get position(): number {
        return this.#state === 'idle' ? this.#session.position : NaN;
    }

    /**
     * Feeds the prompt and continues the text. A token is made only when the loop asks for the next one. Leaving the loop, or
     * aborting, ends it; the session's text is then the tokens delivered, and can be continued with an empty prompt.
     */
    async *generate(prompt: string, options: GenerateOptions = {}): AsyncGenerator<GenerateEvent, void, void> {
        const { signal, ...sampling } = options;
        const begin = performance.now();
        const since = (): number => performance.now() - begin;
        this.#enter();
        try {
            signal?.throwIfAborted();
            const promptTokens = prompt === '' ? 0 : await guard(() => this.#session.prefill(prompt));
            const timings = { prompt: since(), firstToken: NaN, total: NaN };
            let completionTokens = 0;
            const tokens = pull<runtime.Token, runtime.Finish>((each) => {
                const onToken = async (token: runtime.Token): Promise<boolean> => {
                    const more = await each(token);
                    if (!this.#onGpu) await breathe();
                    return more && !signal?.aborted;
                };
                return guard(() => this.#session.generate(sampling, onToken));
            });
            try {
                for (;;) {
                    signal?.throwIfAborted();
                    const { done, value } = await tokens.next();
                    if (done) {
                        signal?.throwIfAborted();
                        const finishReason = value.reason as FinishReason; // `cancelled` is an abort or an early return
                        const usage = { promptTokens, completionTokens };
                        yield { type: 'done', finishReason, usage, timings: { ...timings, total: since() } };
                        return;
                    }
                    if (completionTokens++ === 0) timings.firstToken = since();
                    if (value.text !== '') yield { type: 'text', text: value.text };
                }
            } finally {
                await tokens.return(undefined as never); // ends the module's part where this loop was left early
            }
        } finally {
            this.#leave();
        }
    }

    /** Numbers about the session. */
    async stats(): Promise<SessionStats> {
        this.#enter();
        try {
            const stats = await guard(() => this.#session.stats());
            const selected = stats.sal.map((layer) => layer.selected);
            return { tokens: stats.tokens, bytes: stats.bytes, dispatches: stats.decode_dispatches, selected };
        } finally {
            this.#leave();
        }
    }

    /** Frees its memory, as soon as nothing is under way. */
    dispose(): void {
        if (this.#state === 'disposed') return;
        this.#freeWhenIdle = true;
        if (this.#state === 'idle') this.#free();
    }

    #enter(): void {
        if (this.#state === 'disposed' || this.#freeWhenIdle) throw new TaipanError('disposed', 'the session was disposed');
        if (this.#state === 'busy') {
            throw new TaipanError('busy', 'the session is generating', 'wait for it, abort it, or make another session');
        }
        this.#state = 'busy';
    }

    #leave(): void {
        this.#state = 'idle';
        if (this.#freeWhenIdle) this.#free();
    }

    #free(): void {
        this.#state = 'disposed';
        this.#forget();
        this.#session.free();
    }
}
