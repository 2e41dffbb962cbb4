// The smallest image from which BoxLite can boot a box: an OCI layout of one layer with a static busybox. It is for the
// lab only; the product has an image builder of its own.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

const applets = [
  'sh',
  'echo',
  'cat',
  'ls',
  'sleep',
  'true',
  'false',
  'id',
  'env',
  'uname',
  'ps',
  'kill',
  'mkdir',
  'rm',
  'dd',
  'seq',
  'head',
  'tail',
  'wc',
];

/** @returns {string | undefined} the path of a statically linked busybox on this machine. */
export function findStaticBusybox() {
  const candidates = ['/bin/busybox', '/usr/bin/busybox', '/sbin/busybox'];
  return candidates.find((file) => {
    try {
      // A dynamic program has the name of its loader in its header. It cannot run, because the image has no loader.
      return !readFileSync(file).subarray(0, 4096).includes('/ld-');
    } catch {
      return false;
    }
  });
}

/**
 * @param {string} layout folder to make
 * @param {string} busybox a static busybox
 */
export function makeBusyboxLayout(layout, busybox) {
  const blobs = path.join(layout, 'blobs', 'sha256');
  mkdirSync(blobs, { recursive: true });
  /** @param {string} mediaType @param {Buffer | string} content */
  const store = (mediaType, content) => {
    const digest = createHash('sha256').update(content).digest('hex');
    writeFileSync(path.join(blobs, digest), content);
    return { mediaType, digest: `sha256:${digest}`, size: Buffer.byteLength(content) };
  };
  const layer = store('application/vnd.oci.image.layer.v1.tar', makeLayer(busybox));
  const config = store(
    'application/vnd.oci.image.config.v1+json',
    JSON.stringify({
      architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
      os: 'linux',
      config: { Env: ['PATH=/bin'], Cmd: ['/bin/sh'], WorkingDir: '/' },
      rootfs: { type: 'layers', diff_ids: [layer.digest] },
    }),
  );
  const manifest = store(
    'application/vnd.oci.image.manifest.v1+json',
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config,
      layers: [layer],
    }),
  );
  const annotations = { 'org.opencontainers.image.ref.name': 'latest' };
  writeFileSync(path.join(layout, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
  writeFileSync(
    path.join(layout, 'index.json'),
    JSON.stringify({ schemaVersion: 2, manifests: [{ ...manifest, annotations }] }),
  );
}

/** @param {string} busybox @returns {Buffer} a tar of the box's root */
function makeLayer(busybox) {
  const root = mkdtempSync(path.join(tmpdir(), 'boxrun-layer-'));
  try {
    for (const folder of ['bin', 'dev', 'etc', 'proc', 'root', 'sys', 'tmp', 'run', 'var'])
      mkdirSync(path.join(root, folder));
    copyFileSync(busybox, path.join(root, 'bin', 'busybox'));
    for (const applet of applets) symlinkSync('busybox', path.join(root, 'bin', applet));
    writeFileSync(path.join(root, 'etc', 'passwd'), 'root:x:0:0:root:/root:/bin/sh\n');
    writeFileSync(path.join(root, 'etc', 'group'), 'root:x:0:\n');
    const tar = spawnSync('tar', ['-C', root, '--owner=0', '--group=0', '--numeric-owner', '-cf', '-', '.'], {
      maxBuffer: 64 * 1024 * 1024,
    });
    if (tar.status !== 0) throw new Error(`tar: ${tar.stderr}`);
    return tar.stdout;
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}
