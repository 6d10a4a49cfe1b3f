import type { GenerateOptions } from '../dist/index.js';
import { find, input } from './dom.js';

/** What can be set, by the names of its inputs: in a link, and in the page. */
const NUMBERS = ['temperature', 'tokens', 'seed', 'topk', 'topp', 'minp', 'penalty', 'bound'] as const;

interface Shared {
    prompt: string;
    stop?: string;
    numbers: Partial<Record<(typeof NUMBERS)[number], number>>;
}

export function options(): GenerateOptions {
    const n = (id: (typeof NUMBERS)[number]): number => input(id).valueAsNumber;
    const stop = input('stoptext').value;
    return {
        temperature: n('temperature'),
        maxTokens: n('tokens'),
        seed: n('seed'),
        topK: n('topk'),
        topP: n('topp'),
        minP: n('minp'),
        repetitionPenalty: n('penalty'),
        stop: stop === '' ? [] : [stop],
        trace: input('trace').checked ? ['gates'] : [],
    };
}

/** The hard bound, or none. */
export function bound(): number | undefined {
    const percent = input('bound').valueAsNumber;
    return percent > 0 ? percent / 100 : undefined;
}

/** A link that has prompt and settings in its fragment, which no server sees. */
export function link(): string {
    const numbers: Shared['numbers'] = {};
    for (const id of NUMBERS) numbers[id] = input(id).valueAsNumber;
    const shared: Shared = { prompt: find<HTMLTextAreaElement>('prompt').value, stop: input('stoptext').value, numbers };
    return `${location.href.split('#')[0]}#p=${encode(shared)}`;
}

/** Takes prompt and settings from a link. Nothing is loaded or run by it. Whether there was something. */
export function readLink(): boolean {
    const shared = decode('p') as Shared | undefined;
    if (typeof shared?.prompt !== 'string') return false;
    find<HTMLTextAreaElement>('prompt').value = shared.prompt.slice(0, 20000);
    if (typeof shared.stop === 'string') input('stoptext').value = shared.stop.slice(0, 200);
    for (const id of NUMBERS) {
        const value: unknown = shared.numbers?.[id];
        const element = input(id);
        const before = element.value;
        if (typeof value === 'number') element.value = String(value);
        // What an input does not allow is not taken.
        if (!element.checkValidity() || element.value === '') element.value = before;
    }
    return true;
}

/** Any data in the fragment of an address. */
export function encode(data: unknown): string {
    const bytes = new TextEncoder().encode(JSON.stringify(data));
    return btoa(String.fromCodePoint(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

export function decode(key: string): unknown {
    const text = new URLSearchParams(location.hash.slice(1)).get(key);
    if (!text || text.length > 100_000) return undefined;
    try {
        const binary = atob(text.replaceAll('-', '+').replaceAll('_', '/'));
        return JSON.parse(new TextDecoder().decode(Uint8Array.from(binary, (char) => char.codePointAt(0) as number)));
    } catch {
        return undefined;
    }
}
