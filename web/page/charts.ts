import uPlot from 'uplot';

/** A line of a chart. */
export interface Line {
    label: string;
    values: (number | null)[];
    /** A custom property of the style sheet. */
    colour: string;
    dashed?: boolean;
    /** Points instead of a line. */
    points?: boolean;
}

export interface Chart {
    x: number[];
    lines: Line[];
    /** Logarithmic axes. */
    log?: boolean;
    xLabel: string;
    yLabel: string;
    showX?: (x: number) => string;
    showY?: (y: number) => string;
    /** Points instead of lines. */
    points?: boolean;
}

const drawn = new Map<HTMLElement, { plot: uPlot; chart: Chart; words: string }>();

/** Draws a chart, or draws it anew. `words` says the same to those who cannot see it. */
export function draw(where: HTMLElement, chart: Chart, words: string): void {
    const before = drawn.get(where);
    before?.plot.destroy();
    where.hidden = false;
    where.replaceChildren();
    where.setAttribute('role', 'img');
    where.setAttribute('aria-label', words);
    const style = getComputedStyle(where);
    const colour = (name: string): string => style.getPropertyValue(name).trim();
    const show = (format: ((n: number) => string) | undefined) => (_: uPlot, values: (number | null)[]) =>
        values.map((value) => (value === null ? '' : (format?.(value) ?? String(value))));
    const axis = (label: string, format: ((n: number) => string) | undefined, size: number): uPlot.Axis => ({
        label,
        labelSize: 18,
        size,
        stroke: colour('--quiet'),
        grid: { stroke: colour('--line'), width: 1 },
        ticks: { stroke: colour('--line'), width: 1 },
        values: show(format),
        ...(chart.log ? { splits: decades } : {}),
        font: '12px system-ui',
        labelFont: '12px system-ui',
    });
    const options: uPlot.Options = {
        width: where.clientWidth || 300,
        height: 220,
        legend: { live: false },
        cursor: { show: false },
        scales: { x: { time: false, distr: chart.log ? 3 : 1 }, y: { distr: chart.log ? 3 : 1 } },
        axes: [axis(chart.xLabel, chart.showX, 38), axis(chart.yLabel, chart.showY, 64)],
        series: [
            {},
            ...chart.lines.map((line): uPlot.Series => ({
                label: line.label,
                stroke: colour(line.colour),
                width: chart.points || line.points ? 0 : 2,
                points: { show: chart.points === true || line.points === true, size: 7, fill: colour(line.colour) },
                ...(line.dashed ? { dash: [6, 4] } : {}),
            })),
        ],
    };
    const data = [chart.x, ...chart.lines.map((line) => line.values)] as uPlot.AlignedData;
    drawn.set(where, { plot: new uPlot(options, data, where), chart, words });
}

/** Powers of ten, and nothing between them. */
function decades(_: uPlot, __: number, min: number, max: number): number[] {
    const [from, to] = [Math.ceil(Math.log10(min) - 1e-9), Math.floor(Math.log10(max) + 1e-9)];
    return Array.from({ length: Math.max(0, to - from + 1) }, (___, i) => 10 ** (from + i));
}

function again(): void {
    for (const [where, { chart, words }] of drawn) if (where.clientWidth > 0) draw(where, chart, words);
}

let timer: ReturnType<typeof setTimeout> | undefined;
addEventListener('resize', () => {
    clearTimeout(timer);
    timer = setTimeout(again, 150);
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', again);
