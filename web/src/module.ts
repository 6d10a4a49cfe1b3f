import type { Keeper } from './crash.js';
import { TaipanError } from './errors.js';

/** What wasm-bindgen makes of each of the two modules. */
interface Bindings {
    default(options?: { module_or_path: string | URL }): Promise<unknown>;
    onPanic(handler: (error: Error) => void): void;
}

/** Loads a wasm module once, with a second attempt where the first failed. */
export function loader<M extends Bindings>(module: M, keeper: Keeper): (wasm?: string | URL) => Promise<M> {
    let started: Promise<M> | undefined;
    const load = async (wasm: string | URL | undefined): Promise<M> => {
        await (wasm === undefined ? module.default() : module.default({ module_or_path: wasm }));
        module.onPanic(keeper.crash);
        return module;
    };
    return (wasm) => {
        const failed = (error: unknown): never => {
            started = undefined;
            const reason = error instanceof Error ? error.message : String(error);
            throw new TaipanError('network', `cannot load the wasm module: ${reason}`, 'check the connection, then try again');
        };
        return (started ??= load(wasm).catch(failed));
    };
}
