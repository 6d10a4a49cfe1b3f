// The package as npm has it: what is in it, how large it is, whether its types and exports hold, whether Node can import it,
// and whether it works installed in a plain page, in a Vite build and in an esbuild build.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build as esbuild } from 'esbuild';
import { build as vite } from 'vite';

import { serve } from '../scripts/serve.mjs';
import { gzipped } from '../scripts/gzip.mjs';
import { TIMEOUT, launch, open } from './browser.mjs';
import { PROMPT, golden } from './models.mjs';

const web = fileURLToPath(new URL('..', import.meta.url));
const model = fileURLToPath(new URL('../../crates/cli/model', import.meta.url));
const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm';
const tool = (path, args, cwd) => spawnSync(process.execPath, [join(web, 'node_modules', path), ...args], { cwd, encoding: 'utf8' });

let folder;
let tarball;
let packed;
let installed;

before(() => {
    folder = mkdtempSync(join(tmpdir(), 'taipan-npm-'));
    const output = execFileSync(npm, ['pack', '--json', '--pack-destination', folder], { cwd: web, encoding: 'utf8', shell: npm.endsWith('.cmd') });
    [packed] = JSON.parse(output);
    tarball = join(folder, packed.filename);
    installed = join(folder, 'consumer');
    mkdirSync(installed);
    writeFileSync(join(installed, 'package.json'), JSON.stringify({ name: 'consumer', private: true, type: 'module' }));
    execFileSync(npm, ['install', '--no-audit', '--no-fund', '--offline', tarball], { cwd: installed, shell: npm.endsWith('.cmd') });
});

after(() => rmSync(folder, { recursive: true, force: true }));

