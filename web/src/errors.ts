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
    | 'invalid-option'
    | 'busy'
    | 'disposed'
    | 'crashed'
    | 'internal';

/** The one error class of this package. An aborted call rejects with the signal's reason instead, an `AbortError`. */
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

/** Codes of the runtime that have another name here; the others keep theirs where it is one of ours. */
const CODES: Record<string, ErrorCode> = {
    'no-adapter': 'adapter-null',
    'limit-too-small': 'limit-too-small',
    'device-lost': 'device-lost',
    'out-of-memory': 'out-of-memory',
    'model-unsupported': 'model-unsupported',
    'config-invalid': 'weights-invalid',
    'json-invalid': 'weights-invalid',
    'weights-missing': 'weights-invalid',
    'weights-invalid': 'weights-invalid',
    'weights-mismatch': 'weights-invalid',
    'weights-value': 'weights-invalid',
    tokenizer: 'weights-invalid',
    'no-tokenizer': 'weights-invalid',
    'empty-prompt': 'invalid-option',
    'invalid-option': 'invalid-option',
};

/** An error as the wasm module throws it, in the form of this package. Anything else is passed on as it is. */
export function fromRuntime(error: unknown): unknown {
    if (!(error instanceof Error) || error instanceof TaipanError) return error;
    const { code, hint } = error as Error & { code?: unknown; hint?: unknown };
    if (typeof code !== 'string') return error;
    const text = typeof hint === 'string' ? hint : undefined;
    return new TaipanError(CODES[code] ?? 'internal', error.message, text, { runtimeCode: code });
}
