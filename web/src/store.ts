import { TaipanError } from './errors.js';
import type { CacheKind } from './types.js';

/** Named pieces of bytes that outlive the page, where the browser allows it. Names are `model/file/number`. */
export interface Store {
    readonly kind: CacheKind;
    get(key: string): Promise<Blob | undefined>;
    put(key: string, parts: readonly Uint8Array<ArrayBuffer>[]): Promise<void>;
    /** Everything whose name is `prefix` or begins with `prefix/`. */
    remove(prefix: string): Promise<void>;
    /** Names below `prefix`, and bytes. */
    list(prefix: string): Promise<[name: string, bytes: number][]>;
}

const ROOT = 'taipan-models';

function quotaOr(error: unknown, key: string): unknown {
    if (!(error instanceof Error) || error.name !== 'QuotaExceededError') return error;
    const hint = "delete other models with cache.delete(), free disk space, or load with cache: 'none'";
    return new TaipanError('quota-exceeded', `the browser gives no more storage for ${key}`, hint, { key });
}

/** The origin's private file system: nothing of a file is in memory unless it is read. */
class OpfsStore implements Store {
    readonly kind = 'opfs';
    readonly #root: FileSystemDirectoryHandle;

    constructor(root: FileSystemDirectoryHandle) {
        this.#root = root;
    }

    async #folder(path: readonly string[], create: boolean): Promise<FileSystemDirectoryHandle> {
        let folder = this.#root;
        for (const name of path) folder = await folder.getDirectoryHandle(name, { create });
        return folder;
    }

    async get(key: string): Promise<Blob | undefined> {
        const path = key.split('/');
        const name = path.pop() as string;
        try {
            const file = await (await this.#folder(path, false)).getFileHandle(name);
            return await file.getFile();
        } catch {
            return undefined;
        }
    }

    async put(key: string, parts: readonly Uint8Array<ArrayBuffer>[]): Promise<void> {
        const path = key.split('/');
        const name = path.pop() as string;
        try {
            const file = await (await this.#folder(path, true)).getFileHandle(name, { create: true });
            // What was written appears when it is closed, whole: a piece that exists is complete.
            const writable = await file.createWritable();
            try {
                for (const part of parts) await writable.write(part);
                await writable.close();
            } catch (error) {
                await writable.abort().catch(() => {});
                await this.remove(key);
                throw error;
            }
        } catch (error) {
            throw quotaOr(error, key);
        }
    }

    async remove(prefix: string): Promise<void> {
        const path = prefix.split('/');
        const name = path.pop() as string;
        try {
            await (await this.#folder(path, false)).removeEntry(name, { recursive: true });
        } catch {
            // It was not there.
        }
    }

    async list(prefix: string): Promise<[string, number][]> {
        const path = prefix === '' ? [] : prefix.split('/');
        const found: [string, number][] = [];
        const walk = async (folder: FileSystemDirectoryHandle, at: string): Promise<void> => {
            for await (const [name, handle] of folder.entries()) {
                const key = at === '' ? name : `${at}/${name}`;
                if (handle.kind === 'directory') await walk(handle as FileSystemDirectoryHandle, key);
                else found.push([key, (await (handle as FileSystemFileHandle).getFile()).size]);
            }
        };
        try {
            await walk(await this.#folder(path, false), prefix);
        } catch {
            // Nothing there, or removed meanwhile by another tab.
        }
        return found;
    }
}

/** The cache of responses, for browsers whose private file system cannot be written to. */
class ResponseStore implements Store {
    readonly kind = 'cache';
    readonly #cache: Cache;
    static readonly #base = 'https://model.invalid/';

    constructor(cache: Cache) {
        this.#cache = cache;
    }

    async get(key: string): Promise<Blob | undefined> {
        return (await this.#cache.match(ResponseStore.#base + key))?.blob();
    }

    async put(key: string, parts: readonly Uint8Array<ArrayBuffer>[]): Promise<void> {
        const blob = new Blob([...parts]);
        const headers = { 'content-length': String(blob.size) };
        await this.#cache.put(ResponseStore.#base + key, new Response(blob, { headers })).catch((error: unknown) => {
            throw quotaOr(error, key);
        });
    }

    async remove(prefix: string): Promise<void> {
        for (const request of await this.#keys(prefix)) await this.#cache.delete(request);
    }

    async list(prefix: string): Promise<[string, number][]> {
        const found: [string, number][] = [];
        for (const request of await this.#keys(prefix)) {
            const length = (await this.#cache.match(request))?.headers.get('content-length');
            found.push([request.url.slice(ResponseStore.#base.length), Number(length ?? 0)]);
        }
        return found;
    }

    async #keys(prefix: string): Promise<Request[]> {
        const at = ResponseStore.#base + prefix;
        return (await this.#cache.keys()).filter(({ url }) => prefix === '' || url === at || url.startsWith(`${at}/`));
    }
}

/** The last resort: gone with the page. */
class MemoryStore implements Store {
    readonly kind = 'memory';
    readonly #blobs = new Map<string, Blob>();

    get(key: string): Promise<Blob | undefined> {
        return Promise.resolve(this.#blobs.get(key));
    }

    put(key: string, parts: readonly Uint8Array<ArrayBuffer>[]): Promise<void> {
        this.#blobs.set(key, new Blob([...parts]));
        return Promise.resolve();
    }

    remove(prefix: string): Promise<void> {
        for (const key of this.#blobs.keys()) if (key === prefix || key.startsWith(`${prefix}/`)) this.#blobs.delete(key);
        return Promise.resolve();
    }

    list(prefix: string): Promise<[string, number][]> {
        const inside = (key: string): boolean => prefix === '' || key === prefix || key.startsWith(`${prefix}/`);
        return Promise.resolve([...this.#blobs].filter(([key]) => inside(key)).map(([key, blob]) => [key, blob.size]));
    }
}

let memory: MemoryStore | undefined;

/** The store of a kind, or of the next one that the browser has. */
export async function openStore(kind: CacheKind): Promise<Store> {
    if (kind === 'opfs') {
        const root = await navigator.storage?.getDirectory?.().catch(() => undefined);
        if (root && 'createWritable' in FileSystemFileHandle.prototype) {
            return new OpfsStore(await root.getDirectoryHandle(ROOT, { create: true }));
        }
    }
    if (kind === 'opfs' || kind === 'cache') {
        const cache = await globalThis.caches?.open(ROOT).catch(() => undefined);
        if (cache) return new ResponseStore(cache);
    }
    return (memory ??= new MemoryStore());
}
