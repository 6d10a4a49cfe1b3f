import { TaipanError, abortError, throwIfAborted } from './errors.js';
import type { Store } from './store.js';

// A file is kept in parts of two megabytes, each with its hash in front: what is complete is kept when a download is cut
// short, and what was damaged on the disk is noticed and fetched again.

/** Bytes of a part; the last one of a file is shorter. */
export const PART = 1 << 21;
const HASH = 32;

/** What is known of a file before it is fetched. */
export interface Remote {
    name: string;
    url: string;
    size: number | undefined;
    sha256: string | undefined;
}

/** Random access to a file, wherever it is. */
export interface Reader {
    readonly name: string;
    readonly size: number;
    /** Bytes `start` to `end`. */
    read(start: number, end: number): Promise<Uint8Array<ArrayBuffer>>;
}

/** A file that somebody gave us. */
export class DroppedFile implements Reader {
    readonly #file: Blob;
    readonly name: string;
    readonly size: number;

    constructor(file: File) {
        [this.#file, this.name, this.size] = [file, file.name, file.size];
    }

    async read(start: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
        return new Uint8Array(await this.#file.slice(start, end).arrayBuffer());
    }
}

async function hash(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
    // Insecure pages have no cryptography; a part is then taken as it is.
    const digest = await globalThis.crypto?.subtle?.digest('SHA-256', bytes);
    return digest ? new Uint8Array(digest) : new Uint8Array(HASH);
}

/** A file in a store, or on its way there. */
export class StoredFile implements Reader {
    readonly #store: Store;
    readonly #key: string;
    readonly name: string;
    readonly size: number;
    /** The part read last: what is read goes through a file forwards, in pieces smaller than a part. */
    #last: { index: number; bytes: Uint8Array<ArrayBuffer> } | undefined;

    constructor(store: Store, key: string, name: string, size: number) {
        [this.#store, this.#key, this.name, this.size] = [store, key, name, size];
    }

    get count(): number {
        return Math.ceil(this.size / PART);
    }

    length(index: number): number {
        return Math.min(PART, this.size - index * PART);
    }

    /** The parts that are not there yet. */
    async missing(): Promise<number[]> {
        const there = new Map(await this.#store.list(`${this.#key}/parts`));
        const whole = (index: number): boolean => there.get(this.#name(index)) === this.length(index) + HASH;
        return Array.from({ length: this.count }, (_, index) => index).filter((index) => !whole(index));
    }

    async write(index: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
        await this.#store.put(this.#name(index), [await hash(bytes), bytes]);
    }

    async read(start: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
        const out = new Uint8Array(end - start);
        for (let at = start; at < end; ) {
            const index = Math.floor(at / PART);
            const part = await this.#part(index);
            const piece = part.subarray(at - index * PART, Math.min(part.length, end - index * PART));
            if (piece.length === 0) break;
            out.set(piece, at - start);
            at += piece.length;
        }
        return out;
    }

    async #part(index: number): Promise<Uint8Array<ArrayBuffer>> {
        if (this.#last?.index === index) return this.#last.bytes;
        const blob = await this.#store.get(this.#name(index));
        const stored = blob && new Uint8Array(await blob.arrayBuffer());
        const bytes = stored?.subarray(HASH);
        const sound = stored && bytes && (await hash(bytes)).every((byte, i) => byte === stored[i]);
        if (!sound || bytes.length !== this.length(index)) {
            await this.#store.remove(this.#name(index));
            const hint = 'load again: the damaged part was removed and will be fetched';
            throw new TaipanError('integrity', `${this.name}: part ${index} in the cache is damaged`, hint, { file: this.name });
        }
        this.#last = { index, bytes };
        return bytes;
    }

    #name(index: number): string {
        return `${this.#key}/parts/${index}`;
    }
}

/** A file on a server, read in ranges and kept nowhere. */
export class RemoteFile implements Reader {
    readonly #url: string;
    readonly #signal: AbortSignal;
    readonly name: string;
    readonly size: number;

    constructor({ name, url }: Remote, size: number, signal: AbortSignal) {
        [this.name, this.#url, this.size, this.#signal] = [name, url, size, signal];
    }

    async read(start: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
        const response = await get(this.#url, this.#signal, [start, end]);
        const fail = (error: unknown): never => broken(this.#url, error, this.#signal);
        if (response.status === 206) return new Uint8Array(await response.arrayBuffer().catch(fail));
        return beginning(response, start, end).catch(fail);
    }
}

/** Bytes from near the beginning of an answer that is the whole file. */
async function beginning(response: Response, start: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    try {
        if (end > 1 << 24) throw new Error("the server sends whole files only; load with cache: 'opfs' or 'memory'");
        const out = new Uint8Array(end - start);
        for (let at = 0; at < end; ) {
            const { done, value } = await reader.read();
            if (done) return out.subarray(0, Math.max(0, at - start));
            const from = Math.max(0, start - at);
            if (from < value.length) out.set(value.subarray(from, Math.min(value.length, end - at)), at + from - start);
            at += value.length;
        }
        return out;
    } finally {
        await reader.cancel().catch(() => {});
    }
}

const RETRIES = [500, 2000];

function pause(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
        const timer = setTimeout(resolve, ms);
        signal.addEventListener('abort', () => (clearTimeout(timer), reject(abortError(signal))), { once: true });
    });
}

function broken(url: string, error: unknown, signal: AbortSignal): never {
    throwIfAborted(signal);
    const reason = error instanceof Error ? error.message : String(error);
    throw new TaipanError('network', `cannot fetch ${url}: ${reason}`, 'check the connection and the address', { url });
}

/** Fetches, with a few more attempts where a server is overloaded or a connection fails. */
export async function get(url: string, signal: AbortSignal, range?: [start: number, end: number]): Promise<Response> {
    const headers: Record<string, string> = range ? { range: `bytes=${range[0]}-${range[1] - 1}` } : {};
    for (let attempt = 0; ; attempt++) {
        throwIfAborted(signal);
        const again = RETRIES[attempt];
        try {
            const response = await fetch(url, { signal, headers });
            if (response.ok) return response;
            await response.body?.cancel();
            const { status } = response;
            if (again === undefined || (status < 500 && status !== 429)) {
                throw new TaipanError('http-status', `${url}: status ${status}`, 'check the address', { url, status });
            }
        } catch (error) {
            if (error instanceof TaipanError) throw error;
            if (again === undefined || globalThis.navigator?.onLine === false) broken(url, error, signal);
            throwIfAborted(signal);
        }
        await pause(again as number, signal);
    }
}

/** The whole of a file, as it comes. */
export async function* bodyOf(url: string, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const { body } = await get(url, signal);
    const reader = (body as ReadableStream<Uint8Array>).getReader();
    try {
        for (;;) {
            const { done, value } = await reader.read().catch((error: unknown) => broken(url, error, signal));
            if (done) return;
            yield value;
        }
    } finally {
        await reader.cancel().catch(() => {});
    }
}

/** Fetches the parts of a file that are not there. `report` hears of bytes as they come. */
export async function fetchParts(file: StoredFile, url: string, signal: AbortSignal, report: (bytes: number) => void): Promise<void> {
    for (let tries = 0; ; tries++) {
        const missing = await file.missing();
        const first = missing[0];
        if (first === undefined) return;
        let last = first;
        while (missing.includes(last + 1)) last++;
        try {
            await fetchRun(file, url, first, last, signal, report);
            tries = -1; // what fails repeatedly is a place, not the file
        } catch (error) {
            throwIfAborted(signal);
            const wait = RETRIES[tries];
            // The connection broke in the middle: parts that are complete stay.
            if (wait === undefined || !(error instanceof TaipanError && error.code === 'network')) throw error;
            await pause(wait, signal);
        }
    }
}

async function fetchRun(
    file: StoredFile,
    url: string,
    first: number,
    last: number,
    signal: AbortSignal,
    report: (bytes: number) => void,
): Promise<void> {
    const start = first * PART;
    const end = last * PART + file.length(last);
    const whole = start === 0 && end === file.size;
    const response = await get(url, signal, whole ? undefined : [start, end]);
    // A server that knows no ranges begins at the beginning.
    let skip = response.status === 206 ? 0 : start;
    let part = new Uint8Array(file.length(first));
    let [index, filled] = [first, 0];
    const reader = response.body?.getReader();
    if (!reader) throw new TaipanError('network', `${url}: an answer without a body`, 'try again', { url });
    try {
        while (index <= last) {
            const { done, value } = await reader.read().catch((error: unknown) => broken(url, error, signal));
            if (done) {
                const hint = 'the server sent less than it announced; try again';
                throw new TaipanError('network', `${url}: the answer ended early`, hint, { url });
            }
            let piece = value.subarray(Math.min(skip, value.length));
            skip -= value.length - piece.length;
            while (piece.length > 0 && index <= last) {
                const taken = piece.subarray(0, part.length - filled);
                part.set(taken, filled);
                filled += taken.length;
                report(taken.length);
                piece = piece.subarray(taken.length);
                if (filled < part.length) continue;
                await file.write(index, part);
                throwIfAborted(signal);
                index++;
                [part, filled] = [new Uint8Array(index <= last ? file.length(index) : 0), 0];
            }
        }
    } finally {
        await reader.cancel().catch(() => {});
    }
}
