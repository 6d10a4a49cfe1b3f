/** Mamba-2 and Taipan language models in the browser. Importing this touches neither the network nor `navigator`. */
export { cache, type CachedModel } from './cache.js';
export { Model, Session, estimate, loadModel, type ModelEvents } from './client.js';
export { TaipanError, type ErrorCode } from './errors.js';
export { checkSupport, type Support } from './support.js';
export type {
    CacheKind,
    DeviceChoice,
    Estimate,
    EstimateOptions,
    FinishReason,
    GenerateEvent,
    GenerateOptions,
    LoadOptions,
    LostEvent,
    ModelInfo,
    Phase,
    Piece,
    Progress,
    RecoveredEvent,
    SessionOptions,
    SessionStats,
    Source,
    Timings,
    Urls,
    Usage,
    WeightType,
} from './types.js';
