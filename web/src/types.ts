/** A base address of a model folder, `hf:organisation/name@revision`, or files that somebody dropped. */
export type Source = string | URL | readonly File[];

/** Where to run: `auto` takes a WebGPU adapter unless it is a software one, and the CPU otherwise. */
export type DeviceChoice = 'auto' | 'gpu' | 'cpu';

/** Where downloaded files are kept. A kind that the browser does not have falls back to the next; `none` keeps nothing. */
export type CacheKind = 'opfs' | 'cache' | 'memory' | 'none';

/** How matrices are stored on the device; `auto` is as the files have them. */
export type WeightType = 'auto' | 'f32' | 'f16' | 'bf16' | 'q8' | 'q4';

export type Phase = 'manifest' | 'download' | 'verify' | 'upload' | 'compile' | 'warmup' | 'ready';

/** How far loading is; at most ten of these a second. */
export interface Progress {
    phase: Phase;
    /** Bytes, of this phase. */
    loaded: number;
    total: number;
    /** Of everything, 0 to 1; never smaller than before. */
    fraction: number;
    bytesPerSecond: number;
    /** Milliseconds until this phase ends, at its speed so far; NaN while that is unknown. */
    etaMs: number;
    file: string;
    fromCache: boolean;
}

/** Where the parts of this package are, for bundlers that leave them elsewhere. */
export interface Urls {
    /** The wasm module, if it is not beside the script. */
    wasm?: string | URL;
    /** Run in a worker (the default), in this thread (`false`), or in a worker from this address. */
    worker?: boolean | string | URL;
}

export interface LoadOptions extends Urls {
    device?: DeviceChoice;
    signal?: AbortSignal;
    onProgress?: (progress: Progress) => void;
    cache?: CacheKind;
    dtype?: WeightType;
    /** Where the models of `hf:` sources are; a mirror has the same addresses. */
    hub?: string | URL;
    /** After the device was lost, load again from the cache and bring sessions back from their last snapshots. */
    autoRecover?: boolean;
    /** Run a token through the model before it is ready, so that the first one is as fast as the others. */
    warmup?: boolean;
}

export interface EstimateOptions extends Urls {
    dtype?: WeightType;
    cache?: CacheKind;
    hub?: string | URL;
    signal?: AbortSignal;
}

export interface Estimate {
    downloadBytes: number;
    cachedBytes: number;
    /** Weights, scratch space and the state of one session. */
    gpuBytes: number;
    /** Of a session, whatever the length of its text. */
    stateBytes: number;
    parameters: number;
    fits: 'yes' | 'no' | 'unknown';
    /** What does not fit, or what is not known to. */
    limitingFactor: string | undefined;
}

export interface SessionOptions {
    /** Random numbers of {@link GenerateOptions} without a seed of their own. */
    seed?: number;
    /** A hard bound: of any L consecutive tokens at most this share and `burst` attend in a layer. */
    attentionBudget?: number;
    burst?: number;
}

export interface GenerateOptions {
    /** Most tokens to make; no limit if left out. */
    maxTokens?: number;
    /** 0 is greedy: always the most probable token. */
    temperature?: number;
    topK?: number;
    topP?: number;
    minP?: number;
    repetitionPenalty?: number;
    seed?: number;
    /** Texts that end the generation; they are not part of the text. */
    stop?: string | readonly string[];
    /** Go on past an end-of-text token. */
    ignoreEos?: boolean;
    signal?: AbortSignal;
    /** Yield `gates` events as well. */
    trace?: readonly 'gates'[];
}

export type FinishReason = 'stop' | 'eos' | 'limit';

export interface Usage {
    promptTokens: number;
    completionTokens: number;
}

/** Milliseconds from the call: until the prompt was read, until the first token, until the end. */
export interface Timings {
    prompt: number;
    firstToken: number;
    total: number;
}

/** What {@link Session.generate} yields: tokens, pieces of text, and at the end one `done`. */
export type GenerateEvent =
    /** So many tokens of a long prompt are read. */
    | { type: 'prompt'; read: number; total: number }
    | { type: 'token'; id: number; position: number }
    | { type: 'text'; text: string }
    /** Decisions about consecutive tokens, the first at position `first`: `[layer][token]`. */
    | { type: 'gates'; first: number; alpha: number[][]; selected: boolean[][] }
    | { type: 'stats'; tokens: number; tokensPerSecond: number; elapsedMs: number }
    | { type: 'done'; finishReason: FinishReason; stop: string | undefined; usage: Usage; timings: Timings };

/** What a session holds and has done. */
export interface SessionStats {
    tokens: number;
    bytes: { weights: number; state: number; scratch: number };
    /** Dispatches and submissions of one decoded token; 0 on the CPU. */
    dispatches: number;
    submits: number;
    /** Per selective attention layer: tokens that attended, and those that a bound refused. */
    selected: number[];
    refused: number[];
}

/** What a model is and where it runs. */
export interface ModelInfo {
    device: string;
    onGpu: boolean;
    parameters: number;
    fingerprint: string;
    /** Bytes of all buffers on the GPU when loading was done. */
    gpuBytes: number;
    /** Whether nothing had to be downloaded. */
    fromCache: boolean;
    cache: CacheKind;
    /** From config.json. */
    window: number;
    layers: string[];
    hiddenSize: number;
    vocabSize: number;
    attentionBudget: number | undefined;
}

/** A token of a text, with the text it adds. */
export interface Piece {
    id: number;
    text: string;
}

/** How a case of a validation went. */
export interface CaseReport {
    kernel: string;
    shape: string;
    seed: number;
    /** Largest error, relative to large numbers; huge where nothing could be compared. */
    worst: number;
    tolerance: number;
    ok: boolean;
    detail: string | null;
}

export interface LostEvent {
    type: 'device-lost';
    reason: string;
    recovering: boolean;
}

export interface RecoveredEvent {
    type: 'recovered';
    /** Why not, if it did not work. */
    error: Error | undefined;
}