describe('the tarball', () => {
    test('has what it needs, and no weights', () => {
        const names = packed.files.map(({ path }) => path);
        for (const name of ['README.md', 'package.json', 'dist/index.js', 'dist/index.d.ts', 'dist/worker.js', 'dist/wasm/taipan_bg.wasm', 'dist/LICENSE-MIT']) {
            assert.ok(names.includes(name), `${name} is missing`);
        }
        const odd = names.filter((name) => !/^(README\.md|package\.json|dist\/.*(\.js|\.d\.ts|\.wasm|LICENSE-[A-Z]+))$/.test(name));
        assert.deepEqual(odd, []);
        const { dependencies, peerDependencies, sideEffects } = JSON.parse(readFileSync(join(installed, 'node_modules/taipan-webgpu/package.json')));
        assert.deepEqual([dependencies, peerDependencies, sideEffects], [undefined, undefined, false]);
    });

    test('is as small as promised', (t) => {
        const dist = join(installed, 'node_modules/taipan-webgpu/dist');
        const names = readdirSync(dist, { recursive: true }).map(String);
        const gzip = (pattern) =>
            names.filter((name) => pattern.test(name)).reduce((sum, name) => sum + gzipped(readFileSync(join(dist, name))), 0);
        const sizes = { wasm: gzip(/wasm.taipan_bg\.wasm$/), lab: gzip(/lab_bg\.wasm$/), scripts: gzip(/\.js$/), unpacked: packed.unpackedSize };
        t.diagnostic(JSON.stringify(sizes));
        assert.ok(sizes.wasm > 100_000 && sizes.wasm <= 1_000_000, `wasm: ${sizes.wasm} bytes gzip`);
        assert.ok(sizes.lab > 100_000 && sizes.lab <= 500_000, `lab: ${sizes.lab} bytes gzip`);
        assert.ok(sizes.scripts > 10_000 && sizes.scripts <= 40_000, `scripts: ${sizes.scripts} bytes gzip`);
        assert.ok(sizes.unpacked <= 6_000_000, `unpacked: ${sizes.unpacked} bytes`);
        const readme = readFileSync(join(web, 'README.md'), 'utf8');
        const told = Object.fromEntries([...readme.matchAll(/^\| (`\w+\.wasm`|all scripts|the package).*\| ([\d.]+) ([km]?B) \|$/gim)].map(([, what, n, unit]) => [what, Number(n) * (unit === 'kB' ? 1e3 : 1e6)]));
        const near = (what, bytes) => assert.ok(Math.abs(told[what] - bytes) < 0.02 * bytes, `the README says ${told[what]} of ${what}: ${bytes}`);
        near('`taipan_bg.wasm`', sizes.wasm);
        near('`lab_bg.wasm`', sizes.lab);
        near('all scripts', sizes.scripts);
        near('the package', sizes.unpacked);
    });

    test('publint and arethetypeswrong have nothing to say', () => {
        const publint = tool('publint/src/cli.js', ['run', tarball, '--strict'], web);
        assert.equal(publint.status, 0, publint.stdout + publint.stderr);
        assert.match(publint.stdout, /All good/);
        const attw = tool('@arethetypeswrong/cli/dist/index.js', [tarball, '--profile', 'esm-only', '--format', 'ascii', '--exclude-entrypoints', 'taipan.wasm', 'lab.wasm', 'package.json'], web);
        assert.equal(attw.status, 0, attw.stdout + attw.stderr);
        for (const entry of ['"taipan-webgpu"', '"taipan-webgpu/openai"', '"taipan-webgpu/bench"', '"taipan-webgpu/worker"']) {
            const after = attw.stdout.slice(attw.stdout.indexOf(entry));
            assert.match(after, /^"[^"]+"\s+node16 \(from ESM\): 🟢 \(ESM\)\s+bundler: 🟢/u, entry);
        }
    });

    test('Node imports it without a network and without a navigator', () => {
        const code = `
            const touched = [];
            globalThis.fetch = () => touched.push('fetch');
            Object.defineProperty(globalThis, 'navigator', { get: () => void touched.push('navigator'), configurable: true });
            const taipan = await import('taipan-webgpu');
            await import('taipan-webgpu/openai');
            await import('taipan-webgpu/bench');
            if (touched.length > 0) throw new Error('importing touched ' + touched);
            const support = await taipan.checkSupport();
            console.log(JSON.stringify({ names: Object.keys(taipan).sort(), support }));
        `;
        const node = spawnSync(process.execPath, ['--input-type=module', '--eval', code], { cwd: installed, encoding: 'utf8' });
        assert.equal(node.status, 0, node.stderr);
        const { names, support } = JSON.parse(node.stdout);
        assert.deepEqual(names, ['Model', 'Session', 'TaipanError', 'cache', 'checkSupport', 'estimate', 'loadModel']);
        assert.deepEqual([support.ok, support.code], [false, 'webgpu-unavailable']);
    });

    test('the example of the README is what the types say', () => {
        const readme = readFileSync(join(web, 'README.md'), 'utf8');
        const blocks = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code);
        assert.ok(blocks.length > 0, 'the README has an example');
        for (const [i, code] of blocks.entries()) writeFileSync(join(installed, `example${i}.ts`), `${code}\nexport {};\n`);
        const options = { target: 'es2022', module: 'es2022', moduleResolution: 'bundler', strict: true, noEmit: true, lib: ['es2022', 'dom', 'dom.asynciterable'] };
        writeFileSync(join(installed, 'tsconfig.json'), JSON.stringify({ compilerOptions: options, include: ['example*.ts'] }));
        const tsc = tool('typescript/bin/tsc', ['-p', installed], installed);
        assert.equal(tsc.status, 0, tsc.stdout);
        writeFileSync(join(installed, 'example0.ts'), `import { loadModel } from 'taipan-webgpu';\nloadModel(1);\n`);
        assert.notEqual(tool('typescript/bin/tsc', ['-p', installed], installed).status, 0, 'a mistake is a mistake');
    });
});

test('every code of the runtime has a code here', () => {
    const between = (path, from, to) => {
        const text = readFileSync(new URL(path, import.meta.url), 'utf8');
        const at = text.indexOf(from);
        return text.slice(at, text.indexOf(to, at));
    };
    const own = [...between('../../crates/taipan/src/error.rs', 'pub fn code(', '\n    }\n').matchAll(/=> "([\w-]+)"/g)].map(([, code]) => code);
    const known = new Set([...between('../src/errors.ts', 'const CODES', '};').matchAll(/^ {4}'?([\w-]+)'?:/gm)].map(([, code]) => code));
    assert.ok(own.length > 20);
    assert.deepEqual(own.filter((code) => !known.has(code)), []);
    const readme = readFileSync(join(web, 'README.md'), 'utf8');
    const codes = [...between('../src/errors.ts', 'type ErrorCode', ';').matchAll(/'([\w-]+)'/g)].map(([, code]) => code);
    assert.deepEqual(codes.filter((code) => !readme.includes(`\`${code}\``)), [], 'in the README');
});

