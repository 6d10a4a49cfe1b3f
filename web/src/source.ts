import { TaipanError } from './errors.js';
import type { WireSource } from './protocol.js';
import type { Source } from './types.js';

const HUB = 'https://huggingface.co/';

/** An address below a hub's. */
function address(hub: string | URL, path: string): string {
    return new URL(path, String(new URL(hub, globalThis.location?.href)).replace(/\/*$/, '/')).href;
}

/** Names a source in a form that can be posted. Relative addresses are those of the page. */
export function wireSource(source: Source, hub: string | URL = HUB): WireSource {
    if (Array.isArray(source)) return { files: [...(source as readonly File[])] };
    const text = String(source as string | URL);
    if (text.startsWith('hf:')) {
        const found = /^hf:([\w.-]+\/[\w.-]+)(?:@([\w./-]+))?$/.exec(text);
        if (!found) throw new TaipanError('invalid-option', `source ${text}: hf:organisation/name@revision`);
        const [, model, revision = 'main'] = found;
        // A revision may have slashes in it, which here separate nothing.
        const at = encodeURIComponent(revision);
        return { base: address(hub, `${model}/resolve/${at}/`), tree: address(hub, `api/models/${model}/tree/${at}`) };
    }
    const base = URL.parse ? URL.parse(text, globalThis.location?.href) : new URL(text, globalThis.location?.href);
    if (!base) throw new TaipanError('invalid-option', `source ${text}: not an address`);
    return { base: base.href.endsWith('/') ? base.href : `${base.href}/` };
}

/** The name under which a model is kept: readable, and different for different addresses. */
export function modelKey(base: string): string {
    let [a, b] = [0xdeadbeef, 0x41c6ce57];
    for (const char of base) {
        const code = char.codePointAt(0) as number;
        a = Math.imul(a ^ code, 2654435761);
        b = Math.imul(b ^ code, 1597334677);
    }
    const hash = [a, b].map((word) => (word >>> 0).toString(16).padStart(8, '0')).join('');
    const words = base.replace(/^https?:\/\//, '').replace(/[^A-Za-z0-9.-]+/g, '_');
    return `${words.slice(-60).replace(/^[_.]+|[_.]+$/g, '')}-${hash}`;
}
