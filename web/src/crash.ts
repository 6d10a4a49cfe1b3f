import { TaipanError, fromRuntime } from './errors.js';

// A panic in a wasm module, or an exception that a browser's function throws into the middle of it, leaves every promise
// of the module pending for ever. So all of them pass through a guard, which also settles when the module has crashed.

export interface Keeper {
    /** Notes that the module is unusable from here on; everything that waits for it is rejected, and so is all that comes. */
    crash(error: unknown): void;
    /** Runs something of the module and waits for it. Its errors become those of this package. */
    guard<T>(work: () => T | Promise<T>): Promise<T>;
}

/** One for each module. */
export function keeper(): Keeper {
    let crashed: TaipanError | undefined;
    const pending = new Set<(error: TaipanError) => void>();

    function crash(error: unknown): void {
        if (crashed) return;
        console.error('taipan:', error);
        const message = error instanceof Error ? error.message : String(error);
        const hint = 'reload the page; if it happens again, please report it with the text in the console';
        crashed = new TaipanError('crashed', `the runtime crashed: ${message}`, hint);
        for (const reject of pending) reject(crashed);
        pending.clear();
    }

    /** Exceptions that went through the module without being a panic of its own surface here, with its frames in the stack. */
    function onError(event: ErrorEvent): void {
        const error: unknown = event.error;
        const fromModule = error instanceof Error && /\bwasm\b|wasm-function|\.wasm/.test(error.stack ?? '');
        if (error instanceof WebAssembly.RuntimeError || fromModule) crash(error);
    }

    function guard<T>(work: () => T | Promise<T>): Promise<T> {
        return new Promise<T>((resolve, reject) => {
            if (crashed) return reject(crashed);
            if (pending.size === 0) globalThis.addEventListener?.('error', onError);
            pending.add(reject);
            const done = (): void => {
                pending.delete(reject);
                if (pending.size === 0) globalThis.removeEventListener?.('error', onError);
            };
            const fail = (error: unknown): void => {
                done();
                const ours = fromRuntime(error);
                // What is no error of the module's own was thrown through it, and may have left it half-way in something.
                if (!(ours instanceof TaipanError)) crash(error);
                reject(crashed ?? ours);
            };
            try {
                Promise.resolve(work()).then((value) => (done(), resolve(value)), fail);
            } catch (error) {
                fail(error);
            }
        });
    }

    return { crash, guard };
}

/** Frees things of a module. Where it has crashed it may hold on to them, which is not to hide what happened. */
export function letGo(...things: ({ free(): void; destroy?(): void } | undefined)[]): void {
    for (const thing of things) {
        try {
            thing?.destroy?.();
            thing?.free();
        } catch (error) {
            console.warn('taipan:', error);
        }
    }
}

export const { crash, guard } = keeper();
