import { type Entry, runBenchmark } from '../dist/bench.js';
import { app, onChange, run } from './app.js';
import { draw } from './charts.js';
import { button, copy, define, fill, find, input, make, save } from './dom.js';
import { perSecond, percent } from './format.js';

/** Models that a page can draw; the native program has larger ones. */
const PRESETS = ['taipan-4.7m', 'mamba2-4.8m', 'mamba2-130m', 'taipan-190m'];
/** The choice of the model that the page has loaded. */
const LOADED = 'loaded';
const TESTS = [{ prompt: 128 }, { generate: 32 }, { generate: 32, depth: 1024 }];

const status = find('bench-status');
let entries: Entry[] = [];

const text = (value: unknown): string => (typeof value === 'string' ? value : typeof value === 'number' ? String(value) : '?').slice(0, 80);
const number = (value: unknown): number => (typeof value === 'number' && Number.isFinite(value) ? value : NaN);
const inside = (value: unknown, key: string): unknown => (typeof value === 'object' && value !== null ? (value as Entry)[key] : undefined);

/** A workload, not a kernel. */
const isRow = (entry: unknown): entry is Entry => inside(entry, 'avg_ts') !== undefined;
const isKernel = (entry: unknown): entry is Entry => inside(entry, 'kernel') !== undefined;

function testName(row: Entry): string {
    const name = number(row.n_prompt) > 0 ? `pp${number(row.n_prompt)}` : `tg${number(row.n_gen)}`;
    return number(row.n_depth) > 0 ? `${name} @ d${number(row.n_depth)}` : name;
}

const whole = (n: number): string => (Number.isInteger(n) ? String(n) : '');
const speed = (row: Entry): string => `${perSecond(number(row.avg_ts))} ± ${perSecond(number(row.stddev_ts))}`;

function rowCells(row: Entry): string[] {
    const agreement = number(inside(row.quality, 'agreement_rate'));
    return [text(row.gpu_info), text(row.model_type), testName(row), speed(row), percent(number(inside(row.derived, 'bw_efficiency'))), percent(agreement)];
}

function kernelCells(k: Entry): string[] {
    const fixed = (value: unknown): string => number(value).toFixed(1);
    return [text(k.kernel), text(k.phase), (number(k.median_ns) / 1e3).toFixed(1), fixed(k.gbps), fixed(k.gflops), k.ok === true ? 'yes' : 'NO'];
}

function show(): void {
    const rows = entries.filter(isRow);
    fill(find('bench-table'), rows.map(rowCells));
    fill(find('kernel-table'), entries.filter(isKernel).map(kernelCells));
    if (rows.length > 0) chart(rows);
    define(find('bench-probes'), rows[0] ? probes(rows[0]) : []);
}

/** What the device can do at best, measured before the rows. */
function probes({ probes: found }: Entry): [string, string][] {
    const of = (key: string, digits: number, unit: string): string => {
        const value = number(inside(found, key));
        return Number.isNaN(value) ? '–' : `${value.toFixed(digits)} ${unit}`;
    };
    return [
        ['Copy', of('copy_gbps', 1, 'GB/s')],
        ['Multiply-add', of('fma_gflops', 1, 'GFLOP/s')],
        ['Dispatch after dispatch', of('dispatch_us', 1, 'µs')],
        ['Submission to result', of('map_roundtrip_us', 0, 'µs')],
    ];
}

/** Every repetition of every row, so that spread and drift are seen. */
function chart(rows: readonly Entry[]): void {
    const samples = rows.map((row) => (Array.isArray(row.samples_ts) ? row.samples_ts.map(number) : []));
    const most = Math.max(...samples.map((list) => list.length));
    const x = Array.from({ length: most }, (_, i) => i + 1);
    const colours = ['--accent', '--second', '--warn', '--error'];
    const lines = rows.map((row, i) => ({
        label: testName(row),
        values: x.map((_, at) => samples[i]?.[at] ?? null),
        colour: colours[i % colours.length] as string,
    }));
    const words = `Tokens per second of each repetition: ${rows.map((row) => `${testName(row)} ${speed(row)}`).join(', ')}.`;
    draw(find('bench-chart'), { x, lines, xLabel: 'repetition', yLabel: 'tokens/s', points: true, showX: whole }, words);
}

async function measure(signal: AbortSignal): Promise<void> {
    entries = [];
    show();
    const preset = find<HTMLSelectElement>('bench-preset').value;
    const device = find<HTMLSelectElement>('bench-device').value as 'gpu' | 'cpu';
    const kernels = input('bench-kernels').checked && device === 'gpu';
    let said = 'Not finished.';
    try {
        const onEntry = (entry: Entry): void => {
            entries.push(entry);
            show();
        };
        const onStatus = (what: string): void => void (status.textContent = `${what}…`);
        const subject = preset === LOADED && app.model ? { model: app.model } : { preset };
        await runBenchmark({ device, ...subject, rows: TESTS, kernels, signal, onStatus, onEntry });
        said = `${entries.length} rows.`;
    } catch (error) {
        if (!signal.aborted) said = error instanceof Error ? error.message : String(error);
        throw error;
    } finally {
        status.textContent = said;
    }
}

