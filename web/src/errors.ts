/** What can go wrong, for programs; the message and the hint are for people. */
export type ErrorCode =
    | 'webgpu-unavailable'
    | 'adapter-null'
    | 'limit-too-small'
    | 'device-lost'
    | 'out-of-memory'
    | 'model-unsupported'
    | 'weights-invalid'
    | 'network'
    | 'http-status'
    | 'integrity'
    | 'quota-exceeded'
    | 'busy'
    | 'disposed'
    | 'shader-compile'
    | 'invalid-option'
    | 'saved-state'
    | 'crashed'
    | 'internal';

/** The one error class of this package. An aborted call rejects with an `AbortError` instead, as `fetch` does. */
export class TaipanError extends Error {
    override readonly name = 'TaipanError';
    readonly code: ErrorCode;
    /** The next thing to try, where there is one. */
    readonly hint: string | undefined;
    /** Facts behind the message: an address, a status, the runtime's own code. */
    readonly details: Readonly<Record<string, unknown>>;

    constructor(code: ErrorCode, message: string, hint?: string, details: Record<string, unknown> = {}) {
        super(message);
        this.code = code;
        this.hint = hint;
        this.details = details;
    }
}

/** Codes of the runtime that have another name here; those not listed keep theirs where it is one of ours. */
const CODES: Record<string, ErrorCode> = {
    'no-adapter': 'adapter-null',
    'limit-too-small': 'limit-too-small',
    'context-full': 'limit-too-small',
    'device-lost': 'device-lost',
    'out-of-memory': 'out-of-memory',
    'model-unsupported': 'model-unsupported',
    unsupported: 'model-unsupported',
    'config-invalid': 'weights-invalid',
    'json-invalid': 'weights-invalid',
    'weights-missing': 'weights-invalid',
    'weights-invalid': 'weights-invalid',
    'weights-mismatch': 'weights-invalid',
    'weights-value': 'weights-invalid',
    'weights-ambiguous': 'weights-invalid',
    tokenizer: 'weights-invalid',
    'token-out-of-range': 'weights-invalid',
    'no-tokenizer': 'weights-invalid',
    'shader-compile': 'shader-compile',
    'empty-prompt': 'invalid-option',
    'invalid-option': 'invalid-option',
    'saved-state': 'saved-state',
    io: 'internal',
    gpu: 'internal',
    'tuning-invalid': 'internal',
};

/** An error as the wasm module throws it, in the form of this package. Anything else is passed on as it is. */
export function fromRuntime(error: unknown): unknown {
    if (!(error instanceof Error) || error instanceof TaipanError) return error;
    const { code, hint } = error as Error & { code?: unknown; hint?: unknown };
    if (typeof code !== 'string') return error;
    const text = typeof hint === 'string' ? hint : undefined;
    return new TaipanError(CODES[code] ?? 'internal', error.message, text, { runtimeCode: code });
}

/** An error as it crosses to and from a worker. */
export interface WireError {
    /** `null` is an abort. */
    code: ErrorCode | null;
    message: string;
    hint: string | undefined;
    details: Record<string, unknown>;
}

export function toWire(error: unknown): WireError {
    if (isAbort(error)) return { code: null, message: error.message, hint: undefined, details: {} };
    const e = fromRuntime(error);
    if (e instanceof TaipanError) return { code: e.code, message: e.message, hint: e.hint, details: { ...e.details } };
    const message = e instanceof Error ? e.message : String(e);
    const details = e instanceof Error ? { name: e.name, stack: e.stack } : {};
    return { code: 'internal', message, hint: undefined, details };
}

export function fromWire({ code, message, hint, details }: WireError): Error {
    return code === null ? new DOMException(message, 'AbortError') : new TaipanError(code, message, hint, details);
}

export function isAbort(error: unknown): error is Error {
    return error instanceof Error && error.name === 'AbortError';
}

/** What an aborted call rejects with. */
export function abortError(signal?: AbortSignal): Error {
    const reason: unknown = signal?.reason;
    if (isAbort(reason)) return reason;
    return new DOMException(reason instanceof Error ? reason.message : 'The operation was aborted.', 'AbortError');
}

export function throwIfAborted(signal: AbortSignal | undefined): void {
    if (signal?.aborted) throw abortError(signal);
}
