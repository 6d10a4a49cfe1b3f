import type { Phase, Progress } from './types.js';

/** Where each phase begins and ends, as a share of everything. */
const SPAN: Record<Phase, [number, number]> = {
    manifest: [0, 0.02],
    download: [0.02, 0.7],
    verify: [0.7, 0.75],
    upload: [0.75, 0.9],
    compile: [0.9, 0.96],
    warmup: [0.96, 1],
    ready: [1, 1],
};

/** Milliseconds between reports of a phase. There are seven phases, each reported as it begins: at most ten a second. */
const INTERVAL = 260;

/** Turns what happens into reports that are neither too many nor ever go backwards. */
export class Meter {
    readonly #report: (progress: Progress) => void;
    #phase: Phase = 'manifest';
    #begun = performance.now();
    #loaded = 0;
    #total = 0;
    #fraction = 0;
    #file = '';
    #fromCache = false;
    #last = -Infinity;
    #timer: ReturnType<typeof setTimeout> | undefined;

    constructor(report: (progress: Progress) => void) {
        this.#report = report;
    }

    /** Begins a phase of `total` bytes. */
    begin(phase: Phase, total = 0, fromCache = false): void {
        [this.#phase, this.#total, this.#loaded, this.#fromCache] = [phase, total, 0, fromCache];
        this.#begun = performance.now();
        this.#now();
    }

    /** So many bytes of the phase are done. */
    at(loaded: number, file = this.#file): void {
        [this.#loaded, this.#file] = [loaded, file];
        this.#soon();
    }

    /** More bytes of the phase are done. */
    add(bytes: number, file = this.#file): void {
        this.at(this.#loaded + bytes, file);
    }

    /** The end: reported at once, and nothing after it. */
    ready(bytes: number): void {
        [this.#phase, this.#total, this.#loaded] = ['ready', bytes, bytes];
        this.#begun = performance.now();
        this.#now();
    }

    /** No more reports, because loading failed. */
    stop(): void {
        clearTimeout(this.#timer);
    }

    #soon(): void {
        const wait = this.#last + INTERVAL - performance.now();
        if (wait <= 0) this.#now();
        else this.#timer ??= setTimeout(() => this.#now(), wait);
    }

    #now(): void {
        clearTimeout(this.#timer);
        this.#timer = undefined;
        this.#last = performance.now();
        const [from, to] = SPAN[this.#phase];
        const [loaded, total] = [this.#loaded, Math.max(this.#total, this.#loaded)];
        const share = total > 0 ? loaded / total : 0;
        this.#fraction = Math.max(this.#fraction, this.#phase === 'ready' ? 1 : from + (to - from) * share);
        const elapsed = this.#last - this.#begun;
        const bytesPerSecond = elapsed > 0 ? (loaded * 1e3) / elapsed : 0;
        const etaMs = bytesPerSecond > 0 ? ((total - loaded) * 1e3) / bytesPerSecond : this.#phase === 'ready' ? 0 : NaN;
        const { phase, fraction, file, fromCache } = { phase: this.#phase, fraction: this.#fraction, file: this.#file, fromCache: this.#fromCache };
        this.#report({ phase, loaded, total, fraction, bytesPerSecond, etaMs, file, fromCache });
    }
}
