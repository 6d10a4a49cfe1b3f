import { type CaseReport, type Validation, validate } from '../dist/bench.js';
import { MODEL, app, goldenBytes, goldenCases, onChange, run } from './app.js';
import { button, copy, fill, find, make, save } from './dom.js';
import { bytes } from './format.js';
import { decode, encode } from './settings.js';

/** What is shared of a validation: one row per kernel. */
interface Summary {
    device: string;
    browser: string;
    ok: boolean;
    rows: Row[];
}

interface Row {
    kernel: string;
    cases: number;
    worst: number;
    allowed: number;
    failed: number;
}

const table = find<HTMLTableElement>('validate-table');
const status = find('validate-status');
let result: Validation | undefined;

function rowsOf(reports: readonly CaseReport[]): Row[] {
    const rows = new Map<string, Row>();
    for (const { kernel, worst, tolerance, ok } of reports) {
        const row = rows.get(kernel) ?? { kernel, cases: 0, worst: 0, allowed: tolerance, failed: 0 };
        row.cases++;
        row.worst = Math.max(row.worst, worst);
        row.failed += ok ? 0 : 1;
        rows.set(kernel, row);
    }
    return [...rows.values()];
}

const scientific = (n: number): string => (n === 0 ? '0' : n >= 1e30 ? '∞' : n.toExponential(1));

function cells({ kernel, cases, worst, allowed, failed }: Row): string[] {
    return [kernel, String(cases), scientific(worst), scientific(allowed), failed === 0 ? 'ok' : `${failed} wrong`];
}

function show(rows: readonly Row[]): void {
    fill(table, rows.map(cells));
    for (const [i, row] of rows.entries()) table.tBodies[0]?.rows[i]?.classList.toggle('bad', row.failed > 0);
}

/** The greedy texts of another implementation, where the model is loaded. */
async function texts(signal: AbortSignal): Promise<CaseReport[]> {
    const { model } = app;
    if (!model) return [];
    const golden = (await (await fetch(new URL('greedy.json', MODEL), { signal })).json()) as Record<string, string>;
    const reports: CaseReport[] = [];
    for (const [prompt, expected] of Object.entries(golden)) {
        const session = model.createSession();
        let text = prompt;
        for await (const event of session.generate(prompt, { temperature: 0, maxTokens: 40, signal })) {
            if (event.type === 'text') text += event.text;
        }
        await session.dispose();
        const ok = text.length > prompt.length && text === expected.slice(0, text.length);
        const detail = ok ? null : `wrote ${JSON.stringify(text)}`;
        reports.push({ kernel: 'golden text', shape: prompt, seed: 0, worst: ok ? 0 : Infinity, tolerance: 0, ok, detail });
    }
    return reports;
}

async function work(signal: AbortSignal): Promise<void> {
    const bar = find<HTMLProgressElement>('validate-progress');
    const reports: CaseReport[] = [];
    result = undefined;
    find('validate-failures').replaceChildren();
    bar.hidden = false;
    bar.value = 0;
    status.textContent = 'Opening the device…';
    let said = 'Not finished.';
    try {
        const onCase = (report: CaseReport, index: number, total: number): void => {
            reports.push(report);
            bar.value = (index + 1) / total;
            status.textContent = `${index + 1} of ${total}: ${report.kernel} ${report.shape}`;
            if (index % 10 === 0) show(rowsOf(reports));
        };
        const { ok } = await app.supported;
        const found = await validate({ device: ok ? 'gpu' : 'cpu', golden: goldenCases(), signal, onCase });
        status.textContent = 'Comparing texts…';
        const more = await texts(signal);
        const failed = more.filter(({ ok }) => !ok).map(({ shape, detail }) => `golden text ${JSON.stringify(shape)}: ${detail}`);
        const complaints = [...found.complaints, ...failed];
        reports.push(...more);
        result = { ...found, ok: found.ok && failed.length === 0, reports: [...reports], complaints };
        said = verdict(result.ok, result.device, reports.length, complaints.length);
        find('validate-failures').replaceChildren(...complaints.map((text) => make('li', text)));
    } catch (error) {
        if (!signal.aborted) said = error instanceof Error ? error.message : String(error);
        throw error;
    } finally {
        bar.hidden = true;
        show(rowsOf(reports));
        status.textContent = said;
    }
}

function verdict(ok: boolean, device: string, cases: number, wrong: number): string {
    return ok ? `All ${cases} cases agree on ${device}.` : `${wrong} of ${cases} cases DO NOT AGREE on ${device}.`;
}

function summary(found: Validation): Summary {
    return { device: found.device, browser: navigator.userAgent, ok: found.ok, rows: rowsOf(found.reports) };
}

function markdown(found: Validation): string {
    const rows = rowsOf(found.reports).map((row) => `| ${cells(row).join(' | ')} |`);
    const head = verdict(found.ok, found.device, found.reports.length, found.complaints.length);
    return [head, '', '| kernel | cases | worst | allowed | result |', '|---|---|---|---|---|', ...rows, '', ...found.complaints, navigator.userAgent].join('\n');
}

/** A result that somebody shared: shown as text, whatever is in it. */
function showShared(): void {
    const shared = decode('v') as Partial<Summary> | undefined;
    if (!shared || !Array.isArray(shared.rows)) return;
    const number = (value: unknown): number => (typeof value === 'number' ? value : Infinity);
    const rows = shared.rows.slice(0, 100).map((row: Partial<Row>) => ({
        kernel: String(row.kernel).slice(0, 60),
        cases: number(row.cases),
        worst: number(row.worst),
        allowed: number(row.allowed),
        failed: number(row.failed),
    }));
    show(rows);
    const ok = shared.ok === true && rows.every(({ failed }) => failed === 0);
    status.textContent = `A shared result, ${ok ? 'all in agreement' : 'NOT in agreement'}, of ${String(shared.device).slice(0, 100)}.`;
}

export function setUpValidate(): void {
    find('golden-facts').textContent = `${goldenCases().length} small models, ${bytes(goldenBytes)}`;
    button('validate-run').addEventListener('click', () => void run(work));
    button('validate-stop').addEventListener('click', () => app.running?.abort());
    button('validate-copy').addEventListener('click', () => void (result && copy(markdown(result), button('validate-copy'))));
    button('validate-link').addEventListener('click', () => {
        if (result) void copy(`${location.href.split('#')[0]}#v=${encode(summary(result))}`, button('validate-link'));
    });
    button('validate-save').addEventListener('click', () => {
        if (result) save('taipan-validation.json', JSON.stringify({ ...result, browser: navigator.userAgent }, undefined, 1));
    });
    onChange(() => {
        const idle = app.running === undefined;
        button('validate-run').disabled = !idle;
        button('validate-stop').disabled = idle;
        for (const id of ['validate-copy', 'validate-link', 'validate-save']) button(id).disabled = !result;
    });
    showShared();
}
