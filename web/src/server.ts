import { Cancel } from './cancel.js';
import { TaipanError, toWire } from './errors.js';
import type { Call, Method, Note, Reply, Request, Result } from './protocol.js';

type Post = (reply: Reply, transfer?: Transferable[]) => void;

/** Answers the calls of one page, each exactly once. */
export abstract class Server {
    protected readonly post: Post;
    /** How calls under way are given up. */
    readonly #cancels = new Map<number, Cancel>();

    constructor(post: Post) {
        this.post = post;
    }

    protected abstract answer(call: Call, cancel: Cancel, note: (note: Note) => void): Promise<Result<Method>>;

    receive(request: Request): void {
        if (request.type === 'cancel') return this.#cancels.get(request.id)?.abort();
        const { id } = request;
        const cancel = new Cancel();
        this.#cancels.set(id, cancel);
        const answer = this.answer(request, cancel, (note) => this.post({ type: 'note', id, note })).then(
            (result) => this.post({ type: 'done', id, result }, result instanceof Uint8Array ? [result.buffer] : []),
            (error: unknown) => this.post({ type: 'failed', id, error: toWire(error) }),
        );
        void answer.finally(() => {
            cancel.over();
            this.#cancels.delete(id);
        });
    }

    /** Nobody listens any more: what is under way is given up. A worker is ended instead. */
    close(): void {
        for (const cancel of this.#cancels.values()) cancel.abort();
    }
}

/** What another server answers was asked of this one. */
export function elsewhere({ method }: Call): never {
    throw new TaipanError('internal', `there is no method ${method} here`);
}

/** The part of a worker's global scope that is used here. */
interface Scope {
    postMessage(message: unknown, transfer: Transferable[]): void;
    onmessage: ((event: MessageEvent<Request>) => void) | null;
}

/** Makes a worker a server. */
export function serveWorker(Kind: new (post: Post) => Server): void {
    const scope = globalThis as unknown as Scope;
    const server = new Kind((reply, transfer = []) => scope.postMessage(reply, transfer));
    scope.onmessage = ({ data }) => server.receive(data);
}
