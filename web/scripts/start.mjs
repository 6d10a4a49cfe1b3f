// Builds the page and serves it: npm --prefix web start. PORT chooses the port.

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import { serve } from './serve.mjs';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

// Quick where nothing changed; in a fresh clone it compiles the runtime, which takes minutes.
const build = spawnSync('cargo', ['xtask', 'build-web'], { cwd: here('../..'), stdio: 'inherit' });
if (build.error) {
    console.error(`cannot start cargo: ${build.error.message}\n\nhint: install Rust from https://rustup.rs`);
    process.exit(1);
}
if (build.status !== 0) process.exit(build.status ?? 1);

const port = Number(process.env.PORT ?? 8080);
try {
    const { url } = await serve(here('../site'), port);
    console.log(`\nTaipan is at ${url} (Ctrl-C ends it)`);
} catch (error) {
    console.error(`cannot listen on port ${port}: ${error.message}\n\nhint: PORT=8081 npm --prefix web start`);
    process.exit(1);
}
