import { find, make } from './dom.js';

/** A token with what its gates decided, layer by layer, once they have. */
export interface Token {
    text: string;
    alpha: number[] | undefined;
    selected: boolean[] | undefined;
}

const text = find('text');
const canvas = find<HTMLCanvasElement>('heat');
const layer = find<HTMLSelectElement>('layer');
const line = find('token');

/** Width of a token in the heat map, at most. */
const CELL = 14;

/** The text token by token, and its heat map. */
export class TokenView {
    #tokens: Token[] = [];
    #spans: HTMLElement[] = [];
    #current = -1;
    #drawing = 0;

    constructor() {
        layer.addEventListener('change', () => this.#tintAll());
        text.addEventListener('pointerover', ({ target }) => this.#show(this.#spans.indexOf(target as HTMLElement)));
        text.addEventListener('keydown', (event) => this.#key(event));
        canvas.addEventListener('pointermove', ({ offsetX }) => this.#show(Math.floor(offsetX / this.#width())));
        matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#tintAll());
        addEventListener('resize', () => this.#draw());
    }

    get tokens(): readonly Token[] {
        return this.#tokens;
    }

    /** Everything anew. */
    set(tokens: readonly Token[]): void {
        this.#tokens = [];
        this.#spans = [];
        this.#current = -1;
        text.replaceChildren();
        for (const token of tokens) this.add(token);
        this.#draw();
    }

    add(token: Token): void {
        this.#tokens.push(token);
        const span = make('span', token.text);
        this.#spans.push(span);
        text.append(span);
        this.#tint(this.#tokens.length - 1);
    }

    /** Text that became final with the last token. */
    append(piece: string): void {
        const last = this.#tokens.at(-1);
        if (!last) return;
        last.text += piece;
        (this.#spans.at(-1) as HTMLElement).textContent = last.text;
    }

    /** What the gates decided about tokens from `first` on. */
    gates(first: number, alpha: readonly number[][], selected: readonly boolean[][]): void {
        const count = alpha[0]?.length ?? 0;
        if (layer.options.length !== alpha.length + 1) this.#offer(alpha.length);
        for (let i = 0; i < count; i++) {
            const token = this.#tokens[first + i];
            if (!token) continue;
            token.alpha = alpha.map((row) => row[i] as number);
            token.selected = selected.map((row) => row[i] as boolean);
            this.#tint(first + i);
        }
        this.#draw();
    }

    #offer(layers: number): void {
        const choice = (value: string, name: string): HTMLOptionElement => Object.assign(make('option', name), { value });
        find('layer-choice').hidden = false;
        layer.replaceChildren(choice('mean', 'all layers'), ...Array.from({ length: layers }, (_, i) => choice(String(i), `layer ${i + 1}`)));
    }

    #tint(index: number): void {
        const [token, span] = [this.#tokens[index] as Token, this.#spans[index] as HTMLElement];
        if (!token.alpha || !token.selected) return;
        const chosen = layer.value === 'mean' || layer.value === '' ? undefined : Number(layer.value);
        const alpha = chosen === undefined ? mean(token.alpha) : (token.alpha[chosen] ?? 0);
        const attends = chosen === undefined ? token.selected.some(Boolean) : token.selected[chosen] === true;
        span.style.setProperty('--gate', `${Math.round(alpha * 100)}%`);
        span.classList.add('gated');
        span.classList.toggle('attends', attends);
        span.title = describe(token, index);
    }

    #tintAll(): void {
        for (const index of this.#tokens.keys()) this.#tint(index);
        this.#draw();
    }

    #key(event: KeyboardEvent): void {
        const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
        if (step === undefined || this.#tokens.length === 0) return;
        event.preventDefault();
        this.#show(Math.max(0, Math.min(this.#tokens.length - 1, this.#current + step)));
    }

    #show(index: number): void {
        const token = this.#tokens[index];
        if (!token || index === this.#current) return;
        this.#spans[this.#current]?.classList.remove('current');
        this.#current = index;
        this.#spans[index]?.classList.add('current');
        line.textContent = describe(token, index);
        this.#draw();
    }

    #width(): number {
        return Math.min(CELL, canvas.clientWidth / Math.max(1, this.#tokens.length));
    }

    #draw(): void {
        cancelAnimationFrame(this.#drawing);
        this.#drawing = requestAnimationFrame(() => this.#drawNow());
    }

    #drawNow(): void {
        const layers = this.#tokens.find((token) => token.alpha)?.alpha?.length ?? 0;
        canvas.hidden = layers === 0;
        if (layers === 0) return;
        const [ratio, height] = [devicePixelRatio, Math.max(18, 56 / layers)];
        canvas.style.height = `${layers * height}px`;
        const width = this.#width();
        canvas.width = canvas.clientWidth * ratio;
        canvas.height = layers * height * ratio;
        const context = canvas.getContext('2d') as CanvasRenderingContext2D;
        context.scale(ratio, ratio);
        const style = getComputedStyle(canvas);
        const [accent, mark] = [style.getPropertyValue('--accent'), style.getPropertyValue('--text')];
        for (const [i, { alpha, selected }] of this.#tokens.entries()) {
            for (let row = 0; row < layers && alpha; row++) {
                context.globalAlpha = 0.06 + 0.94 * (alpha[row] as number);
                context.fillStyle = accent;
                context.fillRect(i * width, row * height, Math.max(1, width - 0.5), height - 2);
                if (!selected?.[row]) continue;
                context.globalAlpha = 1;
                context.fillStyle = mark;
                context.fillRect(i * width, (row + 1) * height - 4, Math.max(1, width - 0.5), 2);
            }
        }
        if (this.#current >= 0) {
            context.globalAlpha = 1;
            context.strokeStyle = mark;
            context.strokeRect(this.#current * width, 0.5, width, layers * height - 3);
        }
        find('heat-summary').textContent = summary(this.#tokens, layers);
    }
}

function mean(values: readonly number[]): number {
    return values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
}

function describe({ text, alpha, selected }: Token, index: number): string {
    const name = `Token ${index + 1} ${JSON.stringify(text)}`;
    if (!alpha || !selected) return `${name}: not through the layers yet`;
    const layers = alpha.map((value, i) => `layer ${i + 1} α ${value.toFixed(2)}${selected[i] ? ', attends' : ''}`);
    return `${name}: ${layers.join('; ')}`;
}

function summary(tokens: readonly Token[], layers: number): string {
    const known = tokens.filter((token) => token.selected);
    const share = (row: number): string => {
        const count = known.filter((token) => token.selected?.[row]).length;
        return `layer ${row + 1}: ${count} of ${known.length} attend`;
    };
    return `Rows are attention layers, columns tokens; a bar below marks those that attend. ${Array.from({ length: layers }, (_, i) => share(i)).join(', ')}.`;
}
