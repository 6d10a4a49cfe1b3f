import { TaipanError, throwIfAborted } from './errors.js';
import { Dropped, Folder, type Manifest, type SmallFiles, type Tools, differs } from './manifest.js';
import { DroppedFile, type Reader, type Remote, RemoteFile, StoredFile, bodyOf, fetchParts, get } from './parts.js';
import type { Meter } from './progress.js';
import type { WireFolder, WireSource } from './protocol.js';
import { type Store, openStore } from './store.js';
import type { CacheKind } from './types.js';
import type * as runtime from '../dist/wasm/taipan.js';
import { modelKey } from './source.js';

/** A model's files, none of the large ones in memory. */
export interface FileSet {
    config: Uint8Array<ArrayBuffer>;
    tokenizer: Uint8Array<ArrayBuffer> | undefined;
    index: Uint8Array<ArrayBuffer> | undefined;
    weights: Reader[];
    cache: CacheKind;
    /** Whether nothing had to be downloaded. */
    fromCache: boolean;
}

const INDEX = 'model.safetensors.index.json';
const WEIGHTS = 'model.safetensors';

async function required(files: SmallFiles, name: string, where: string): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = await files.get(name);
    if (bytes) return bytes;
    const hint = 'a model is a folder with config.json, tokenizer.json and model.safetensors';
    throw new TaipanError('weights-invalid', `${where}: there is no ${name}`, hint, { file: name });
}

/** The weight files that a folder has, by their names. */
async function weightNames(
    files: SmallFiles,
    has: (name: string) => Promise<boolean>,
    tools: Tools,
    where: string,
): Promise<{ names: string[]; index: Uint8Array<ArrayBuffer> | undefined }> {
    if (await has(WEIGHTS)) return { names: [WEIGHTS], index: undefined };
    const index = await required(files, INDEX, where);
    return { names: tools.shards(index), index };
}

async function dropped(files: readonly File[], tools: Tools): Promise<{ set: FileSet; manifest: Manifest }> {
    const given = new Dropped(files, tools);
    const manifest = await given.manifest();
    const where = 'the files given';
    const config = await required(given, 'config.json', where);
    const has = (name: string): Promise<boolean> => Promise.resolve(given.files.has(name));
    const { names, index } = await weightNames(given, has, tools, where);
    const weights = names.map((name) => {
        const file = given.files.get(name);
        if (!file) throw new TaipanError('weights-invalid', `${where}: there is no ${name}`, 'give all files of the folder', { file: name });
        return new DroppedFile(file);
    });
    const set: FileSet = { config, tokenizer: await given.get('tokenizer.json'), index, weights, cache: 'none', fromCache: true };
    return { set, manifest };
}

/** Dropped files are held to a manifest that was dropped with them. */
async function verified(files: readonly File[], tools: Tools, meter: Meter, signal: AbortSignal): Promise<FileSet> {
    const { set, manifest } = await dropped(files, tools);
    const known = set.weights.filter(({ name }) => manifest.get(name)?.sha256);
    if (known.length > 0) meter.begin('verify', known.reduce((sum, { size }) => sum + size, 0), true);
    for (const file of known) {
        const expected = manifest.get(file.name)?.sha256?.toLowerCase() as string;
        const found = await hashOf([file], tools, meter, signal);
        if (found !== expected) differs(file.name, found, expected);
    }
    return set;
}

/** Brings a model's files to where they can be read in ranges: from the cache, and what is missing there from a server. */
export async function collect(
    source: WireSource,
    cache: CacheKind,
    tools: Tools,
    meter: Meter,
    signal: AbortSignal,
): Promise<FileSet> {
    meter.begin('manifest');
    if ('files' in source) return verified(source.files, tools, meter, signal);
    const key = modelKey(source.base);
    const store = cache === 'none' ? undefined : await openStore(cache);
    const work = (): Promise<FileSet> => fetchSet(source, key, store, tools, meter, signal);
    // One tab downloads, another waits and then finds everything there.
    if (!store || !globalThis.navigator?.locks) return work();
    return navigator.locks.request(`taipan:${key}`, { signal }, work) as Promise<FileSet>;
}

