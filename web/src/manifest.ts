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

/** What the runtime brings to this: it alone can read an index, and hash what comes in pieces. */
export interface Tools {
    shards(index: Uint8Array): string[];
    hash(): { update(bytes: Uint8Array): void; hex(): string; free(): void };
}

/** Files that are read whole. */
export interface SmallFiles {
    get(name: string): Promise<Uint8Array<ArrayBuffer> | undefined>;
}

export function differs(file: string, found: string, expected: string): never {
    const hint = 'the download was damaged, or the manifest belongs to other files; load again';
    throw new TaipanError('integrity', `${file}: SHA-256 is ${found}, the manifest has ${expected}`, hint, { file, expected, found });
}

/** Compares a small file with the hash of the manifest, if that has one. */
function checkSmall(name: string, bytes: Uint8Array, manifest: Manifest, tools: Tools): void {
    const expected = manifest.get(name)?.sha256?.toLowerCase();
    if (!expected) return;
    const hash = tools.hash();
    try {
        hash.update(bytes);
        const found = hash.hex();
        if (found !== expected) differs(name, found, expected);
    } finally {
        hash.free();
    }
}

/** Small files of a folder, kept so that they are there without a network. */
export class Folder implements SmallFiles {
    readonly #base: string;
    readonly #key: string;
    readonly #store: Store | undefined;
    readonly #tools: Tools;
    readonly #signal: AbortSignal;
    #manifest: Manifest = new Map();
    /** Where a hub lists the files. */
    readonly #tree: string | undefined;

    constructor({ base, tree }: WireFolder, key: string, store: Store | undefined, tools: Tools, signal: AbortSignal) {
        [this.#base, this.#tree, this.#key, this.#store, this.#tools, this.#signal] = [base, tree, key, store, tools, signal];
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
            checkSmall(name, bytes, this.#manifest, this.#tools);
            await this.#store?.put(kept, [bytes]);
            return bytes;
        } catch (error) {
            if (isAbort(error) || !(error instanceof TaipanError)) throw error;
            if (error.code === 'http-status' && error.details.status === 404) return undefined;
            const blob = error.code === 'network' ? await this.#store?.get(kept) : undefined;
            if (!blob) throw error;
            const bytes = new Uint8Array(await blob.arrayBuffer());
            checkSmall(name, bytes, this.#manifest, this.#tools);
            return bytes;
        }
    }

    /** Sizes and hashes, from the folder's own manifest or from the hub's list of files; files that come later are held to them. */
    async manifest(): Promise<Manifest> {
        const url = this.#tree ?? this.#base + MANIFEST;
        const bytes = await this.#fetch(url, MANIFEST);
        return (this.#manifest = bytes ? read(bytes, url, this.#tree !== undefined) : new Map());
    }

    remote(name: string, manifest: Manifest): Remote {
        const { size, sha256 } = manifest.get(name) ?? {};
        return { name, url: this.#base + name, size, sha256: sha256?.toLowerCase() };
    }
}

function read(bytes: Uint8Array, where: string, hub: boolean): Manifest {
    try {
        const json: unknown = JSON.parse(new TextDecoder().decode(bytes));
        return hub ? hubManifest(json as HubFile[]) : ownManifest(json as { files: Record<string, Entry> });
    } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        throw new TaipanError('weights-invalid', `${where}: not a manifest: ${reason}`, undefined, { url: where });
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
    readonly #tools: Tools;
    #manifest: Manifest = new Map();

    constructor(files: readonly File[], tools: Tools) {
        this.files = new Map(files.map((file) => [file.name, file]));
        this.#tools = tools;
    }

    async get(name: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
        const file = this.files.get(name);
        const bytes = file && new Uint8Array(await file.arrayBuffer());
        if (bytes) checkSmall(name, bytes, this.#manifest, this.#tools);
        return bytes;
    }

    /** The manifest among them, if there is one. */
    async manifest(): Promise<Manifest> {
        const bytes = await this.get(MANIFEST);
        return (this.#manifest = bytes ? read(bytes, MANIFEST, false) : new Map());
    }
}
