import { TaipanError, isAbort } from './errors.js';
import { type Remote, get } from './parts.js';
import type { WireFolder } from './protocol.js';
import type { Store } from './store.js';

/** What is in a manifest about a file. */
interface Entry {
    size?: number;
    sha256?: string;
}

/** The files of a folder with sizes and hashes, as far as somebody says. */
export type Manifest = ReadonlyMap<string, Entry>;

const MANIFEST = 'model-manifest.json';

/** Files that are read whole. */
export interface SmallFiles {
    get(name: string): Promise<Uint8Array<ArrayBuffer> | undefined>;
}

/** Small files of a folder, kept so that they are there without a network. */
export class Folder implements SmallFiles {
    readonly #base: string;
    readonly #key: string;
    readonly #store: Store | undefined;
    readonly #signal: AbortSignal;
    /** Where a hub lists the files. */
    readonly #tree: string | undefined;

    constructor({ base, tree }: WireFolder, key: string, store: Store | undefined, signal: AbortSignal) {
        [this.#base, this.#tree, this.#key, this.#store, this.#signal] = [base, tree, key, store, signal];
    }

    /** A file, or nothing where the server says that there is none. */
    async get(name: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
        return this.#fetch(this.#base + name, name);
    }

    async #fetch(url: string, name: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
        const kept = `${this.#key}/small/${encodeURIComponent(name)}`;
        try {
            const response = await get(url, this.#signal);
            const bytes = new Uint8Array(await response.arrayBuffer());
            await this.#store?.put(kept, [bytes]);
            return bytes;
        } catch (error) {
            if (isAbort(error) || !(error instanceof TaipanError)) throw error;
            if (error.code === 'http-status' && error.details.status === 404) return undefined;
            const blob = error.code === 'network' ? await this.#store?.get(kept) : undefined;
            if (!blob) throw error;
            return new Uint8Array(await blob.arrayBuffer());
        }
    }

    /** Sizes and hashes, from the folder's own manifest or from the hub's list of files. */
    async manifest(): Promise<Manifest> {
        const url = this.#tree ?? this.#base + MANIFEST;
        const bytes = await this.#fetch(url, MANIFEST);
        if (!bytes) return new Map();
        try {
            const json: unknown = JSON.parse(new TextDecoder().decode(bytes));
            return this.#tree ? hubManifest(json as HubFile[]) : ownManifest(json as { files: Record<string, Entry> });
        } catch (error) {
            const reason = error instanceof Error ? error.message : String(error);
            throw new TaipanError('weights-invalid', `${url}: not a manifest: ${reason}`, undefined, { url });
        }
    }

    remote(name: string, manifest: Manifest): Remote {
        const { size, sha256 } = manifest.get(name) ?? {};
        return { name, url: this.#base + name, size, sha256: sha256?.toLowerCase() };
    }
}

interface HubFile {
    path: string;
    size?: number;
    lfs?: { oid?: string; size?: number };
}

function hubManifest(files: HubFile[]): Manifest {
    const entry = ({ size, lfs }: HubFile): Entry => {
        const bytes = lfs?.size ?? size;
        return { ...(bytes === undefined ? {} : { size: bytes }), ...(lfs?.oid ? { sha256: lfs.oid } : {}) };
    };
    return new Map(files.map((file) => [file.path, entry(file)]));
}

function ownManifest({ files }: { files: Record<string, Entry> }): Manifest {
    return new Map(Object.entries(files));
}

/** Small files among those that somebody dropped. */
export class Dropped implements SmallFiles {
    readonly files: ReadonlyMap<string, File>;

    constructor(files: readonly File[]) {
        this.files = new Map(files.map((file) => [file.name, file]));
    }

    async get(name: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
        const file = this.files.get(name);
        return file && new Uint8Array(await file.arrayBuffer());
    }
}