async function fetchSet(
    source: WireFolder,
    key: string,
    store: Store | undefined,
    tools: Tools,
    meter: Meter,
    signal: AbortSignal,
): Promise<FileSet> {
    const { base } = source;
    const folder = new Folder(source, key, store, tools, signal);
    const manifest = await folder.manifest();
    const config = await required(folder, 'config.json', base);
    const tokenizer = await folder.get('tokenizer.json');
    const sizes = new Map<string, number>();
    const has = async (name: string): Promise<boolean> => {
        const size = await sizeOf(folder.remote(name, manifest), key, store, signal);
        if (size !== undefined) sizes.set(name, size);
        return size !== undefined;
    };
    const { names, index } = await weightNames(folder, has, tools, base);
    const remotes: [Remote, number][] = [];
    for (const name of names) {
        if (!sizes.has(name) && !(await has(name))) await required({ get: () => Promise.resolve(undefined) }, name, base);
        remotes.push([folder.remote(name, manifest), sizes.get(name) as number]);
    }
    if (!store) {
        const weights = remotes.map(([remote, size]) => new RemoteFile(remote, size, signal));
        await verifyRemote(remotes, tools, meter, signal);
        return { config, tokenizer, index, weights, cache: 'none', fromCache: false };
    }
    await store.put(`${key}/about`, [new TextEncoder().encode(JSON.stringify({ base, files: names }))]);
    const { weights, fromCache } = await download(remotes, key, store, tools, meter, signal);
    return { config, tokenizer, index, weights, cache: store.kind, fromCache };
}

/** The size of a file: from the manifest, from the server, or without a network from what is kept. */
async function sizeOf(remote: Remote, key: string, store: Store | undefined, signal: AbortSignal): Promise<number | undefined> {
    const kept = `${key}/${remote.name}/about`;
    const known = await readAbout(store, kept);
    try {
        const found = remote.size === undefined ? await ask(remote.url, signal) : { size: remote.size, etag: remote.sha256 ?? '' };
        if (!found) return undefined;
        const changed = known && (known.size !== found.size || (known.etag !== '' && found.etag !== '' && known.etag !== found.etag));
        if (changed) await store?.remove(`${key}/${remote.name}`);
        if (!known || changed) await store?.put(kept, [new TextEncoder().encode(JSON.stringify(found))]);
        return found.size;
    } catch (error) {
        if (known && error instanceof TaipanError && error.code === 'network') return known.size;
        throw error;
    }
}

interface About {
    size: number;
    etag: string;
}

async function readAbout(store: Store | undefined, key: string): Promise<About | undefined> {
    const text = await (await store?.get(key))?.text();
    try {
        return text === undefined ? undefined : (JSON.parse(text) as About);
    } catch {
        return undefined;
    }
}

/** Size and version of a file on a server. Asked with a range: some servers count a compressed body otherwise. */
async function ask(url: string, signal: AbortSignal): Promise<About | undefined> {
    try {
        const response = await get(url, signal, [0, 1]);
        await response.body?.cancel();
        const total = /\/(\d+)$/.exec(response.headers.get('content-range') ?? '')?.[1];
        const length = response.status === 206 ? total : response.headers.get('content-length');
        const size = Number(length ?? (await headSize(url, signal)));
        if (size > 0) return { size, etag: response.headers.get('etag') ?? '' };
        const hint = 'the server must announce sizes, or a model-manifest.json beside the model';
        throw new TaipanError('network', `${url}: the server does not say how large the file is`, hint, { url });
    } catch (error) {
        if (error instanceof TaipanError && error.code === 'http-status' && error.details.status === 404) return undefined;
        throw error;
    }
}

