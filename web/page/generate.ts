import { type FinishReason, type Model, type Session, type SessionStats } from '../dist/index.js';
import { app, onChange, run } from './app.js';
import { button, copy, define, enable, find } from './dom.js';
import { bytes, count, milliseconds, rate } from './format.js';
import { Forks, type Run } from './forks.js';
import { showBudget, showMemory } from './panels.js';
import { bound, link, options } from './settings.js';
import { type Token, TokenView } from './tokens.js';

const EXAMPLES = ['Once upon a time', 'Lily and Tom went to the park.', 'The little dog was sad because', 'One day, a girl found a red box.'];
const FIRST = 'Load the model first.';
const REASONS = { stop: 'stop text met', eos: 'the text ended', limit: 'limit reached' };

const prompt = find<HTMLTextAreaElement>('prompt');
const status = find('status');
export const view = new TokenView();
const forks = new Forks(show);
/** The rows of the last report, and what it was about. */
let report: [string, string][] = [];
let owner: Model | undefined;

/** Shows a run that was chosen. */
function show(chosen: Run): void {
    view.set(chosen.tokens);
    find('result').hidden = false;
    status.textContent = 'Continue goes on from here.';
}

/** Continues the text of a run, or begins one. */
async function write(signal: AbortSignal, text: string, from: Run | undefined): Promise<void> {
    const { model } = app;
    if (!model) return;
    if (owner !== model) forks.clear();
    owner = model;
    const hard = from ? from.bound : bound();
    status.textContent = text === '' ? 'Generating…' : 'Reading the prompt…';
    find('result').hidden = false;
    const session = from ? await from.session.fork() : model.createSession(hard === undefined ? {} : { attentionBudget: hard });
    const tokens: Token[] = from ? [...from.tokens.map((token) => ({ ...token }))] : [];
    const fed = await model.tokenize(text);
    for (const piece of fed) tokens.push({ text: piece.text, alpha: undefined, selected: undefined });
    view.set(tokens);
    const made: Made = { text: '', promptTokens: fed.length, tokens: 0, begun: performance.now(), first: NaN, last: NaN };
    let outcome = 'Failed.';
    let kept = false;
    // Said at once. What is under way is a token at most, or a kernel of the prompt, and belongs to the text.
    const stopping = (): void => void (status.textContent = 'Stopped.');
    signal.addEventListener('abort', stopping);
    try {
        await consume(session, text, signal, made);
        outcome = made.reason ? `Done: ${made.tokens} tokens, ${REASONS[made.reason]}.` : 'Stopped.';
    } catch (error) {
        if (!signal.aborted) throw error;
        outcome = 'Stopped.';
    } finally {
        status.textContent = outcome;
        // Stopped while the prompt was read: the text is what was read of it.
        const read = fed.slice(0, Math.max(0, session.position - (from?.tokens.length ?? 0)));
        if (read.length < fed.length) view.set(view.tokens.slice(0, session.position));
        if (view.tokens.length === 0) find('result').hidden = true;
        if (session.position > 0 && outcome !== 'Failed.') {
            const prompt = read.length < fed.length ? read.map((piece) => piece.text).join('') : text;
            forks.add({ parent: from, prompt, made: made.text, tokens: [...view.tokens], session, bound: hard });
            kept = true;
        }
        if (!kept) await session.dispose();
    }
    await finish(model, session, made, hard);
}

/** What a run has made so far, and when. */
interface Made {
    text: string;
    promptTokens: number;
    tokens: number;
    begun: number;
    /** When the first and the last token came. */
    first: number;
    last: number;
    /** Why it ended, if it did by itself. */
    reason?: FinishReason;
    /** Milliseconds that reading the prompt took, where that is known. */
    promptMs?: number;
}

async function consume(session: Session, text: string, signal: AbortSignal, made: Made): Promise<void> {
    for await (const event of session.generate(text, { ...options(), signal })) {
        switch (event.type) {
            case 'prompt':
                if (!signal.aborted) status.textContent = `Reading the prompt… ${count(event.read)} of ${count(event.total)} tokens`;
                break;
            case 'token':
                if (made.tokens === 0 && !signal.aborted) status.textContent = 'Generating…';
                view.add({ text: '', alpha: undefined, selected: undefined });
                made.last = performance.now();
                if (made.tokens++ === 0) made.first = made.last;
                break;
            case 'text':
                made.text += event.text;
                view.append(event.text);
                break;
            case 'gates':
                view.gates(event.first, event.alpha, event.selected);
                break;
            case 'stats':
                if (!signal.aborted) status.textContent = `Generating… ${event.tokens} tokens, ${rate(event.tokens - 1, event.elapsedMs)}`;
                break;
            case 'done':
                made.reason = event.finishReason;
                made.promptMs = event.timings.prompt;
        }
    }
}

