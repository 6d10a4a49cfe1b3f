import { modelKey, wireSource } from './source.js';
import { openStore } from './store.js';
import { StoredFile } from './parts.js';
import type { CacheKind, Source } from './types.js';

/** A model that is kept. */
export interface CachedModel {
    /** The address it came from. */
    source: string;
    bytes: number;
    /** Whether all of it is there. */
    complete: boolean;
    cache: CacheKind;
}

const KINDS = ['opfs', 'cache', 'memory'] as const;

async function stores(): Promise<Awaited<ReturnType<typeof openStore>>[]> {
    const opened = await Promise.all(KINDS.map((kind) => openStore(kind)));
    return opened.filter((store, i) => store.kind === KINDS[i]);
}

function keyOf(source: Source, hub?: string | URL): string {
    const wire = wireSource(source, hub);
    return 'base' in wire ? modelKey(wire.base) : '';
}

/** What is kept of models in this origin. */
export const cache = {
    async list(): Promise<CachedModel[]> {
        const found: CachedModel[] = [];
        for (const store of await stores()) {
            const models = new Map<string, Map<string, number>>();
            for (const [name, bytes] of await store.list('')) {
                const [model = '', ...rest] = name.split('/');
                models.set(model, (models.get(model) ?? new Map()).set(rest.join('/'), bytes));
            }
            for (const [model, files] of models) {
                const about = await (await store.get(`${model}/about`))?.text();
                if (about === undefined) continue;
                const { base, files: names } = JSON.parse(about) as { base: string; files: string[] };
                const whole = await Promise.all(
                    names.map(async (name) => {
                        const text = await (await store.get(`${model}/${name}/about`))?.text();
                        if (text === undefined) return false;
                        const file = new StoredFile(store, `${model}/${name}`, name, (JSON.parse(text) as { size: number }).size);
                        return (await file.missing()).length === 0;
                    }),
                );
                const bytes = [...files.values()].reduce((sum, n) => sum + n, 0);
                found.push({ source: base, bytes, complete: whole.length > 0 && whole.every(Boolean), cache: store.kind });
            }
        }
        return found;
    },

    /** Whether all of a model is kept. */
    async has(source: Source, hub?: string | URL): Promise<boolean> {
        const wire = wireSource(source, hub);
        return 'base' in wire && (await this.list()).some((model) => model.source === wire.base && model.complete);
    },

    /** Forgets a model. */
    async delete(source: Source, hub?: string | URL): Promise<void> {
        const key = keyOf(source, hub);
        if (key !== '') for (const store of await stores()) await store.remove(key);
    },

    /** Bytes that this origin uses and may use, as far as the browser tells. */
    async estimate(): Promise<{ usage: number; quota: number }> {
        const { usage = 0, quota = Infinity } = (await globalThis.navigator?.storage?.estimate?.()) ?? {};
        return { usage, quota };
    },

    /** Asks the browser not to delete what is kept when space runs short. Whether it agreed. */
    async persist(): Promise<boolean> {
        return (await globalThis.navigator?.storage?.persist?.()) ?? false;
    },
};
