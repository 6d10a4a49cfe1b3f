import type * as runtime from '../dist/wasm/taipan.js';
import type { Cancel } from './cancel.js';
import { guard, letGo } from './crash.js';
import { TaipanError, abortError, throwIfAborted } from './errors.js';
import type { LiveModel } from './model.js';
import type { WireGenerate } from './protocol.js';
import { pull } from './pull.js';
import type { FinishReason, GenerateEvent, SessionOptions, SessionStats } from './types.js';

/** Milliseconds between `stats` events. */
const STATS = 500;

/** A session on the side where it is computed. Calls are made one after another, in the order they come. */
export class LiveSession {
    readonly #model: LiveModel;
    readonly #options: SessionOptions;
    #session: runtime.Session | undefined;
    #queue: Promise<unknown> = Promise.resolve();
    /** What the runtime is doing with the session now; without what waits for its turn. */
    #running: Promise<unknown> = Promise.resolve();
    #snapshot: Uint8Array | undefined;
    /** Ends a generation that is under way, with an error for who asks for its next token. */
    #interrupt: ((error: Error) => void) | undefined;
    #disposed = false;

    constructor(model: LiveModel, options: SessionOptions, session: runtime.Session) {
        [this.#model, this.#options, this.#session] = [model, options, session];
    }

    get disposed(): boolean {
        return this.#disposed;
    }

    get position(): number {
        return this.#session?.position ?? 0;
    }

    /** Runs `work` when what was asked for before is done. */
    #next<T>(work: (session: runtime.Session) => Promise<T>): Promise<T> {
        const run = async (): Promise<T> => {
            if (this.#disposed) throw new TaipanError('disposed', 'the session was disposed');
            await this.#model.ready();
            const session = this.#session;
            if (!session) throw new TaipanError('disposed', 'the session was disposed');
            const running = work(session);
            this.#running = running.catch(() => {});
            return running;
        };
        const result = this.#queue.then(run, run);
        this.#queue = result.catch(() => {});
        return result;
    }

    fork(): Promise<LiveSession> {
        return this.#next(async (session) => {
            const fork = new LiveSession(this.#model, this.#options, await guard(() => session.fork()));
            fork.#snapshot = this.#snapshot;
            this.#model.sessions.add(fork);
            return fork;
        });
    }

