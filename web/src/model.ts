import type * as runtime from '../dist/wasm/taipan.js';
import { Cancel } from './cancel.js';
import { guard, letGo } from './crash.js';
import { TaipanError, throwIfAborted } from './errors.js';
import { type FileSet, collect, rangesOf, runtimeFiles } from './fileset.js';
import { Meter } from './progress.js';
import { hasWebGpu } from './support.js';
import type { WireLoad, WireSource } from './protocol.js';
import { LiveSession } from './session.js';
import type { DeviceChoice, ModelInfo, SessionOptions } from './types.js';

type Runtime = typeof runtime;

/** Opens what was chosen: with `auto` a WebGPU adapter unless it is a software one. */
export async function openDevice<D>(
    module: { listAdapters(): Promise<{ software: boolean }[]>; Device: { cpu(): D; gpu(): Promise<D> } },
    choice: DeviceChoice,
): Promise<D> {
    const webgpu = hasWebGpu();
    if (choice === 'auto') {
        const adapters = webgpu ? await guard(() => module.listAdapters()) : [];
        choice = adapters.some((adapter) => !adapter.software) ? 'gpu' : 'cpu';
    }
    if (choice === 'cpu') return module.Device.cpu();
    if (!webgpu) {
        const hint = 'use a browser with WebGPU, over https or on localhost, or the device cpu';
        throw new TaipanError('webgpu-unavailable', 'there is no WebGPU here', hint);
    }
    return guard(() => module.Device.gpu());
}

/** A model with its device, on the side where it is computed. */
export class LiveModel {
    readonly #runtime: Runtime;
    readonly #source: WireSource;
    readonly #options: WireLoad;
    readonly #onLost: (reason: string, recovering: boolean) => void;
    readonly #onRecovered: (error: unknown) => void;
    readonly sessions = new Set<LiveSession>();
    #device: runtime.Device | undefined;
    #model: runtime.Model | undefined;
    #disposed = false;
    /** While the device is being replaced, everything waits for it. */
    #recovering: Promise<void> | undefined;

