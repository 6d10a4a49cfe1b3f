/** What this browser offers; see {@link checkSupport}. */
export interface Support {
    /** Whether there is a WebGPU adapter, be it a software one. */
    ok: boolean;
    /** Why not, or what is wrong with it. */
    code?: 'insecure-context' | 'webgpu-unavailable' | 'adapter-null' | 'limit-too-small' | 'software-adapter';
    /** The adapter, as far as the browser tells. */
    adapter?: { name: string; vendor: string; architecture: string; software: boolean };
    features: string[];
    limits: Record<string, number>;
    /** Sentences for people about what is missing, and what to do about it. */
    hints: string[];
}

const SOFTWARE = /swiftshader|llvmpipe|lavapipe|basic render|softpipe/i;

/** What every kernel needs: WebGPU's defaults, which a compatibility adapter may not reach. */
const NEEDED: Partial<Record<keyof GPUSupportedLimits, number>> = {
    maxStorageBuffersPerShaderStage: 8,
    maxStorageBufferBindingSize: 1 << 27,
    maxComputeWorkgroupStorageSize: 16384,
    maxComputeInvocationsPerWorkgroup: 256,
};

const HINTS = {
    'insecure-context': 'This page was not loaded securely, so the browser hides WebGPU from it. Open it over https, or on localhost.',
    'webgpu-unavailable':
        'This browser has no WebGPU, or an old one. Chrome and Edge 127, Safari 26 and Firefox 141 or later have it on most systems; update, or try another.',
    'adapter-null':
        'This browser has WebGPU but gives no adapter. Switch hardware acceleration on in its settings and update the graphics driver; ' +
        'on Linux, Chrome may want --enable-unsafe-webgpu.',
    'software-adapter': 'The adapter is a software one: it works, but the CPU is faster. Is hardware acceleration switched off in the settings?',
};

/** Whether the browser has WebGPU here, and one that tells what an adapter is: the runtime asks. */
export function hasWebGpu(): boolean {
    return Boolean(globalThis.navigator?.gpu) && 'info' in (globalThis.GPUAdapter?.prototype ?? {});
}

/** Asks the browser for an adapter. Never throws, and loads nothing. */
export async function checkSupport(): Promise<Support> {
    const none = (code: 'insecure-context' | 'webgpu-unavailable' | 'adapter-null'): Support => {
        return { ok: false, code, features: [], limits: {}, hints: [HINTS[code]] };
    };
    try {
        if (globalThis.isSecureContext === false) return none('insecure-context');
        if (!hasWebGpu()) return none('webgpu-unavailable');
        const adapter = await navigator.gpu.requestAdapter({ powerPreference: 'high-performance' });
        return adapter ? describe(adapter) : none('adapter-null');
    } catch {
        return none('adapter-null');
    }
}

function describe(adapter: GPUAdapter): Support {
    const { info } = adapter;
    const name = info.description || [info.vendor, info.architecture, info.device].filter(Boolean).join(' ') || 'unnamed adapter';
    const software = info.isFallbackAdapter || SOFTWARE.test(name);
    const limits: Record<string, number> = {};
    for (const key in adapter.limits) {
        const value = adapter.limits[key as keyof GPUSupportedLimits];
        if (typeof value === 'number') limits[key] = value;
    }
    const support: Support = {
        ok: true,
        adapter: { name, vendor: info.vendor, architecture: info.architecture, software },
        features: [...adapter.features],
        limits,
        hints: [],
    };
    for (const [limit, needed] of Object.entries(NEEDED)) {
        const offered = limits[limit] ?? 0;
        if (offered >= needed) continue;
        const hint = `The adapter's ${limit} is ${offered}; ${needed} is needed. Another graphics card or browser may offer it.`;
        return { ...support, ok: false, code: 'limit-too-small', hints: [hint] };
    }
    return software ? { ...support, code: 'software-adapter', hints: [HINTS['software-adapter']] } : support;
}
