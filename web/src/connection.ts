import { TaipanError, abortError, fromWire, throwIfAborted } from './errors.js';
import type { Method, Note, Params, Reply, Request, Result } from './protocol.js';
import type { Server } from './server.js';
import type { Urls } from './types.js';

interface Waiting {
    resolve: (result: never) => void;
    reject: (error: Error) => void;
    note: ((note: Note) => void) | undefined;
}

interface CallOptions {
    signal?: AbortSignal | undefined;
    onNote?: ((note: Note) => void) | undefined;
    transfer?: Transferable[];
}

type Event = Extract<Reply, { type: 'lost' | 'recovered' }>;

/** The page's end of the line to where things are computed. */
export class Connection {
    readonly #post: (request: Request, transfer: Transferable[]) => void;
    readonly #close: () => void;
    readonly #waiting = new Map<number, Waiting>();
    readonly #listeners = new Map<number, (event: Event) => void>();
    #broken: Error | undefined;
    #next = 1;

    /** @internal */
    constructor(post: (request: Request, transfer: Transferable[]) => void, close: () => void) {
        [this.#post, this.#close] = [post, close];
    }

    /** A name for a model, a session or a generation. */
    name(): number {
        return this.#next++;
    }

    call<M extends Method>(method: M, params: Params<M>, { signal, onNote, transfer = [] }: CallOptions = {}): Promise<Result<M>> {
        return new Promise<Result<M>>((resolve, reject) => {
            throwIfAborted(signal);
            if (this.#broken) throw this.#broken;
            const id = this.#next++;
            const abort = (): void => this.#post({ type: 'cancel', id }, []);
            const over = (): void => signal?.removeEventListener('abort', abort);
            const fail = (error: Error): void => (over(), reject(error.name === 'AbortError' ? abortError(signal) : error));
            this.#waiting.set(id, { resolve: (result) => (over(), resolve(result)), reject: fail, note: onNote });
            signal?.addEventListener('abort', abort);
            // What is posted is exactly a `Request`, which the compiler cannot see through the type parameter.
            this.#post({ type: 'call', id, method, params } as Request, transfer);
        });
    }

    listen(model: number, listener: (event: Event) => void): void {
        this.#listeners.set(model, listener);
    }

    receive(reply: Reply): void {
        if (reply.type === 'lost' || reply.type === 'recovered') return this.#listeners.get(reply.model)?.(reply);
        const waiting = this.#waiting.get(reply.id);
        if (reply.type === 'note') return waiting?.note?.(reply.note);
        this.#waiting.delete(reply.id);
        if (reply.type === 'done') waiting?.resolve(reply.result as never);
        else waiting?.reject(fromWire(reply.error));
    }

    /** Nothing will come any more. */
    breakOff(error: Error): void {
        this.#broken ??= error;
        for (const { reject } of this.#waiting.values()) reject(error);
        this.#waiting.clear();
    }

    close(): void {
        this.breakOff(new TaipanError('disposed', 'the model was disposed'));
        this.#close();
    }
}

/** Where a kind of server is, as a worker and in this thread. */
export interface Place {
    worker(): Worker;
    thread(): Promise<new (post: (reply: Reply, transfer?: Transferable[]) => void) => Server>;
}

/** Connects to a worker of its own, or to this thread. */
export async function connect({ worker = true }: Urls, place: Place): Promise<Connection> {
    if (worker === false || typeof Worker === 'undefined') return inThread(await place.thread());
    const thread = worker === true ? place.worker() : new Worker(worker, { type: 'module', name: 'taipan' });
    const connection = new Connection(
        (request, transfer) => thread.postMessage(request, transfer),
        () => thread.terminate(),
    );
    thread.onmessage = ({ data }: MessageEvent<Reply>) => connection.receive(data);
    thread.onerror = (event) => {
        const hint = 'is the worker script where the `worker` option says? `worker: false` does without one';
        connection.breakOff(new TaipanError('crashed', `the worker failed: ${event.message || 'its script cannot be loaded'}`, hint));
    };
    return connection;
}

/** The same messages through a channel, so that nothing differs but where it is computed. */
function inThread(Kind: Awaited<ReturnType<Place['thread']>>): Connection {
    const { port1, port2 } = new MessageChannel();
    const server = new Kind((reply, transfer = []) => port2.postMessage(reply, transfer));
    const connection = new Connection(
        (request, transfer) => port1.postMessage(request, transfer),
        () => (port1.close(), port2.close(), server.close()),
    );
    port1.onmessage = ({ data }: MessageEvent<Reply>) => connection.receive(data);
    port2.onmessage = ({ data }: MessageEvent<Request>) => server.receive(data);
    return connection;
}
