// The names by which a module and its script know each other's functions: wasm-bindgen puts a hash into each, which does not
// compress. Here they become short ones, in both files.

import { readFileSync, renameSync, writeFileSync } from 'node:fs';

const IMPORTS = 2;

function leb(n) {
    const bytes = [];
    do bytes.push((n & 127) | (n > 127 ? 128 : 0));
    while ((n >>>= 7) > 0);
    return Buffer.from(bytes);
}

/** Reads what a module is made of. */
class Reader {
    constructor(bytes, at = 0) {
        [this.bytes, this.at] = [bytes, at];
    }

    leb() {
        for (let [n, shift] = [0, 0]; ; shift += 7) {
            const byte = this.bytes[this.at++];
            n |= (byte & 127) << shift;
            if (byte < 128) return n >>> 0;
        }
    }

    take(length) {
        this.at += length;
        return this.bytes.subarray(this.at - length, this.at);
    }
}

/** A section of imports, all of them functions, with other names. */
function renamed(section, short) {
    const reader = new Reader(section);
    const count = reader.leb();
    const out = [leb(count)];
    for (let i = 0; i < count; i++) {
        const module = reader.take(reader.leb());
        const name = reader.take(reader.leb()).toString();
        const kind = reader.take(1);
        if (kind[0] !== 0) throw new Error(`the import ${name} is no function`);
        const field = Buffer.from(short(name));
        out.push(leb(module.length), module, leb(field.length), field, kind, leb(reader.leb()));
    }
    return Buffer.concat(out);
}

/** Shortens the names between `NAME_bg.wasm` and `NAME.js` of a folder; once, since short names stay. */
export function shorten(folder, name) {
    const [wasm, script] = [new URL(`${name}_bg.wasm`, folder), new URL(`${name}.js`, folder)];
    const names = new Map();
    const short = (long) => {
        if (!/^__wb/.test(long)) return long;
        if (!names.has(long)) names.set(long, `i${names.size.toString(36)}`);
        return names.get(long);
    };
    const reader = new Reader(readFileSync(wasm), 8);
    const out = [reader.bytes.subarray(0, 8)];
    while (reader.at < reader.bytes.length) {
        const id = reader.take(1);
        const section = reader.take(reader.leb());
        const content = id[0] === IMPORTS ? renamed(section, short) : section;
        out.push(id, leb(content.length), content);
    }
    if (names.size === 0) return;
    const code = readFileSync(script, 'utf8').replace(/\b__wb\w+/g, (word) => names.get(word) ?? word);
    writeFileSync(new URL('fresh', folder), Buffer.concat(out));
    writeFileSync(script, code);
    renameSync(new URL('fresh', folder), wasm);
}
