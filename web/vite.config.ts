import { readFileSync, readdirSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { type Plugin, defineConfig } from 'vite';

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const model = here('../crates/cli/model/');

const config = JSON.parse(readFileSync(model + 'config.json', 'utf8')) as { layer_types: string[]; tie_word_embeddings?: boolean };

/** The layers in words: six Mamba-2 and one selective attention, twice. */
function layers(types: string[]): string {
    const attention = types.filter((type) => type === 'selective_attention').length;
    return `${types.length - attention} Mamba-2 and ${attention} selective attention layers`;
}

/** Elements of all tensors, from the header of the weights. */
function parameters(): number {
    const bytes = readFileSync(model + 'model.safetensors');
    const header = JSON.parse(bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE(0))).toString()) as Record<string, { shape?: number[] }>;
    const elements = (shape: number[]): number => shape.reduce((product, n) => product * n, 1);
    return Object.values(header).reduce((sum, { shape }) => sum + (shape ? elements(shape) : 0), 0);
}

const golden = here('../tests/golden/taipan/');

function fileBytes(path: string): number {
    const stat = statSync(path);
    return stat.isFile() ? stat.size : 0;
}

/** Bytes of a wasm module as servers compress it. */
const compressed = (path: string): number => gzipSync(readFileSync(here(path)), { level: 9 }).length;

const goldenBytes = readdirSync(golden, { recursive: true }).reduce((sum: number, name) => sum + fileBytes(golden + String(name)), 0);

/** What the page announces before it downloads anything. */
const facts = {
    model: ['config.json', 'tokenizer.json', 'model.safetensors'].reduce((sum, name) => sum + statSync(model + name).size, 0),
    /** With what the other tabs need, which comes along. */
    program: compressed('dist/wasm/taipan_bg.wasm') + compressed('dist/lab/lab_bg.wasm') + goldenBytes,
    parameters: parameters(),
    layers: layers(config.layer_types),
    /** The cases of the Validate tab. */
    golden: readdirSync(golden),
    goldenBytes,
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
                    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; connect-src 'self'; " +
                    "img-src 'self' data:; base-uri 'none'; form-action 'none'",
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
        __FACTS__: JSON.stringify(facts),
    },
    plugins: [policy],
    optimizeDeps: { noDiscovery: true },
    server: { watch: { ignored: ['**/target/**', '**/.git/**', '**/site/**'] } },
    worker: { format: 'es' },
    build: {
        outDir: here('site'),
        emptyOutDir: true,
        target: 'es2022',
        modulePreload: { polyfill: false },
        reportCompressedSize: false,
    },
});
