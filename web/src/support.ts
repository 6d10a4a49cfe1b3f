/** What this browser offers; see {@link checkSupport}. */
export interface Support {
    /** Whether there is a WebGPU adapter, be it a software one. */
    ok: boolean;
    /** Why not, or what is wrong with it. */
    code?: 'insecure-context' | 'webgpu-unavailable' | 'adapter-null' | 'software-adapter';
    /** Name of the adapter, as far as the browser tells. */
    adapter?: string;
    /** One sentence for people about what is missing, and what to do about it. */
    hints: string[];
}

const SOFTWARE = /swiftshader|llvmpipe|lavapipe|basic render|softpipe/i;

/** Asks the browser for an adapter. Never throws, and loads nothing. */
export async function checkSupport(): Promise<Support> {
    if (globalThis.isSecureContext === false) {
        const hint = 'This page was not loaded securely, so the browser hides WebGPU from it. Use https, or localhost.';
        return { ok: false, code: 'insecure-context', hints: [hint] };
    }
    const gpu = globalThis.navigator?.gpu as GPU | undefined;
    if (!gpu) {
        const hint = 'This browser has no WebGPU. Chrome and Edge 113, Safari 26 and Firefox 141 or later have it on most systems.';
        return { ok: false, code: 'webgpu-unavailable', hints: [hint] };
    }
    const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' }).catch(() => null);
    if (!adapter) {
        const hint =
            'This browser has WebGPU but gives no adapter: the graphics card or its driver may be on its block list, or hardware ' +
            'acceleration may be switched off in its settings.';
        return { ok: false, code: 'adapter-null', hints: [hint] };
    }
    const { info } = adapter;
    const name = info.description || [info.vendor, info.architecture, info.device].filter(Boolean).join(' ') || 'unnamed adapter';
    if (info.isFallbackAdapter || SOFTWARE.test(name)) {
        const hint = 'The adapter is a software one: it works, but the CPU is faster.';
        return { ok: true, code: 'software-adapter', adapter: name, hints: [hint] };
    }
    return { ok: true, adapter: name, hints: [] };
}
