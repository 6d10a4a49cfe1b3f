import { readFileSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { type Plugin, defineConfig } from 'vite';

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const model = here('../crates/cli/model/');

/** What the page announces before it downloads anything: bytes of the model, and of the wasm module as servers compress it. */
const sizes = {
    model: ['config.json', 'tokenizer.json', 'model.safetensors'].reduce((sum, name) => sum + statSync(model + name).size, 0),
    program: gzipSync(readFileSync(here('dist/wasm/taipan_bg.wasm')), { level: 9 }).length,
};

/** The built page may load its own files and compile wasm, and nothing else. (While developing, Vite injects scripts.) */
const policy: Plugin = {
    name: 'content-security-policy',
    apply: 'build',
    transformIndexHtml: () => [
        {
            tag: 'meta',
            injectTo: 'head-prepend',
            attrs: {
                'http-equiv': 'Content-Security-Policy',
                content:
                    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
                    "base-uri 'none'; form-action 'none'",
            },
        },
    ],
};

export default defineConfig({
    // The page is index.html at the top of the repository, where people look for it.
    root: here('..'),
    base: './',
    publicDir: false,
    appType: 'mpa', // a missing file is a 404, not the page
    cacheDir: here('node_modules/.vite'),
    define: {
        __SIZES__: JSON.stringify(sizes),
    },
    plugins: [policy],
    optimizeDeps: { noDiscovery: true },
    server: { watch: { ignored: ['**/target/**', '**/.git/**', '**/site/**'] } },
    build: {
        outDir: here('site'),
        emptyOutDir: true,
        target: 'es2022',
        modulePreload: { polyfill: false },
        reportCompressedSize: false,
    },
});
