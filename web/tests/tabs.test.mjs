// The tabs of the built page that say whether it is right and how fast it is.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import Ajv from 'ajv/dist/2020.js';

import { TIMEOUT } from './browser.mjs';
import { load, onDisk, openTab, picture, settled, site } from './site.mjs';

const here = site();

describe('the other tabs', { timeout: 3 * TIMEOUT }, () => {
    test('a tab opens when its script is there, so that nothing pressed is lost, and again when it was not', async () => {
        const { page, close } = await here.visit({ serviceWorkers: 'block' });
        const asked = [];
        let arrive;
        const script = new Promise((resolve) => (arrive = resolve));
        await page.route(/assets\/validate-[^/]*\.js$/, async (route) => {
            asked.push(route);
            if (asked.length === 1) return route.abort();
            await script;
            return route.continue();
        });
        await page.locator('#tab-validate').click();
        await settled(page, '#error', /Validate could not be fetched/);
        await page.locator('#tab-validate').click();
        await page.locator('#opening').waitFor();
        assert.ok(await page.locator('#error').isHidden());
        assert.ok(await page.locator('#validate').isHidden());
        await page.locator('#tab-generate').click();
        await page.locator('#tab-validate').click();
        await page.locator('#tab-generate').click();
        arrive();
        await page.waitForTimeout(500);
        assert.ok(await page.locator('#generate').isVisible(), 'the tab chosen last');
        assert.ok(await page.locator('#validate, #opening').evaluateAll((all) => all.every(({ hidden }) => hidden)));
        assert.equal(asked.length, 2);
        await openTab(page, 'validate');
        await page.locator('#validate-run').click();
        await settled(page, '#validate-status', /^\d+ of \d{3,}: /);
        await page.locator('#validate-stop').click();
        await settled(page, '#validate-status', /^Not finished/);
        await close();
    });

    test('before its script is there, the page has nothing to press', async () => {
        const { page, close } = await here.visit({ serviceWorkers: 'block' });
        let arrive;
        const script = new Promise((resolve) => (arrive = resolve));
        await page.route(/assets\/index-[^/]*\.js$/, async (route) => {
            await script;
            return route.continue();
        });
        await page.reload({ waitUntil: 'commit' });
        await page.locator('#settings').waitFor({ state: 'attached' });
        const buttons = page.locator('button:visible');
        const enabled = () => buttons.evaluateAll((all) => all.filter(({ disabled }) => !disabled).map(({ id }) => id));
        assert.ok((await buttons.count()) >= 8);
        assert.deepEqual(await enabled(), []);
        arrive();
        await page.locator('#replay').click();
        await settled(page, '#status', /^Replaying a recorded run/);
        assert.ok((await enabled()).includes('tab-validate'));
        await close();
    });

    test('validation is green on this device, texts included, and can be shared', async () => {
        const { page, troubles, close } = await here.visit({ permissions: ['clipboard-read', 'clipboard-write'] });
        await load(page, 'cpu');
        await openTab(page, 'validate');
        await page.locator('#validate-run').click();
        const said = await settled(page, '#validate-status', /agree on|DO NOT AGREE|Not finished/i, 2 * TIMEOUT);
        assert.match(said, /^All \d{3,} cases agree on .*webgpu/);
        assert.equal(await page.locator('#validate-table tr.bad').count(), 0);
        assert.match(await page.locator('#validate-table').textContent(), /model5.*golden16.*golden, CPU16.*golden text3/s);
        await picture(page, 'validate');
        await page.locator('#validate-link').click();
        const link = await page.evaluate(() => navigator.clipboard.readText());
        const other = await page.context().newPage();
        await other.goto(link);
        await settled(other, '#validate-status', /A shared result, all in agreement/);
        assert.ok((await other.locator('#validate-table tbody tr').count()) > 15);
        assert.deepEqual(troubles, []);
        await close();
    });

    test('a golden case that is damaged or missing turns the result red, and what is shared of it', async () => {
        const hide = () => Object.defineProperty(Navigator.prototype, 'gpu', { get: () => undefined });
        const options = { permissions: ['clipboard-read', 'clipboard-write'], serviceWorkers: 'block' };
        const { page, close } = await here.visit(options, [hide]);
        await page.route('**/golden/bounded/golden.safetensors', async (route) => {
            const response = await route.fetch();
            const body = await response.body();
            body[body.length - 101] ^= 0x01; // whether some token attends
            await route.fulfill({ response, body });
        });
        await page.route('**/golden/rotary/golden.json', (route) => route.fulfill({ status: 404 }));
        await openTab(page, 'validate');
        await page.locator('#validate-run').click();
        const said = await settled(page, '#validate-status', /agree on|DO NOT AGREE|Not finished/i, 2 * TIMEOUT);
        assert.match(said, /^2 of \d{3,} cases DO NOT AGREE on CPU/);
        assert.match(await page.locator('#validate-table tr.bad').textContent(), /^golden16.*2 wrong$/);
        const failures = await page.locator('#validate-failures').textContent();
        assert.match(failures, /golden \(bounded, 100 tokens\).*: other tokens attend.*golden \(rotary\): cannot be read: golden\.json: status 404/);
        await picture(page, 'validate-red');
        await page.locator('#validate-copy').click();
        assert.match(await page.evaluate(() => navigator.clipboard.readText()), /DO NOT AGREE.*\| golden \| 16 .*2 wrong/s);
        await page.locator('#validate-link').click();
        const link = await page.evaluate(() => navigator.clipboard.readText());
        const other = await page.context().newPage();
        await other.goto(link);
        await settled(other, '#validate-status', /A shared result, NOT in agreement/);
        assert.equal(await other.locator('#validate-table tr.bad').count(), 1);
        await close();
    });

    test('the benchmark runs, its JSON is the native one’s, and files can be compared, whatever is in them', async () => {
        const { page, troubles, close } = await here.visit({ acceptDownloads: true, permissions: ['clipboard-read', 'clipboard-write'] });
        await load(page, 'cpu');
        await openTab(page, 'benchmark');
        await page.locator('#bench-device').selectOption('cpu');
        await page.locator('#bench-preset').selectOption('loaded');
        await page.locator('#bench-run').click();
        assert.match(await settled(page, '#bench-status', /rows\.|Not finished/), /^3 rows\./);
        assert.match(await page.locator('#bench-probes').textContent(), /Copy\d+\.\d GB\/s.*Multiply-add\d/);
        assert.match(await page.locator('#bench-table').textContent(), /pp128.*tg32.*tg32 @ d1024/s);
        await page.waitForFunction(() => document.querySelector('#bench-chart canvas'));
        const [download] = await Promise.all([page.waitForEvent('download'), page.locator('#bench-save').click()]);
        const json = readFileSync(await download.path(), 'utf8');
        const schema = JSON.parse(readFileSync(new URL('../../crates/bench/schema.json', import.meta.url)));
        const valid = new Ajv({ strict: false, validateFormats: false }).compile(schema);
        assert.ok(valid(JSON.parse(json)), JSON.stringify(valid.errors?.slice(0, 3)));
        await page.locator('#bench-copy').click();
        assert.match(await page.evaluate(() => navigator.clipboard.readText()), /\| device \| model .*\| pp128 \|.*\| tg32 @ d1024 \|.*Copy: /s);
        const hostile = JSON.parse(json);
        const attack = '<img src=x onerror="document.title=1">';
        for (const row of hostile) [row.gpu_info, row.avg_ts] = [attack, 1];
        await page.locator('#bench-files').setInputFiles(onDisk({ 'chosen.json': json }));
        await settled(page, '#compare-status', /^1 file compared/);
        const dropped = [['here.json', json], ['<b>there</b>.json', JSON.stringify(hostile)], ['none.json', '{]']];
        const dataTransfer = await page.evaluateHandle((dropped) => {
            const transfer = new DataTransfer();
            for (const [name, text] of dropped) transfer.items.add(new File([text], name, { type: 'application/json' }));
            return transfer;
        }, dropped);
        await page.locator('#drop').dispatchEvent('drop', { dataTransfer });
        await settled(page, '#compare-status', /none\.json: not a file of results[^]*2 files compared/);
        const table = page.locator('#compare-table');
        assert.ok((await table.textContent()).includes(attack), 'shown as text');
        assert.equal(await table.locator('img, b').count(), 0);
        assert.equal(await page.locator('#compare-table tbody tr').count(), 3);
        await picture(page, 'benchmark');
        assert.deepEqual(troubles, []);
        await close();
    });
});