    save(): Promise<Uint8Array> {
        return this.#next(async (session) => {
            const bytes = await guard(() => session.save());
            if (this.#model.snapshots) this.#snapshot = bytes.slice();
            return bytes;
        });
    }

    restore(bytes: Uint8Array): Promise<void> {
        return this.#next(async (session) => {
            await guard(() => session.restore(bytes));
            if (this.#model.snapshots) this.#snapshot = bytes.slice();
        });
    }

    stats(): Promise<SessionStats> {
        return this.#next(async (session) => {
            const s = await guard(() => session.stats());
            const [selected, refused] = [s.sal.map((layer) => layer.selected), s.sal.map((layer) => layer.refused)];
            return { tokens: s.tokens, bytes: s.bytes, dispatches: s.decode_dispatches, submits: s.decode_submits, selected, refused };
        });
    }

    /**
     * Feeds the prompt and continues the text. A list of events is made only when it is asked for: those of one token, or what
     * comes before the first. Whatever happens, the session's text is then the tokens handed out.
     */
    async *generate(prompt: string, options: WireGenerate, cancel: Cancel): AsyncGenerator<GenerateEvent[], void, void> {
        let release!: () => void;
        const held = new Promise<void>((resolve) => (release = resolve));
        const session = await new Promise<runtime.Session>((resolve, reject) => {
            // The queue waits until this generation is over.
            this.#next(async (session) => (resolve(session), held)).catch(reject);
        });
        const events = this.#generate(session, prompt, options, cancel);
        let interrupted: Error | undefined;
        const interrupt = (error: Error): void => {
            interrupted = error;
            void events.return().then(release, release); // the loop that takes the tokens may be paused for good
        };
        this.#interrupt = interrupt;
        try {
            for (;;) {
                const { done, value } = await events.next();
                if (interrupted) throw interrupted;
                if (done) return;
                yield value;
                if (interrupted) throw interrupted;
            }
        } finally {
            await events.return();
            cancel.over();
            if (this.#interrupt === interrupt) this.#interrupt = undefined;
            try {
                if (this.#model.snapshots && !interrupted) this.#snapshot = await guard(() => session.save()).catch(() => this.#snapshot);
            } finally {
                release();
            }
        }
    }

    async *#generate(
        session: runtime.Session,
        prompt: string,
        { trace, stop, ...sampling }: WireGenerate,
        cancel: Cancel,
    ): AsyncGenerator<GenerateEvent[], void, void> {
        const start = session.position;
        const begin = performance.now();
        const since = (): number => performance.now() - begin;
        throwIfAborted(cancel.signal);
        let promptTokens = 0;
        if (prompt !== '') {
            const reading = pull<runtime.Read, runtime.Fed>((each) => guard(() => session.prefill(prompt, trace, each, cancel.promise)));
            const fed = yield* reports(reading);
            promptTokens = fed.tokens;
            if (fed.cancelled) throw abortError();
            if (fed.gates) yield [gatesEvent(fed.gates)];
        }
        const timings = { prompt: since(), firstToken: NaN, total: NaN };
        let [completionTokens, told] = [0, timings.prompt];
        const settings = { ...sampling, stop, traceGates: trace };
        const tokens = pull<runtime.Token, runtime.Finish>((each) => guard(() => session.generate(settings, each, cancel.promise)));
        const stats = (): GenerateEvent => {
            const elapsedMs = since() - timings.firstToken;
            const tokensPerSecond = elapsedMs > 0 ? ((completionTokens - 1) * 1e3) / elapsedMs : 0;
            return { type: 'stats', tokens: completionTokens, tokensPerSecond, elapsedMs };
        };
        try {
            for (;;) {
                throwIfAborted(cancel.signal);
                const { done, value } = await tokens.next();
                if (done) {
                    if (value.reason === 'cancelled') throw abortError();
                    const events: GenerateEvent[] = [];
                    const last = trace ? await guard(() => session.catchUp()) : undefined;
                    if (last) events.push(gatesEvent(last));
                    const rest = value.reason === 'limit' ? session.finishText() : '';
                    if (rest !== '') events.push({ type: 'text', text: rest });
                    timings.total = since();
                    const usage = { promptTokens, completionTokens };
                    const finishReason = value.reason as FinishReason;
                    yield [...events, stats(), { type: 'done', finishReason, stop: value.stop, usage, timings }];
                    return;
                }
                if (completionTokens++ === 0) timings.firstToken = since();
                const events: GenerateEvent[] = [];
                if (value.gates) events.push(gatesEvent(value.gates));
                // The session cannot be asked while it is generating.
                const position = start + promptTokens + completionTokens - 1;
                events.push({ type: 'token', id: value.id, position });
                if (value.text !== '') events.push({ type: 'text', text: value.text });
                if (since() - told >= STATS) {
                    told = since();
                    events.push(stats());
                }
                yield events;
            }
        } finally {
            await tokens.return(undefined as never); // ends the module's part where this loop was left early
        }
    }

    /** Frees its memory, as soon as nothing is under way. */
    dispose(): Promise<void> {
        if (this.#disposed) return Promise.resolve();
        this.#disposed = true;
        return this.release().then(() => void this.#model.sessions.delete(this));
    }

    /**
     * Frees what is on the device and keeps the snapshot. What waits for its turn goes on waiting; a generation that is under
     * way ends with `why`.
     */
    async release(why?: Error): Promise<void> {
        if (why) this.#interrupt?.(why);
        await this.#running;
        letGo(this.#session);
        this.#session = undefined;
    }

    /** Goes on with a new session of a new device, from the last snapshot or from nothing. */
    async bringBack(make: (options: SessionOptions) => runtime.Session): Promise<void> {
        if (this.#disposed) return;
        const session = make(this.#options);
        if (this.#snapshot) await guard(() => session.restore(this.#snapshot as Uint8Array));
        this.#session = session;
    }
}

/** Events about a prompt while it is read; what became of it. */
async function* reports(reading: AsyncGenerator<runtime.Read, runtime.Fed, void>): AsyncGenerator<GenerateEvent[], runtime.Fed, void> {
    try {
        for (;;) {
            const { done, value } = await reading.next();
            if (done) return value;
            yield [{ type: 'prompt', read: value.read, total: value.total }];
        }
    } finally {
        await reading.return(undefined as never); // ends the module's part where this loop was left early
    }
}

function gatesEvent({ first, alpha, selected }: runtime.Gates): GenerateEvent {
    return { type: 'gates', first, alpha, selected: selected.map((layer) => layer.map((one) => one === 1)) };
}
