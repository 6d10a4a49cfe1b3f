/** Numbers for people. */

const number = (digits: number): Intl.NumberFormat => new Intl.NumberFormat('en', { maximumFractionDigits: digits });
const [whole, tenths] = [number(0), number(1)];

export function count(n: number): string {
    return whole.format(n);
}

/** In few characters, for an axis. */
export function compact(n: number): string {
    return new Intl.NumberFormat('en', { notation: 'compact' }).format(n);
}

export function bytes(n: number): string {
    if (n < 1e3) return `${whole.format(n)} B`;
    if (n < 1e6) return `${whole.format(n / 1e3)} kB`;
    return n < 1e9 ? `${tenths.format(n / 1e6)} MB` : `${tenths.format(n / 1e9)} GB`;
}

export function milliseconds(ms: number): string {
    return ms < 1e3 ? `${whole.format(ms)} ms` : `${tenths.format(ms / 1e3)} s`;
}

export function perSecond(n: number): string {
    return (n < 100 ? tenths : whole).format(n);
}

/** Things in so many milliseconds, as things per second. */
export function rate(things: number, ms: number): string {
    return !(ms > 0) || things <= 0 ? '–' : `${perSecond((things * 1e3) / ms)} tokens/s`;
}

export function percent(share: number): string {
    return `${tenths.format(share * 100)} %`;
}
