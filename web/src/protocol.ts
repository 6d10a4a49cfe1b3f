import type { WireError } from './errors.js';
import type {
    CacheKind,
    CaseReport,
    DeviceChoice,
    Estimate,
    GenerateEvent,
    GenerateOptions,
    ModelInfo,
    Piece,
    Progress,
    SessionOptions,
    SessionStats,
    WeightType,
} from './types.js';

// Everything that is said between a page and the thread that computes. Both sides are written against these types, and
// nothing else is ever posted; the same messages are used where both are one thread.

/** A folder, with the address of its list of files where it is a hub's; or files. */
export interface WireFolder {
    base: string;
    tree?: string;
}

export type WireSource = WireFolder | { files: File[] };

export interface WireLoad {
    device: DeviceChoice;
    cache: CacheKind;
    dtype: WeightType;
    autoRecover: boolean;
    warmup: boolean;
    wasm: string | undefined;
}

export type WireGenerate = Omit<GenerateOptions, 'signal' | 'trace' | 'stop'> & { stop: string[]; trace: boolean };

export interface BenchSettings {
    preset?: string;
    seed?: number;
    browser?: string;
    os?: string;
    cpu?: string;
}

export interface BenchRow {
    prompt?: number;
    generate?: number;
    depth?: number;
    repetitions?: number;
    minTimeMs?: number;
    maxTimeMs?: number;
}

/** Where a model's files are, and how they become one. */
export interface WireOrigin {
    source: WireSource;
    cache: CacheKind;
    dtype: WeightType;
}

export interface WireEstimate {
    source: WireSource;
    cache: CacheKind;
    dtype: WeightType;
    wasm: string | undefined;
}

/** What can be asked for: parameters and result. Numbers name models, sessions and generations; the page chooses them. */
export interface Calls {
    load: [{ model: number; source: WireSource; options: WireLoad }, ModelInfo];
    estimate: [WireEstimate, Estimate];
    tokenize: [{ model: number; text: string }, Piece[]];
    gpuBytes: [{ model: number }, number];
    disposeModel: [{ model: number }, void];
    createSession: [{ model: number; session: number; options: SessionOptions }, number];
    restoreSession: [{ model: number; session: number; options: SessionOptions; bytes: Uint8Array }, number];
    fork: [{ session: number; fork: number }, number];
    save: [{ session: number }, Uint8Array];
    stats: [{ session: number }, SessionStats];
    disposeSession: [{ session: number }, void];
    generate: [{ session: number; generation: number; prompt: string; options: WireGenerate }, void];
    /** The events of the next token. The last list ends with `done`. */
    next: [{ generation: number }, GenerateEvent[]];
    /** Ends a generation, finished or not; the session's position. */
    end: [{ generation: number }, number];
    /** `golden` are addresses of folders. */
    validate: [{ device: DeviceChoice; golden: string[]; wasm: string | undefined }, { complaints: string[]; device: string; ran: number }];
    benchOpen: [{ device: DeviceChoice; settings: BenchSettings; model: WireOrigin | undefined; wasm: string | undefined }, string];
    benchRow: [{ row: BenchRow }, unknown];
    benchKernels: [{ tokens: number; repetitions: number }, unknown[]];
    benchClose: [Record<string, never>, void];
}

export type Method = keyof Calls;
export type Params<M extends Method> = Calls[M][0];
export type Result<M extends Method> = Calls[M][1];

/** A question. */
export type Call = { [M in Method]: { type: 'call'; id: number; method: M; params: Params<M> } }[Method];

/** Those that the lab answers, and those that the side with the models does. Each has a case for every one of its own, which the compiler sees to. */
export type LabCall = Extract<Call, { method: 'validate' | `bench${string}` }>;
export type HostCall = Exclude<Call, LabCall>;

/** From the page. A call is answered exactly once, whatever happens; cancelling only makes the answer come sooner. */
export type Request = Call | { type: 'cancel'; id: number };

/** What is said about a call while it runs. */
export type Note = { kind: 'progress'; progress: Progress } | { kind: 'case'; report: CaseReport; index: number; total: number } | { kind: 'say'; text: string };

/** To the page. */
export type Reply =
    | { type: 'done'; id: number; result: Result<Method> }
    | { type: 'failed'; id: number; error: WireError }
    | { type: 'note'; id: number; note: Note }
    | { type: 'lost'; model: number; reason: string; recovering: boolean }
    | { type: 'recovered'; model: number; error: WireError | undefined };
