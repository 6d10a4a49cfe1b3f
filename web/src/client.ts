import { Connection, type Place, connect } from './connection.js';
import { TaipanError, fromWire, throwIfAborted } from './errors.js';
import type { Note, Result, WireGenerate, WireOrigin } from './protocol.js';
import { wireSource } from './source.js';
import type {
    Estimate,
    EstimateOptions,
    GenerateEvent,
    GenerateOptions,
    LoadOptions,
    LostEvent,
    ModelInfo,
    Piece,
    RecoveredEvent,
    SessionOptions,
    SessionStats,
    Source,
} from './types.js';

/** Bundlers look for exactly these expressions. */
const PLACE: Place = {
    worker: () => new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'taipan' }),
    thread: async () => (await import('./host.js')).Host,
};

/** What a model would take and download, from its config and the headers of its weight files alone. */
export async function estimate(source: Source, options: EstimateOptions = {}): Promise<Estimate> {
    const { signal, cache = 'opfs', dtype = 'auto' } = options;
    throwIfAborted(signal);
    const connection = await connect(options, PLACE);
    try {
        const params = { source: wireSource(source, options.hub), cache, dtype, wasm: address(options.wasm) };
        return await connection.call('estimate', params, { signal });
    } finally {
        connection.close();
    }
}

function address(url: string | URL | undefined): string | undefined {
    return url === undefined ? undefined : new URL(url, globalThis.location?.href).href;
}

/** Downloads a model, or takes it from the cache, and opens it. Whatever it needs is freed by {@link Model.dispose}. */
export async function loadModel(source: Source, options: LoadOptions = {}): Promise<Model> {
    const { signal, onProgress, device = 'auto', cache = 'opfs', dtype = 'auto', autoRecover = false, warmup = true } = options;
    throwIfAborted(signal);
    const connection = await connect(options, PLACE);
    const name = connection.name();
    const onNote = (note: Note): void => void (note.kind === 'progress' && onProgress?.(note.progress));
    const settings = { device, cache, dtype, autoRecover, warmup, wasm: address(options.wasm) };
    try {
        const origin = { source: wireSource(source, options.hub), cache, dtype };
        const info = await connection.call('load', { model: name, source: origin.source, options: settings }, { signal, onNote });
        return new Model(connection, name, info, origin);
    } catch (error) {
        connection.close();
        throw error;
    }
}

export interface ModelEvents {
    'device-lost': LostEvent;
    recovered: RecoveredEvent;
}

/** An open model. Its sessions share its weights. */
export class Model {
    readonly #connection: Connection;
    readonly #name: number;
    readonly #sessions = new Set<Session>();
    readonly #listeners = new Map<keyof ModelEvents, Set<(event: never) => void>>();
    readonly info: ModelInfo;
    /** @internal Where its files are: for who loads it once more. */
    readonly origin: WireOrigin;
    #disposed: Promise<void> | undefined;

    /** @internal */
    constructor(connection: Connection, name: number, info: ModelInfo, origin: WireOrigin) {
        [this.#connection, this.#name, this.info, this.origin] = [connection, name, info, origin];
        connection.listen(name, (event) => {
            if (event.type === 'lost') this.#emit({ type: 'device-lost', reason: event.reason, recovering: event.recovering });
            else this.#emit({ type: 'recovered', error: event.error && fromWire(event.error) });
        });
    }

    /** Where it runs, for people. */
    get device(): string {
        return this.info.device;
    }

    get onGpu(): boolean {
        return this.info.onGpu;
    }

    get parameters(): number {
        return this.info.parameters;
    }

    /** Listens; returns what stops it. */
    on<K extends keyof ModelEvents>(type: K, listener: (event: ModelEvents[K]) => void): () => void {
        const listeners = this.#listeners.get(type) ?? new Set();
        this.#listeners.set(type, listeners.add(listener as (event: never) => void));
        return () => void listeners.delete(listener as (event: never) => void);
    }

    #emit(event: ModelEvents[keyof ModelEvents]): void {
        for (const listener of this.#listeners.get(event.type) ?? []) listener(event as never);
    }

    /** A new session with nothing in it. An option that is not allowed shows with the first call. */
    createSession(options: SessionOptions = {}): Session {
        this.#check();
        return this.#session(options, (session) =>
            this.#connection.call('createSession', { model: this.#name, session, options: settings(options) }),
        );
    }

