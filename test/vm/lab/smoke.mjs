// BoxLite alone, without BoxRun. The script loads the binding, opens a home, boots a box from a busybox image, runs a
// command, stops and removes the box, and prints the time of each step. Run it in the lab:
//   node test/vm/lab/run.mjs --shell-script test/vm/lab/smoke.mjs
// The probe also runs it, to find out whether KVM boots a VM.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { findStaticBusybox, makeBusyboxLayout } from './busybox-image.mjs';

const busybox = findStaticBusybox();
if (!busybox) throw new Error('no statically linked busybox on this machine (Debian: busybox-static)');

const home = mkdtempSync(path.join(tmpdir(), 'boxrun-smoke-'));
let lastMs = performance.now();
/** @param {string} step */
const done = (step) => {
  const nowMs = performance.now();
  console.log(`${step}: ${Math.round(nowMs - lastMs)} ms`);
  lastMs = nowMs;
};

try {
  const { getJsBoxlite } = await import('@boxlite-ai/boxlite');
  done('import');
  const layout = path.join(home, 'layout');
  makeBusyboxLayout(layout, busybox);
  const JsBoxlite = getJsBoxlite();
  const runtime = new JsBoxlite({ homeDir: path.join(home, 'home') });
  done('open a home');
  const box = await runtime.create(
    { rootfsPath: layout, cpus: 1, memoryMib: 256, detach: false, autoRemove: false },
    'smoke',
  );
  await box.start();
  done('start the box');
  const exec = await box.exec('echo', ['hello from the box'], null, false, null, 20);
  const stdout = await exec.stdout();
  let text = '';
  for (let piece = await stdout.next(); piece !== null; piece = await stdout.next()) text += piece;
  const { exitCode } = await exec.wait();
  done(`exec (exit ${exitCode}, ${JSON.stringify(text)})`);
  await box.stop();
  done('stop');
  await runtime.remove('smoke', true);
  done('remove');
  if (exitCode !== 0 || text.trim() !== 'hello from the box') throw new Error('the box did not answer as it should');
  console.log('ok');
} finally {
  rmSync(home, { recursive: true, force: true });
}
process.exit(0);