/** Servers of other origins may hide the range's total, but not the length. */
async function headSize(url: string, signal: AbortSignal): Promise<string | null> {
    const response = await fetch(url, { method: 'HEAD', signal }).catch(() => undefined);
    return response?.ok ? response.headers.get('content-length') : null;
}

async function download(
    remotes: [Remote, number][],
    key: string,
    store: Store,
    tools: Tools,
    meter: Meter,
    signal: AbortSignal,
): Promise<{ weights: StoredFile[]; fromCache: boolean }> {
    const weights = remotes.map(([{ name }, size]) => new StoredFile(store, `${key}/${name}`, name, size));
    const total = weights.reduce((sum, file) => sum + file.size, 0);
    const missing = await Promise.all(weights.map((file) => file.missing()));
    const wanted = missing.map((parts, i) => parts.reduce((sum, part) => sum + (weights[i] as StoredFile).length(part), 0));
    const needed = wanted.reduce((sum, bytes) => sum + bytes, 0);
    meter.begin('download', total, needed === 0);
    meter.at(total - needed);
    if (needed > 0) await enoughSpace(store, needed);
    for (const [i, file] of weights.entries()) {
        const { url } = (remotes[i] as [Remote, number])[0];
        await fetchParts(file, url, signal, (bytes) => meter.add(bytes, file.name));
    }
    meter.begin('verify', total, needed === 0);
    for (const [i, file] of weights.entries()) {
        const { sha256 } = (remotes[i] as [Remote, number])[0];
        await verify(file, sha256, key, store, tools, meter, signal);
    }
    return { weights, fromCache: needed === 0 };
}

async function enoughSpace(store: Store, needed: number): Promise<void> {
    if (store.kind === 'memory') return;
    const { quota = Infinity, usage = 0 } = (await globalThis.navigator?.storage?.estimate?.()) ?? {};
    const available = quota - usage;
    if (needed <= available) return;
    const hint = "delete other models with cache.delete(), free disk space, or load with cache: 'none'";
    const message = `the model needs ${needed} bytes of storage, the browser gives ${Math.max(0, available)}`;
    throw new TaipanError('quota-exceeded', message, hint, { needed, available });
}

/** Compares a file with the hash of the manifest, once: its parts have hashes of their own from then on. */
async function verify(
    file: StoredFile,
    expected: string | undefined,
    key: string,
    store: Store,
    tools: Tools,
    meter: Meter,
    signal: AbortSignal,
): Promise<void> {
    const mark = `${key}/${file.name}/verified`;
    if (!expected || (await (await store.get(mark))?.text()) === expected) return meter.add(file.size, file.name);
    const found = await hashOf([file], tools, meter, signal);
    if (found === expected) return store.put(mark, [new TextEncoder().encode(expected)]);
    await store.remove(`${key}/${file.name}`);
    differs(file.name, found, expected);
}

/** Where nothing is kept, files are read once for their hashes, from the beginning to the end, and then in ranges for use. */
async function verifyRemote(remotes: [Remote, number][], tools: Tools, meter: Meter, signal: AbortSignal): Promise<void> {
    const known = remotes.filter(([{ sha256 }]) => sha256);
    if (known.length === 0) return;
    meter.begin('verify', known.reduce((sum, [, size]) => sum + size, 0));
    for (const [{ name, url, sha256 }] of known) {
        const found = await digest(bodyOf(url, signal), name, tools, meter);
        if (found !== sha256) differs(name, found, sha256 as string);
    }
}

async function* pieces(file: Reader, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const step = 1 << 20;
    for (let at = 0; at < file.size; at += step) {
        throwIfAborted(signal);
        yield await file.read(at, Math.min(file.size, at + step));
    }
}

/** The hash of files one after another. */
export async function hashOf(files: readonly Reader[], tools: Tools, meter: Meter, signal: AbortSignal): Promise<string> {
    async function* all(): AsyncGenerator<Uint8Array> {
        for (const file of files) yield* pieces(file, signal);
    }
    return digest(all(), files[0]?.name ?? '', tools, meter);
}