/** What a consumer writes; `urls` where the bundler leaves files elsewhere. */
const app = (urls) => `
    import { loadModel } from 'taipan-webgpu';
    globalThis.run = async (prompt) => {
        const model = await loadModel('/model/', { device: 'cpu', ...${urls} });
        let text = '';
        for await (const event of model.createSession().generate(prompt, { temperature: 0, maxTokens: 20 })) {
            if (event.type === 'text') text += event.text;
        }
        await model.dispose();
        return text;
    };
    document.title = 'ready';
`;
const html = (script) => `<!doctype html><link rel="icon" href="data:,"><title>loading</title>${script}`;

async function runs(site, page = '') {
    const server = await serve(site, 0, { mounts: { '/model/': model } });
    const browser = await launch({ webgpu: false });
    try {
        const opened = await open(browser, server.url + page);
        await opened.page.waitForFunction(() => document.title === 'ready', undefined, { timeout: TIMEOUT });
        const workers = [];
        opened.page.on('worker', (worker) => workers.push(worker.url()));
        const text = await opened.page.evaluate((prompt) => globalThis.run(prompt), PROMPT);
        assert.ok(text.length > 20);
        assert.equal(PROMPT + text, golden[PROMPT].slice(0, PROMPT.length + text.length));
        assert.equal(workers.length, 1, 'it ran in a worker');
        const missing = opened.troubles.filter((trouble) => !/404/.test(trouble)); // there is no manifest here
        assert.deepEqual(missing, []);
    } finally {
        await browser.close();
        server.closeAllConnections();
        server.close();
    }
}

describe('installed', { timeout: 2 * TIMEOUT }, () => {
    test('in a plain page, with an import map', async () => {
        const map = { imports: { 'taipan-webgpu': './node_modules/taipan-webgpu/dist/index.js' } };
        const script = `<script type="importmap">${JSON.stringify(map)}</script><script type="module">${app('{}')}</script>`;
        writeFileSync(join(installed, 'index.html'), html(script));
        await runs(installed);
    });

    test('in a Vite build, with nothing configured', async () => {
        const root = join(folder, 'vite');
        mkdirSync(root);
        cpSync(join(installed, 'node_modules'), join(root, 'node_modules'), { recursive: true });
        writeFileSync(join(root, 'app.js'), app('{}'));
        writeFileSync(join(root, 'index.html'), html('<script type="module" src="./app.js"></script>'));
        await vite({ root, configFile: false, logLevel: 'error' });
        assert.ok(readdirSync(join(root, 'dist/assets')).some((name) => name.endsWith('.wasm')));
        await runs(join(root, 'dist'));
    });

    test('in an esbuild build, with the worker and the module named', async () => {
        const root = join(folder, 'esbuild');
        mkdirSync(root);
        cpSync(join(installed, 'node_modules'), join(root, 'node_modules'), { recursive: true });
        writeFileSync(join(root, 'app.js'), app("{ worker: './worker.js', wasm: './taipan.wasm' }"));
        const worker = join(root, 'node_modules/taipan-webgpu/dist/worker.js');
        const entryPoints = { app: join(root, 'app.js'), worker };
        await esbuild({ entryPoints, bundle: true, format: 'esm', outdir: join(root, 'out'), logLevel: 'error' });
        cpSync(join(root, 'node_modules/taipan-webgpu/dist/wasm/taipan_bg.wasm'), join(root, 'out/taipan.wasm'));
        writeFileSync(join(root, 'out/index.html'), html('<script type="module" src="./app.js"></script>'));
        assert.ok(existsSync(join(root, 'out/worker.js')) && statSync(join(root, 'out/worker.js')).size > 1000);
        await runs(join(root, 'out'));
    });
});
