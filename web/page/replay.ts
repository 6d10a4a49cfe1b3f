import type { ModelInfo } from '../dist/index.js';
import { run } from './app.js';
import { define, enable, find } from './dom.js';
import { view } from './generate.js';
import { showBudget, showMemory } from './panels.js';
import type { Token } from './tokens.js';

/** A run as `scripts/record.mjs` writes it. */
interface Recording {
    tokens: Required<Token>[];
    info: ModelInfo;
    stateBytes: number;
}

const CALM = matchMedia('(prefers-reduced-motion: reduce)');

/** Shows a run that was recorded when the page was built, for those who cannot run the model. */
async function replay(signal: AbortSignal): Promise<void> {
    const response = await fetch(new URL('./recorded.json', location.href), { signal });
    if (!response.ok) throw new Error(`the recorded run cannot be fetched: status ${response.status}`);
    const { tokens, info, stateBytes } = (await response.json()) as Recording;
    find('result').hidden = false;
    find('status').textContent = 'Replaying a recorded run. Nothing is computed.';
    define(find('stats'), []);
    find('report').hidden = true;
    view.set([]);
    const drawn = Promise.all([showMemory(info, stateBytes), showBudget(tokens, info.attentionBudget, undefined)]);
    for (const [i, token] of tokens.entries()) {
        if (signal.aborted) break;
        view.add({ text: token.text, alpha: undefined, selected: undefined });
        const { alpha, selected } = token;
        if (alpha && selected) view.gates(i, alpha.map((value) => [value]), selected.map((value) => [value]));
        if (!CALM.matches) await new Promise((resolve) => setTimeout(resolve, 30));
    }
    await drawn;
    find('status').textContent = 'This was a recorded run.';
}

export function setUpReplay(): void {
    enable('replay', () => void run(replay));
}