/** Numbers and charts, after a text. */
async function finish(model: Model, session: Session, made: Made, hard: number | undefined): Promise<void> {
    const stats = await session.stats().catch(() => undefined);
    if (!stats) return;
    report = rows(model, stats, made);
    define(find('stats'), report);
    button('report').hidden = false;
    await Promise.all([showBudget(view.tokens, model.info.attentionBudget, hard), showMemory(model.info, stats.bytes.state)]);
}

function rows(model: Model, stats: SessionStats, { promptTokens, tokens, begun, first, last, promptMs }: Made): [string, string][] {
    const firstMs = first - begun;
    const fed = promptTokens > 0 && tokens > 0 ? rate(promptTokens, promptMs ?? firstMs) : '–';
    const refused = stats.refused.some((n) => n > 0) ? ` (${stats.refused.join(' and ')} refused)` : '';
    return [
        ['Device', model.device],
        ['First token', tokens > 0 ? milliseconds(firstMs) : '–'],
        [promptTokens > 0 ? `Prompt, ${promptTokens} tokens` : 'Prompt', fed],
        ['Decode', rate(tokens - 1, last - first)],
        ['State, at any length', bytes(stats.bytes.state)],
        ['Weights', bytes(stats.bytes.weights)],
        ['Scratch', bytes(stats.bytes.scratch)],
        ['Tokens that attended', stats.selected.length > 0 ? `${stats.selected.join(' and ')} of ${stats.tokens}${refused}` : '–'],
        ...(stats.dispatches > 0 ? [['Dispatches a token', `${stats.dispatches} in ${stats.submits} submission`] as [string, string]] : []),
    ];
}

async function reportText(): Promise<string> {
    const { adapter: found, code } = await app.supported;
    const browser = navigator.userAgent;
    const adapter = found?.name ?? code ?? 'unknown';
    const lines = [...report, ['Adapter', adapter], ['Browser', browser], ['Settings', JSON.stringify({ ...options(), bound: bound() })]];
    return ['## Taipan in the browser', '', '| | |', '|---|---|', ...lines.map(([name, value]) => `| ${name} | ${String(value).replaceAll('|', '\\|')} |`)].join('\n');
}

export function setUpGenerate(): void {
    const start = (text: () => string, from: () => Run | undefined) => (): void => void run((signal) => write(signal, text(), from()));
    find('write').addEventListener('submit', (event) => {
        event.preventDefault();
        // What is a run's text with more behind it goes on from the state after that run.
        const before = forks.before(prompt.value, bound());
        const rest = before ? prompt.value.slice(Forks.textOf(before).length) : '';
        const reuse = before && rest !== '' ? before : undefined;
        start(() => (reuse ? rest : prompt.value), () => reuse)();
    });
    button('continue').addEventListener('click', start(() => '', () => forks.current));
    button('edit').addEventListener('click', () => {
        if (!forks.current) return;
        prompt.value = Forks.textOf(forks.current);
        prompt.focus();
        status.textContent = 'Change the text, then Generate. What it has in common with a kept run is not read again.';
    });
    button('stop').addEventListener('click', () => app.running?.abort());
    document.addEventListener('keydown', (event) => {
        if (event.key === 'Escape') app.running?.abort();
    });
    prompt.addEventListener('keydown', (event) => {
        // As in other programs of this kind; the key alone makes a new line.
        if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) find<HTMLFormElement>('write').requestSubmit();
    });
    for (const text of EXAMPLES) {
        const example = Object.assign(document.createElement('button'), { type: 'button', textContent: text, className: 'chip' });
        example.addEventListener('click', () => (prompt.value = text));
        find('examples').append(example);
    }
    button('report').addEventListener('click', () => void reportText().then((text) => copy(text, button('report'))));
    enable('share', (share) => void copy(link(), share));
    enable('open-settings', () => find<HTMLDialogElement>('settings').showModal());
    onChange(() => {
        const idle = app.running === undefined;
        const loaded = app.model !== undefined;
        button('run').disabled = !idle || !loaded;
        button('stop').disabled = idle;
        button('continue').disabled = !idle || !loaded || owner !== app.model || !forks.current;
        button('edit').disabled = button('continue').disabled;
        if (loaded && status.textContent === FIRST) status.textContent = '';
        if (!loaded && idle && status.textContent === '') status.textContent = FIRST;
    });
}

