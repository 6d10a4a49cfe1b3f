// Bytes of a file after `gzip -9`, by which sizes are gated.

import { spawnSync } from 'node:child_process';
import { gzipSync } from 'node:zlib';

/**
 * Node's zlib is made for speed: of WebAssembly it leaves 2.5 % more than zlib and gzip do. So the program counts, and Node
 * only where there is none.
 */
export const gzipped = (content) => {
    const { status, stdout } = spawnSync('gzip', ['-9', '-n', '-c'], { input: content, maxBuffer: 1 << 28 });
    return status === 0 ? stdout.length : gzipSync(content, { level: 9 }).length;
};
