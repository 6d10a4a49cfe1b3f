// Records a run of the embedded model for visitors who cannot run it: tokens with what their gates decided. That Node 20
// loads the module is a check as well: it knows no newer instructions than the browsers do.

import { readFileSync } from 'node:fs';

import * as runtime from '../dist/wasm/taipan.js';

const PROMPT = 'Once upon a time';
const TOKENS = 90;

const model = (name) => readFileSync(new URL(`../../crates/cli/model/${name}`, import.meta.url));

/** The run, as `page/replay.ts` reads it. */
export async function record() {
    await runtime.default({ module_or_path: readFileSync(new URL('../dist/wasm/taipan_bg.wasm', import.meta.url)) });
    const [config, weights] = [model('config.json'), model('model.safetensors')];
    const start = weights.subarray(0, 8 + Number(weights.readBigUInt64LE(0)));
    const files = { config, tokenizer: model('tokenizer.json'), weights: [{ name: 'model.safetensors', start, size: weights.length }] };
    const read = async (_, from, to) => new Uint8Array(weights.subarray(from, to));
    const opened = await runtime.Model.load(runtime.Device.cpu(), files, 'auto', read, () => {});
    const session = opened.session();
    const tokens = opened.tokenize(PROMPT).map(({ text }) => ({ text }));
    const decide = ({ first, alpha, selected }) => {
        for (let i = 0; i < alpha[0].length; i++) {
            tokens[first + i].alpha = alpha.map((layer) => Math.round(layer[i] * 1000) / 1000);
            tokens[first + i].selected = selected.map((layer) => layer[i] === 1);
        }
    };
    const fed = await session.prefill(PROMPT, true);
    if (fed.gates) decide(fed.gates);
    await session.generate({ temperature: 0, maxTokens: TOKENS, traceGates: true, ignoreEos: true }, ({ text, gates }) => {
        if (gates) decide(gates);
        tokens.push({ text });
    });
    const last = await session.catchUp();
    if (last) decide(last);
    const { bytes } = await session.stats();
    const json = JSON.parse(config);
    const { layer_types: layers, hidden_size: hiddenSize, selective_attention: attention } = json;
    return { tokens, stateBytes: bytes.state, info: { layers, hiddenSize, attentionBudget: attention?.attention_budget ?? undefined } };
}