function markdown(): string {
    const rows = entries.filter(isRow).map((row) => `| ${rowCells(row).join(' | ')} |`);
    const kernels = entries.filter(isKernel).map((k) => `| ${kernelCells(k).join(' | ')} |`);
    const table = ['| device | model | test | tokens/s | of bandwidth | agrees |', '|---|---|---|---|---|---|', ...rows];
    const first = entries.find(isRow);
    const ceilings = first ? ['', probes(first).map(([name, value]) => `${name}: ${value}`).join(', ')] : [];
    table.push(...ceilings);
    return kernels.length === 0 ? table.join('\n') : [...table, '', '| kernel | phase | µs | GB/s | GFLOP/s | right |', '|---|---|---|---|---|---|', ...kernels].join('\n');
}

/** Files of results side by side: a row for each test, a column for each file. */
async function compare(files: readonly File[]): Promise<void> {
    const note = find('compare-status');
    const columns: { name: string; rows: Entry[] }[] = [];
    const refused: string[] = [];
    for (const file of files.slice(0, 8)) {
        try {
            const json: unknown = JSON.parse(await file.text());
            const rows = (Array.isArray(json) ? json : [json]).filter(isRow);
            if (rows.length === 0) throw new Error('no rows in it');
            columns.push({ name: file.name, rows });
        } catch (error) {
            refused.push(`${file.name}: not a file of results (${error instanceof Error ? error.message : String(error)})`);
        }
    }
    note.textContent = [...refused, `${columns.length} ${columns.length === 1 ? 'file' : 'files'} compared.`].join('\n');
    const tests = [...new Set(columns.flatMap(({ rows }) => rows.map((row) => `${text(row.model_type)} ${testName(row)}`)))];
    const rowOf = (rows: Entry[], test: string): Entry | undefined => rows.find((row) => `${text(row.model_type)} ${testName(row)}` === test);
    const table = find<HTMLTableElement>('compare-table');
    const heads = ['Test', ...columns.map(({ name, rows }) => `${name}: ${text(rows[0]?.gpu_info)}`)].map((name) => {
        const head = make('th', name);
        head.scope = 'col';
        return head;
    });
    table.tHead?.replaceChildren(make('tr', '', ...heads));
    const value = (column: (typeof columns)[0], test: string): string => {
        const [row, first] = [rowOf(column.rows, test), columns[0] && rowOf(columns[0].rows, test)];
        if (!row) return '–';
        const ratio = column === columns[0] || !first ? '' : ` (${(number(row.avg_ts) / number(first.avg_ts)).toFixed(2)}×)`;
        return speed(row) + ratio;
    };
    fill(table, tests.map((test) => [test, ...columns.map((column) => value(column, test))]));
    if (tests.length === 0) return;
    const colours = ['--accent', '--second', '--warn', '--error'];
    const lines = columns.map((column, i) => ({
        label: column.name,
        values: tests.map((test) => number(rowOf(column.rows, test)?.avg_ts ?? NaN)).map((v) => (v > 0 ? v : null)),
        colour: colours[i % colours.length] as string,
    }));
    const x = tests.map((_, i) => i + 1);
    const words = `Tokens per second by test: ${tests.join(', ')}; the numbers are in the table.`;
    draw(find('compare-chart'), { x, lines, xLabel: 'test, as numbered in the table', yLabel: 'tokens/s', points: true, showX: whole }, words);
}

export async function setUpBenchmark(): Promise<void> {
    const { ok } = await app.supported;
    const preset = find<HTMLSelectElement>('bench-preset');
    preset.append(...PRESETS.map((name) => Object.assign(make('option', name), { value: name })));
    const loaded = Object.assign(make('option', 'the loaded model'), { value: LOADED });
    preset.append(loaded);
    if (!ok) find<HTMLSelectElement>('bench-device').value = 'cpu';
    button('bench-run').addEventListener('click', () => void run(measure));
    button('bench-stop').addEventListener('click', () => app.running?.abort());
    button('bench-save').addEventListener('click', () => save('taipan-bench.json', JSON.stringify(entries, undefined, 1)));
    button('bench-copy').addEventListener('click', () => void copy(markdown(), button('bench-copy')));
    input('bench-files').addEventListener('change', ({ target }) => void compare([...((target as HTMLInputElement).files ?? [])]));
    const drop = find('drop');
    drop.addEventListener('dragover', (event) => event.preventDefault());
    drop.addEventListener('drop', (event) => {
        event.preventDefault();
        void compare([...(event.dataTransfer?.files ?? [])]);
    });
    onChange(() => {
        const idle = app.running === undefined;
        loaded.disabled = app.model === undefined;
        if (loaded.disabled && loaded.selected) preset.selectedIndex = 0;
        button('bench-run').disabled = !idle;
        button('bench-stop').disabled = idle;
        for (const id of ['bench-save', 'bench-copy']) button(id).disabled = entries.length === 0;
    });
}
