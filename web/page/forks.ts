import type { Session } from '../dist/index.js';
import { button, find, make } from './dom.js';
import type { Token } from './tokens.js';

/** A run with the state after it. */
export interface Run {
    parent: Run | undefined;
    /** What was fed, and what was made. */
    prompt: string;
    made: string;
    /** All of the text up to its end. */
    tokens: Token[];
    session: Session;
    bound: number | undefined;
}

/** Each keeps a state on the device. */
const MOST = 12;

/** The runs so far, as a tree. */
export class Forks {
    readonly #runs: Run[] = [];
    readonly #select: (run: Run) => void;
    current: Run | undefined;

    constructor(select: (run: Run) => void) {
        this.#select = select;
    }

    static textOf(run: Run): string {
        return (run.parent ? Forks.textOf(run.parent) : '') + run.prompt + run.made;
    }

    add(run: Run): void {
        this.#runs.push(run);
        this.current = run;
        if (this.#runs.length > MOST) this.#drop();
        this.show();
    }

    /** The oldest run that nothing hangs on. */
    #drop(): void {
        const at = this.#runs.findIndex((run) => run !== this.current && !this.#runs.some(({ parent }) => parent === run));
        const [run] = this.#runs.splice(Math.max(0, at), 1);
        void run?.session.dispose();
    }

    /** The run whose text is the longest beginning of `text`, if the rest begins where a token can. */
    before(text: string, bound: number | undefined): Run | undefined {
        let best: Run | undefined;
        for (const run of this.#runs) {
            const own = Forks.textOf(run);
            const rest = text.slice(own.length);
            const fits = run.bound === bound && text.startsWith(own) && (rest === '' || /^\s/.test(rest));
            if (fits && (!best || own.length > Forks.textOf(best).length)) best = run;
        }
        return best;
    }

    clear(): void {
        for (const run of this.#runs.splice(0)) void run.session.dispose();
        this.current = undefined;
        this.show();
    }

    show(): void {
        find('forks').hidden = this.#runs.length === 0;
        find('tree').replaceChildren(...this.#below(undefined));
        button('continue').disabled ||= !this.current;
    }

    #below(parent: Run | undefined): HTMLLIElement[] {
        const children = this.#runs.filter((run) => run.parent === parent || (parent === undefined && run.parent && !this.#runs.includes(run.parent)));
        return children.map((run) => {
            const choose = make('button', label(run));
            choose.type = 'button';
            if (run === this.current) choose.setAttribute('aria-current', 'true');
            choose.addEventListener('click', () => {
                this.current = run;
                this.#select(run);
                this.show();
            });
            const below = this.#below(run);
            return make('li', '', choose, ...(below.length > 0 ? [make('ul', '', ...below)] : []));
        });
    }
}

function label({ prompt, made }: Run): string {
    const text = (prompt + made).trim().replace(/\s+/g, ' ');
    // In whole words.
    return text.length > 60 ? `${text.slice(0, 28).replace(/\s\S*$/, '')} … ${text.slice(-28).replace(/^\S*\s/, '')}` : text || '(nothing)';
}