    constructor(
        module: Runtime,
        source: WireSource,
        options: WireLoad,
        onLost: (reason: string, recovering: boolean) => void,
        onRecovered: (error: unknown) => void,
    ) {
        [this.#runtime, this.#source, this.#options] = [module, source, options];
        [this.#onLost, this.#onRecovered] = [onLost, onRecovered];
    }

    get snapshots(): boolean {
        return this.#options.autoRecover;
    }

    /** Loads it, for the first time or again. */
    async load(meter: Meter, cancel: Cancel): Promise<ModelInfo> {
        const { signal } = cancel;
        const tools = { shards: this.#runtime.shards, hash: () => new this.#runtime.Sha256() };
        const set = await collect(this.#source, this.#options.cache, tools, meter, signal);
        const files = await runtimeFiles(set);
        throwIfAborted(signal);
        const device = await openDevice(this.#runtime, this.#options.device);
        let model: runtime.Model | undefined;
        try {
            model = await this.#upload(device, set, files, meter, cancel);
            throwIfAborted(signal);
            if (this.#options.warmup && device.adapter) await this.#warm(model, meter, cancel);
            throwIfAborted(signal);
            if (this.#disposed) throw new TaipanError('disposed', 'the model was disposed');
        } catch (error) {
            letGo(model, device);
            throwIfAborted(signal);
            throw error;
        }
        [this.#device, this.#model] = [device, model];
        void device.lost().then((reason) => this.#lost(device, reason));
        meter.ready(set.weights.reduce((sum, file) => sum + file.size, 0));
        return this.#info(set, files);
    }

    async #upload(device: runtime.Device, set: FileSet, files: runtime.ModelFiles, meter: Meter, cancel: Cancel): Promise<runtime.Model> {
        const total = set.weights.reduce((sum, file) => sum + file.size, 0);
        meter.begin('upload', total, true);
        const { read, failed } = rangesOf(set.weights, (bytes, file) => meter.add(bytes, file));
        const progress = (done: number, all: number): void => {
            if (done === all) meter.begin('compile');
        };
        try {
            return await guard(() => this.#runtime.Model.load(device, files, this.#options.dtype, read, progress, cancel.promise));
        } catch (error) {
            throwIfAborted(cancel.signal);
            throw failed() ?? error;
        }
    }

    /** One token through everything: browsers put off parts of compiling until a kernel runs. */
    async #warm(model: runtime.Model, meter: Meter, { promise }: Cancel): Promise<void> {
        meter.begin('warmup');
        const session = model.session(undefined);
        try {
            await guard(() => session.prefill('a', false, undefined, promise));
            await guard(() => session.generate({ maxTokens: 2, ignoreEos: true }, () => true, promise));
        } catch (error) {
            // A model without a tokenizer takes no text.
            if (!(error instanceof TaipanError && error.details.runtimeCode === 'no-tokenizer')) throw error;
        } finally {
            session.free();
        }
    }

    #info(set: FileSet, { config }: runtime.ModelFiles): ModelInfo {
        const [device, model] = [this.#device as runtime.Device, this.#model as runtime.Model];
        const json = JSON.parse(new TextDecoder().decode(config)) as {
            layer_types: string[];
            hidden_size: number;
            vocab_size: number;
            selective_attention?: { window?: number; attention_budget?: number | null };
        };
        return {
            device: device.description,
            onGpu: device.adapter !== undefined,
            parameters: model.parameters,
            fingerprint: model.fingerprint,
            gpuBytes: device.heldBytes,
            fromCache: set.fromCache,
            cache: set.cache,
            window: json.selective_attention?.window ?? 0,
            layers: json.layer_types,
            hiddenSize: json.hidden_size,
            vocabSize: json.vocab_size,
            attentionBudget: json.selective_attention?.attention_budget ?? undefined,
        };
    }

    /** Waits until the model can be used. */
    async ready(): Promise<runtime.Model> {
        if (this.#disposed) throw new TaipanError('disposed', 'the model was disposed');
        await this.#recovering;
        if (this.#disposed || !this.#model) throw new TaipanError('disposed', 'the model was disposed');
        return this.#model;
    }

    async createSession(options: SessionOptions): Promise<LiveSession> {
        const session = new LiveSession(this, options, makeSession(await this.ready(), options));
        this.sessions.add(session);
        return session;
    }

    gpuBytes(): number {
        return this.#device?.heldBytes ?? 0;
    }

    async dispose(): Promise<void> {
        if (this.#disposed) return;
        this.#disposed = true;
        await this.#recovering?.catch(() => {});
        await Promise.all([...this.sessions].map((session) => session.dispose()));
        letGo(this.#model, this.#device);
        this.#model = this.#device = undefined;
    }

    #lost(device: runtime.Device, reason: string): void {
        if (this.#disposed || device !== this.#device) return;
        const { autoRecover } = this.#options;
        this.#onLost(reason, autoRecover);
        if (!autoRecover) return;
        this.#recovering = this.#recover(reason);
        this.#recovering.catch(() => {}); // told by an event, and to whoever uses the model
    }

    async #recover(reason: string): Promise<void> {
        try {
            const hint = 'the session goes on from its last snapshot as soon as the model is back';
            const why = new TaipanError('device-lost', `the device was lost: ${reason}`, hint);
            await Promise.all([...this.sessions].map((session) => session.release(why)));
            letGo(this.#model, this.#device);
            this.#model = this.#device = undefined;
            await this.load(new Meter(() => {}), new Cancel());
            const model = this.#model as runtime.Model | undefined;
            if (!model) return;
            for (const session of this.sessions) await session.bringBack((options) => makeSession(model, options));
            this.#recovering = undefined;
            this.#onRecovered(undefined);
        } catch (error) {
            this.#onRecovered(error);
            throw error;
        }
    }
}

/** A session of the runtime; the seed is the page's business. */
function makeSession(model: runtime.Model, { attentionBudget, burst }: SessionOptions): runtime.Session {
    const settings = attentionBudget === undefined ? {} : { attentionBudget, ...(burst === undefined ? {} : { burst }) };
    return model.session(settings);
}
