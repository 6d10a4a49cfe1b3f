/** The elements of index.html that the page works with. */

function find<T extends HTMLElement>(id: string): T {
    const element = document.getElementById(id);
    if (!element) throw new Error(`the page has no element ${id}`);
    return element as T;
}

export const view = {
    adapter: find('adapter'),
    adapterHint: find('adapter-hint'),
    devices: find<HTMLFieldSetElement>('devices'),
    load: find<HTMLButtonElement>('load'),
    progress: find<HTMLProgressElement>('progress'),
    loadStatus: find('load-status'),
    form: find<HTMLFormElement>('write'),
    prompt: find<HTMLTextAreaElement>('prompt'),
    temperature: find<HTMLInputElement>('temperature'),
    tokens: find<HTMLInputElement>('tokens'),
    seed: find<HTMLInputElement>('seed'),
    generate: find<HTMLButtonElement>('generate'),
    stop: find<HTMLButtonElement>('stop'),
    status: find('generate-status'),
    result: find('result'),
    given: find('given'),
    made: find('made'),
    stats: find('stats'),
    error: find('error'),
};

/** Replaces a list of terms and what they are. */
export function define(list: HTMLElement, rows: readonly (readonly [string, string])[]): void {
    const element = (tag: string, text: string): HTMLElement => Object.assign(document.createElement(tag), { textContent: text });
    const pairs = rows.map(([term, meaning]) => {
        const pair = document.createElement('div');
        pair.append(element('dt', term), element('dd', meaning));
        return pair;
    });
    list.replaceChildren(...pairs);
}
