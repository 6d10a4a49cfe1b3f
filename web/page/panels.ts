import type { ModelInfo } from '../dist/index.js';
import { find, input } from './dom.js';
import { bytes, compact, count, percent } from './format.js';
import { bound } from './settings.js';
import type { Token } from './tokens.js';

// What only this kind of model has to show: attention that is kept to a budget, and memory that does not grow.

/** The chart library comes after the first paint. */
const charts = (): Promise<typeof import('./charts.js')> => import('./charts.js');

/** Of what size a token's keys and values are in a transformer of the same depth and width, in f32 as our own state is. */
function cachePerToken({ layers, hiddenSize }: ModelInfo): number {
    return layers.length * 2 * hiddenSize * 4;
}

/** State of a session against a key-value cache, over the length of the text. */
export async function showMemory(info: ModelInfo, stateBytes: number): Promise<void> {
    const each = cachePerToken(info);
    // The first length at which the cache is the larger one.
    const crossover = Math.floor(stateBytes / each) + 1;
    const steps = Array.from({ length: 51 }, (_, i) => Math.round(10 ** (1 + i / 10)));
    const x = [...new Set([...steps, crossover])].sort((a, b) => a - b);
    const words =
        `This session holds ${bytes(stateBytes)} at any length. Keys and values of ${info.layers.length} attention layers of width ` +
        `${info.hiddenSize} in f32 take ${bytes(each)} a token: more than that from ${count(crossover)} tokens on, ` +
        `${bytes(each * 1e5)} at 100,000 and ${bytes(each * 1e6)} at a million.`;
    find('memory-text').textContent = words;
    const { draw } = await charts();
    const chart = {
        x,
        log: true,
        xLabel: 'tokens',
        yLabel: '',
        showX: compact,
        showY: bytes,
        lines: [
            { label: 'this model', values: x.map(() => stateBytes), colour: '--accent' },
            { label: 'transformer', values: x.map((n) => n * each), colour: '--warn', dashed: true },
            { label: `from ${count(crossover)} tokens on`, values: x.map((n) => (n === crossover ? stateBytes : null)), colour: '--text', points: true },
        ],
    };
    draw(find('memory-chart'), chart, words);
}

/** Tokens that attended so far, per layer, against the budget and the bound. */
export async function showBudget(tokens: readonly Token[], budget: number | undefined, hard: number | undefined): Promise<void> {
    const known = tokens.filter((token) => token.selected);
    const layers = known[0]?.selected?.length ?? 0;
    if (known.length < 2 || layers === 0) return;
    const x = known.map((_, i) => i + 1);
    const sums = Array.from({ length: layers }, (_, layer) => {
        let sum = 0;
        return known.map((token) => (sum += token.selected?.[layer] ? 1 : 0));
    });
    const shares = sums.map((sum, i) => `layer ${i + 1} ${percent((sum.at(-1) ?? 0) / known.length)}`);
    const limits = [
        ...(budget === undefined ? [] : [`it was trained towards ${percent(budget)}`]),
        hard === undefined ? 'no hard bound' : `the bound allows ${percent(hard)} and a burst of ${BURST}`,
    ];
    const words = `Of ${known.length} tokens attended: ${shares.join(', ')}; ${limits.join(', ')}.`;
    find('budget-numbers').textContent = words;
    const { draw } = await charts();
    const colours = ['--accent', '--second'];
    const lines = sums.map((values, i) => ({ label: `layer ${i + 1}`, values, colour: colours[i % 2] as string }));
    const straight = (label: string, slope: number, from: number): (typeof lines)[0] & { dashed: boolean } => {
        return { label, values: x.map((n) => from + slope * n), colour: label === 'bound' ? '--error' : '--quiet', dashed: true };
    };
    const extra = [
        ...(budget === undefined ? [] : [straight('C', budget, 0)]),
        ...(hard === undefined ? [] : [straight('bound', hard, BURST)]),
    ];
    draw(find('budget-chart'), { x, xLabel: 'tokens', yLabel: 'attended', lines: [...lines, ...extra] }, words);
}

/** Tokens that a bound lets through at once, the runtime's default. */
export const BURST = 16;

export function watchBound(): void {
    const show = (): void => {
        const hard = bound();
        const text = hard === undefined ? 'off' : `${percent(hard)} of tokens, from the next text on`;
        find('bound-value').textContent = text;
        input('bound').setAttribute('aria-valuetext', text);
    };
    input('bound').addEventListener('input', show);
    show();
}
