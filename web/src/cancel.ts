import { abortError } from './errors.js';

/** Something that can be given up, seen from where the work is done. */
export class Cancel {
    readonly #controller = new AbortController();
    #settle!: () => void;
    /** Settles when it is given up, or when it is over: the runtime must not wait for ever. */
    readonly promise = new Promise<void>((resolve) => (this.#settle = resolve));

    get signal(): AbortSignal {
        return this.#controller.signal;
    }

    abort(): void {
        this.#controller.abort(abortError());
        this.#settle();
    }

    /** The work is done, one way or another. */
    over(): void {
        this.#settle();
    }
}