    /** A session from what {@link Session.save} gave, here or on another device. Its bound is the saved one. */
    async restoreSession(bytes: Uint8Array, options: SessionOptions = {}): Promise<Session> {
        this.#check();
        if (!(bytes instanceof Uint8Array)) throw new TaipanError('invalid-option', 'a saved session is a Uint8Array');
        const session = this.#session(options, (name) =>
            this.#connection.call('restoreSession', { model: this.#name, session: name, options: settings(options), bytes }),
        );
        await session.opened;
        return session;
    }

    #session(options: SessionOptions, open: (name: number) => Promise<number>): Session {
        const session: Session = new Session(this.#connection, options, open, (fork, opened) => this.#session(fork, opened), () =>
            this.#sessions.delete(session),
        );
        this.#sessions.add(session);
        return session;
    }

    /** The tokens of a text, each with the text it adds. */
    async tokenize(text: string): Promise<Piece[]> {
        this.#check();
        checkText(text, 'the text');
        return this.#connection.call('tokenize', { model: this.#name, text });
    }

    /** Bytes of all buffers that the model and its sessions have on the GPU now. */
    async gpuBytes(): Promise<number> {
        this.#check();
        return this.#connection.call('gpuBytes', { model: this.#name });
    }

    /** Frees its memory and that of its sessions. */
    dispose(): Promise<void> {
        return (this.#disposed ??= this.#dispose());
    }

    async #dispose(): Promise<void> {
        await Promise.allSettled([...this.#sessions].map((session) => session.dispose()));
        await this.#connection.call('disposeModel', { model: this.#name }).catch(() => {});
        this.#connection.close();
    }

    #check(): void {
        if (this.#disposed) throw new TaipanError('disposed', 'the model was disposed');
    }
}

function settings({ attentionBudget, burst }: SessionOptions): SessionOptions {
    checkNumbers({ attentionBudget, burst });
    return attentionBudget === undefined ? {} : { attentionBudget, ...(burst === undefined ? {} : { burst }) };
}

/** In JSON, in which options go to the runtime, what is no number would be none given. */
function checkNumbers(options: object): void {
    for (const [name, value] of Object.entries(options)) {
        const unlimited = name === 'maxTokens' && value === Infinity;
        if (typeof value === 'number' && !Number.isFinite(value) && !unlimited) throw new TaipanError('invalid-option', `${name} is ${value}`);
    }
}

/** What callers without types may get wrong. */
function checkText(text: unknown, what: string): void {
    if (typeof text !== 'string') throw new TaipanError('invalid-option', `${what} is not a string`);
}

type Open = (name: number) => Promise<number>;

/** One text in progress. It does one thing at a time; a call meanwhile rejects with `busy`. */
export class Session {
    readonly #connection: Connection;
    readonly #options: SessionOptions;
    readonly #name: number;
    readonly #another: (options: SessionOptions, open: Open) => Session;
    readonly #forget: () => void;
    /** @internal */
    readonly opened: Promise<void>;
    #position = 0;
    #busy = false;
    #stop: AbortController | undefined;
    #disposed = false;

    /** @internal */
    constructor(
        connection: Connection,
        options: SessionOptions,
        open: Open,
        another: (options: SessionOptions, open: Open) => Session,
        forget: () => void,
    ) {
        [this.#connection, this.#options, this.#another, this.#forget] = [connection, options, another, forget];
        this.#name = connection.name();
        this.opened = open(this.#name).then((position) => void (this.#position = position));
        this.opened.catch(() => {}); // whoever uses the session sees it
    }

    /** Tokens of the text so far. */
    get position(): number {
        return this.#position;
    }

    /**
     * Feeds the prompt and continues the text. A token is made only when the loop asks for the next one. Leaving the loop, or
     * aborting, ends it; the session's text is then the tokens handed out, and can be continued with an empty prompt. An abort
     * while the prompt is read leaves what was read of it, in whole segments.
     */
    async *generate(prompt: string, options: GenerateOptions = {}): AsyncGenerator<GenerateEvent, void, void> {
        const { signal, trace = [], stop = [], ...rest } = options;
        const seed = rest.seed ?? this.#options.seed;
        const settings: WireGenerate = { ...rest, ...(seed === undefined ? {} : { seed }), stop: [stop].flat(), trace: trace.includes('gates') };
        checkText(prompt, 'the prompt');
        checkNumbers(rest);
        throwIfAborted(signal);
        const leave = this.#enter();
        const controller = new AbortController();
        this.#stop = controller;
        const abort = (): void => controller.abort(signal?.reason);
        signal?.addEventListener('abort', abort);
        try {
            await this.opened;
            const generation = this.#connection.name();
            await this.#connection.call('generate', { session: this.#name, generation, prompt, options: settings });
            try {
                for (;;) {
                    const events = await this.#connection.call('next', { generation }, { signal: controller.signal });
                    for (const event of events) {
                        if (event.type === 'token') this.#position = event.position + 1;
                        yield event;
                    }
                    if (events.length === 0 || events.at(-1)?.type === 'done') return;
                }
            } finally {
                const position = await this.#connection.call('end', { generation }).catch(() => undefined);
                this.#position = position ?? this.#position;
            }
        } finally {
            signal?.removeEventListener('abort', abort);
            leave();
        }
    }

    /** Another session with the same text; both go on independently. */
    fork(): Promise<Session> {
        return this.#one(async () => {
            const fork = this.#another(this.#options, (name) => this.#connection.call('fork', { session: this.#name, fork: name }));
            await fork.opened;
            return fork;
        });
    }

    /** The whole state as bytes, for {@link Model.restoreSession}. */
    save(): Promise<Uint8Array> {
        return this.#one(() => this.#connection.call('save', { session: this.#name }));
    }

    /** Numbers about the session. */
    stats(): Promise<SessionStats> {
        return this.#one<Result<'stats'>>(() => this.#connection.call('stats', { session: this.#name }));
    }

    /** Frees its memory. What is under way is aborted. */
    async dispose(): Promise<void> {
        if (this.#disposed) return;
        this.#disposed = true;
        this.#stop?.abort();
        this.#forget();
        await this.opened.catch(() => {});
        // The loop of a generation may be paused for good: the other side ends what it was doing.
        await this.#connection.call('disposeSession', { session: this.#name }).catch(() => {});
    }

    async #one<T>(work: () => Promise<T>): Promise<T> {
        const leave = this.#enter();
        try {
            await this.opened;
            return await work();
        } finally {
            leave();
        }
    }

    #enter(): () => void {
        if (this.#disposed) throw new TaipanError('disposed', 'the session was disposed');
        if (this.#busy) throw new TaipanError('busy', 'the session is busy', 'wait for it, abort it, or make another session');
        this.#busy = true;
        return () => {
            this.#busy = false;
            this.#stop = undefined;
        };
    }
}
