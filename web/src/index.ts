/** Mamba-2 and Taipan language models in the browser. Importing this touches neither the network nor `navigator`. */
export { checkSupport, type Support } from './support.js';
export { TaipanError, type ErrorCode } from './errors.js';
export type { Progress } from './download.js';
export {
    loadModel,
    Model,
    Session,
    type DeviceChoice,
    type FinishReason,
    type GenerateEvent,
    type GenerateOptions,
    type LoadOptions,
    type SessionStats,
} from './engine.js';
