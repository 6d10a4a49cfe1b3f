/** Elements of index.html, and new ones. Text from anywhere goes in as text, never as markup. */

export function find<T extends HTMLElement = HTMLElement>(id: string): T {
    const element = document.getElementById(id);
    if (!element) throw new Error(`the page has no element ${id}`);
    return element as T;
}

export const button = (id: string): HTMLButtonElement => find<HTMLButtonElement>(id);
export const input = (id: string): HTMLInputElement => find<HTMLInputElement>(id);

/** What a button does. In index.html it is disabled: what is pressed before that would do nothing. */
export function enable(id: string, work: (button: HTMLButtonElement) => void): void {
    const element = button(id);
    element.addEventListener('click', () => work(element));
    element.disabled = false;
}

export function make<K extends keyof HTMLElementTagNameMap>(tag: K, text = '', ...children: Node[]): HTMLElementTagNameMap[K] {
    const element = document.createElement(tag);
    if (text !== '') element.textContent = text;
    element.append(...children);
    return element;
}

/** Replaces a list of terms and what they are. */
export function define(list: HTMLElement, rows: readonly (readonly [string, string])[]): void {
    list.replaceChildren(...rows.map(([term, meaning]) => make('div', '', make('dt', term), make('dd', meaning))));
}

/** Replaces the rows of a table; the first cell of each is its heading. */
export function fill(table: HTMLTableElement, rows: readonly (readonly string[])[]): void {
    const row = (cells: readonly string[]): HTMLTableRowElement => {
        const [first = '', ...rest] = cells;
        const heading = make('th', first);
        heading.scope = 'row';
        return make('tr', '', heading, ...rest.map((cell) => make('td', cell)));
    };
    table.tBodies[0]?.replaceChildren(...rows.map(row));
    table.hidden = rows.length === 0;
}

/** Copies a text, and says on the button whether that worked. */
export async function copy(text: string, from: HTMLButtonElement): Promise<void> {
    const label = from.textContent;
    const said = await navigator.clipboard.writeText(text).then(
        () => 'Copied',
        () => 'The browser does not allow copying',
    );
    from.textContent = said;
    setTimeout(() => (from.textContent = label), 1500);
}

export function save(name: string, text: string): void {
    const url = URL.createObjectURL(new Blob([text], { type: 'application/json' }));
    const link = make('a');
    [link.href, link.download] = [url, name];
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
}