async function digest(pieces: AsyncIterable<Uint8Array>, name: string, tools: Tools, meter: Meter): Promise<string> {
    const hash = tools.hash();
    try {
        for await (const piece of pieces) {
            hash.update(piece);
            meter.add(piece.length, name);
        }
        return hash.hex();
    } finally {
        hash.free();
    }
}

/** The beginning of a weight file, up to the end of its header. */
export async function headerOf(file: Reader): Promise<Uint8Array<ArrayBuffer>> {
    const prefix = await file.read(0, Math.min(8, file.size));
    if (prefix.length < 8) return prefix;
    // A length that is nonsense is noticed by who parses the header.
    const length = Number(new DataView(prefix.buffer).getBigUint64(0, true));
    return length > 100_000_000 ? prefix : file.read(0, Math.min(8 + length, file.size));
}

/** The same without fetching weights: for an estimate. */
export async function peek(
    source: WireSource,
    cache: CacheKind,
    tools: Tools,
    signal: AbortSignal,
): Promise<{ files: runtime.ModelFiles; downloadBytes: number; cachedBytes: number }> {
    if ('files' in source) {
        const { set } = await dropped(source.files, tools);
        return { files: await runtimeFiles(set), downloadBytes: 0, cachedBytes: 0 };
    }
    const key = modelKey(source.base);
    const store = cache === 'none' ? undefined : await openStore(cache);
    const folder = new Folder(source, key, undefined, tools, signal);
    const manifest: Manifest = await folder.manifest();
    const config = await required(folder, 'config.json', source.base);
    const sizes = new Map<string, number>();
    const has = async (name: string): Promise<boolean> => {
        const size = await sizeOf(folder.remote(name, manifest), key, undefined, signal);
        if (size !== undefined) sizes.set(name, size);
        return size !== undefined;
    };
    const { names, index } = await weightNames(folder, has, tools, source.base);
    let [downloadBytes, cachedBytes] = [0, 0];
    const weights: Reader[] = [];
    for (const name of names) {
        if (!sizes.has(name)) await has(name);
        const size = sizes.get(name) ?? 0;
        weights.push(new RemoteFile(folder.remote(name, manifest), size, signal));
        const stored = store && new StoredFile(store, `${key}/${name}`, name, size);
        const missing = stored ? (await stored.missing()).reduce((sum, part) => sum + stored.length(part), 0) : size;
        downloadBytes += missing;
        cachedBytes += size - missing;
    }
    const files = await runtimeFiles({ config, tokenizer: undefined, index, weights });
    return { files, downloadBytes, cachedBytes };
}

/** What the runtime is given in memory. */
export async function runtimeFiles(set: Pick<FileSet, 'config' | 'tokenizer' | 'index' | 'weights'>): Promise<runtime.ModelFiles> {
    const weights = [];
    for (const file of set.weights) weights.push({ name: file.name, start: await headerOf(file), size: file.size });
    return { config: set.config, tokenizer: set.tokenizer, index: set.index, weights };
}

/** How the runtime asks for ranges. An error of a file goes through it, which keeps its words only: `failed` has it. */
export function rangesOf(
    files: readonly Reader[],
    report: (bytes: number, file: string) => void = () => {},
): { read: (file: string, start: number, end: number) => Promise<Uint8Array>; failed: () => unknown } {
    const readers = new Map(files.map((file) => [file.name, file]));
    let failure: unknown;
    const read = async (name: string, start: number, end: number): Promise<Uint8Array> => {
        try {
            const bytes = await (readers.get(name) as Reader).read(start, end);
            report(bytes.length, name);
            return bytes;
        } catch (error) {
            failure = error;
            throw error;
        }
    };
    return { read, failed: () => failure };
}
