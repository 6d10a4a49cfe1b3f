/** Numbers for people. */

const number = (digits: number): Intl.NumberFormat => new Intl.NumberFormat('en', { maximumFractionDigits: digits });
const [whole, tenths] = [number(0), number(1)];

export function bytes(n: number): string {
    if (n < 1e3) return `${whole.format(n)} B`;
    return n < 1e6 ? `${whole.format(n / 1e3)} kB` : `${tenths.format(n / 1e6)} MB`;
}

export function milliseconds(ms: number): string {
    return ms < 1e3 ? `${whole.format(ms)} ms` : `${tenths.format(ms / 1e3)} s`;
}

/** Things in so many milliseconds, as things per second. */
export function rate(count: number, ms: number): string {
    if (!(ms > 0) || count <= 0) return '–';
    const perSecond = (count * 1e3) / ms;
    return `${(perSecond < 100 ? tenths : whole).format(perSecond)} tokens/s`;
}
