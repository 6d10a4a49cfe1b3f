import { TaipanError } from './errors.js';

/** How far something is. `total` and `fraction` are missing where a server does not say how much there is. */
export interface Progress {
    phase: 'download' | 'upload' | 'ready';
    loaded: number;
    total?: number;
    fraction?: number;
}

/** Fetches files below a base address, all at once, with their common progress. */
export async function download(
    base: string,
    names: readonly string[],
    signal: AbortSignal | undefined,
    onProgress: (progress: Progress) => void,
): Promise<Record<string, Uint8Array>> {
    const folder = base.endsWith('/') ? base : `${base}/`;
    const responses = await Promise.all(names.map((name) => open(folder + name, signal)));
    const sizes = responses.map(size);
    const known = sizes.every((bytes) => bytes !== undefined);
    const total = known ? sizes.reduce((sum, bytes) => sum + bytes, 0) : undefined;
    let loaded = 0;
    const report = (bytes: number): void => {
        loaded += bytes;
        // A server may send more than it announced; a fraction above 1 would be nonsense.
        const fraction = total ? { total, fraction: Math.min(1, loaded / total) } : {};
        onProgress({ phase: 'download', loaded, ...fraction });
    };
    const files = await Promise.all(responses.map((response) => read(response, report)));
    return Object.fromEntries(names.map((name, i) => [name, files[i] as Uint8Array]));
}

async function open(url: string, signal: AbortSignal | undefined): Promise<Response> {
    const response = await fetch(url, { signal: signal ?? null }).catch((error: unknown) => {
        signal?.throwIfAborted();
        const reason = error instanceof Error ? error.message : String(error);
        throw new TaipanError('network', `cannot fetch ${url}: ${reason}`, 'check the connection and the address', { url });
    });
    if (response.ok) return response;
    const { status } = response;
    throw new TaipanError('http-status', `${url}: status ${status}`, 'check the address', { url, status });
}

/** Bytes of the body, unless it is compressed on the way, when the header counts something else. */
function size(response: Response): number | undefined {
    const length = Number(response.headers.get('content-length') ?? NaN);
    return response.headers.has('content-encoding') || Number.isNaN(length) ? undefined : length;
}

async function read(response: Response, report: (bytes: number) => void): Promise<Uint8Array> {
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    const reader = response.body?.getReader();
    if (!reader) return new Uint8Array(await response.arrayBuffer());
    try {
        for (;;) {
            const { done, value } = await reader.read();
            if (done) break;
            chunks.push(value);
            bytes += value.length;
            report(value.length);
        }
    } catch (error) {
        if (error instanceof DOMException && error.name === 'AbortError') throw error;
        const { url } = response;
        throw new TaipanError('network', `${url}: the connection broke after ${bytes} bytes`, 'try again', { url });
    }
    const file = new Uint8Array(bytes);
    let at = 0;
    for (const chunk of chunks) {
        file.set(chunk, at);
        at += chunk.length;
    }
    return file;
}
