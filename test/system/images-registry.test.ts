// Tests how the container driver pulls images from a real registry, and what it does when the registry fails. It also
// tests hostile layers: they write nothing outside the image.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { importImage } from '../../src/shared/images/import.ts';
import { limits } from '../../src/shared/limits.ts';
import { sharedRange } from '../../src/shared/host/id-ranges.ts';
import { createImagePreparer, type ImagePreparer } from '../../src/worker/drivers/container/images/root-images.ts';
import { createContainerDriver } from '../../src/worker/drivers/container/container-driver.ts';
import { describeOnHost, useBoxes } from '../support/boxes/container-boxes.ts';
import { temporaryDir } from '../support/boxes/driver-harness.ts';
import { makeLayout, makeSampleTars, tool, type SampleImage } from '../support/boxes/image-files.ts';
import { registryInstalled, startRegistry, type TestRegistry } from '../support/boxes/registry.ts';

const boxes = useBoxes();
// `scripts/setup.sh --test` installs the registry. Without it these tests are skipped, but in CI they fail.
const describeWithRegistry = registryInstalled || process.env['CI'] !== undefined ? describeOnHost : describe.skip;
const never = new AbortController().signal;

let dir = '';
let sample: SampleImage;
let registry: TestRegistry;
let count = 0;

beforeAll(async () => {
  dir = await temporaryDir('registry');
  sample = await makeSampleTars(dir);
  if (registryInstalled) registry = await startRegistry(dir);
});
afterAll(async () => {
  await registry?.stop();
  rmSync(dir, { recursive: true, force: true });
});

function preparer(imagesDir: string, insecureRegistries: readonly string[] = [registry.host]): ImagePreparer {
  return createImagePreparer({ imagesDir, insecureRegistries, shift: sharedRange });
}

function freshDir(): string {
  return join(dir, `images-${(count += 1)}`);
}

async function push(name: string, config: Record<string, unknown> = {}): Promise<string> {
  registry.push(await makeLayout(join(dir, `layout-${(count += 1)}`), sample.rootfsTar, { config }), name);
  return `${registry.host}/${name}`;
}

describeWithRegistry('an image from a registry', () => {
  test('becomes a box with the environment and the user of its configuration', async () => {
    const reference = await push('team/configured:1', {
      Env: ['PATH=/bin', 'FROM_IMAGE=yes', 'EMPTY='],
      User: 'user',
      WorkingDir: '/tmp',
      Entrypoint: ['/bin/false'],
      Cmd: ['x'],
    });
    const create = (context: Parameters<typeof createContainerDriver>[0]) =>
      createContainerDriver(context, { insecureRegistries: [registry.host], agent: 'off' });
    const box = await boxes.started({ image: reference, spec: { workdir: '/', env: { FROM_BOX: '1' } } }, create);
    const { stdout } = await box.run([
      'sh',
      '-c',
      'cat /etc/marker; id -u; echo $PATH $FROM_IMAGE $FROM_BOX $HOME "[$EMPTY]"',
    ]);
    expect(stdout).toBe('sample\n1000\n/bin yes 1 /home/user []\n');
    expect((await box.run(['id', '-u'], { user: 'root' })).stdout).toBe('0\n');
  });

  test('is pulled once, and a second box does not ask the registry', async () => {
    const reference = await push('once:1');
    const imagesDir = freshDir();
    const progress: string[] = [];
    const first = await preparer(imagesDir).prepare(
      { kind: 'registry', reference },
      (stage, message) => progress.push(`${stage} ${message}`),
      never,
    );
    expect(progress[0]).toBe(`pull pulling ${reference}`);
    expect(progress.some((line) => line.includes('layer '))).toBe(true);
    expect(progress.some((line) => line.startsWith('unpack '))).toBe(true);
    const before = registry.requests('/once/').length;
    const again = await preparer(imagesDir).prepare({ kind: 'registry', reference }, () => undefined, never);
    expect(again).toEqual(first);
    expect(registry.requests('/once/')).toHaveLength(before);
    expect(readdirSync(join(imagesDir, 'pulls'))).toEqual([]);
  });

  test('is stored once when four boxes ask for it at once', async () => {
    const reference = await push('crowd:1');
    const imagesDir = freshDir();
    const images = await Promise.all(
      Array.from({ length: 4 }, () =>
        preparer(imagesDir).prepare({ kind: 'registry', reference }, () => undefined, never),
      ),
    );
    expect(new Set(images.map((image) => image.rootfsDir)).size).toBe(1);
    expect(readdirSync(join(imagesDir, 'rootfs'))).toHaveLength(1);
    expect(readdirSync(join(imagesDir, 'refs'))).toHaveLength(1);
    expect(readdirSync(join(imagesDir, 'pulls'))).toEqual([]);
  });

  test('fails with IMAGE_PULL_FAILED and its name when it does not exist', async () => {
    const reference = `${registry.host}/no/such:1`;
    await expect(
      preparer(freshDir()).prepare({ kind: 'registry', reference }, () => undefined, never),
    ).rejects.toMatchObject({
      code: 'IMAGE_PULL_FAILED',
      message: expect.stringContaining(reference) as unknown,
    });
  });

  test('is pulled over plain HTTP only when the registry is configured as insecure', async () => {
    const reference = await push('plain:1');
    await expect(
      preparer(freshDir(), []).prepare({ kind: 'registry', reference }, () => undefined, never),
    ).rejects.toMatchObject({ code: 'IMAGE_PULL_FAILED' });
  });

  test('leaves no files when its pull is canceled', async () => {
    const reference = await push('canceled:1');
    const imagesDir = freshDir();
    const controller = new AbortController();
    const pulling = preparer(imagesDir).prepare(
      { kind: 'registry', reference },
      (_stage, message) => {
        if (message.includes('layer')) controller.abort();
      },
      controller.signal,
    );
    await expect(pulling).rejects.toMatchObject({ code: 'CANCELED' });
    expect(readdirSync(join(imagesDir, 'pulls'))).toEqual([]);
    expect(existsSync(join(imagesDir, 'refs'))).toBe(false);
  });
});

describeOnHost('a pull', () => {
  test('fails soon when the registry accepts connections but never answers', async () => {
    const sockets = new Set<Socket>();
    const silent = createServer((socket) => sockets.add(socket)).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const host = `127.0.0.1:${(silent.address() as AddressInfo).port}`;
    const patience = vi
      .spyOn(limits, 'registryTimeoutMs', 'get')
      .mockReturnValue(1500 as typeof limits.registryTimeoutMs);
    const startedAt = performance.now();
    try {
      await expect(
        preparer(freshDir(), [host]).prepare({ kind: 'registry', reference: `${host}/x:1` }, () => undefined, never),
      ).rejects.toMatchObject({
        code: 'IMAGE_PULL_FAILED',
        message: expect.stringContaining('did not answer') as unknown,
      });
      expect(performance.now() - startedAt).toBeLessThan(5000);
    } finally {
      patience.mockRestore();
      for (const socket of sockets) socket.destroy();
      silent.close();
    }
  });

  test('fails with a clear message when the registry refuses connections', async () => {
    await expect(
      preparer(freshDir(), ['127.0.0.1:1']).prepare(
        { kind: 'registry', reference: '127.0.0.1:1/x' },
        () => undefined,
        never,
      ),
    ).rejects.toMatchObject({
      code: 'IMAGE_PULL_FAILED',
      message: expect.stringContaining('refused') as unknown,
    });
  });
});

describeOnHost('a hostile layer', () => {
  const escapes: Readonly<Record<string, (tree: string, outside: string) => string[]>> = {
    'an entry with ..': (_tree, _outside) => ['--transform', 's#^file#../../../../../../escaped#', 'file'],
    'an absolute entry': (_tree, outside) => ['--transform', `s#^file#${outside}/escaped#`, 'file'],
    'a file behind an absolute link': (tree, outside) => {
      execFileSync('ln', ['-sfn', outside, join(tree, 'door')]);
      return ['door', '--transform', 's#^file#door/escaped#', 'file'];
    },
    'a file behind a link with ..': (tree, outside) => {
      execFileSync('ln', ['-sfn', `../../../../../../../../../..${outside}`, join(tree, 'door2')]);
      return ['door2', '--transform', 's#^file#door2/escaped#', 'file'];
    },
  };

  test.each(Object.entries(escapes))('with %s writes nothing outside the image', async (name, make) => {
    const tree = join(dir, `hostile-${(count += 1)}`);
    const outside = join(dir, `outside-${count}`);
    execFileSync('mkdir', ['-p', tree, outside]);
    writeFileSync(join(tree, 'file'), 'escaped\n');
    const layer = join(dir, `hostile-${count}.tar`);
    tool('tar', ['-P', '-C', tree, '-cf', layer, ...make(tree, outside)]);
    const imagesDir = freshDir();
    const layoutDir = await makeLayout(join(dir, `hostile-layout-${count}`), layer);
    const imported = await importImage(imagesDir, 'hostile', layoutDir);
    const source = {
      kind: 'layout' as const,
      name,
      layoutDir: join(imagesDir, 'layouts', encodeURIComponent(imported.name)),
      digest: imported.digest,
    };
    await preparer(imagesDir, [])
      .prepare(source, () => undefined, never)
      .catch(() => undefined);
    // find ends with 1 if another test removes a directory at the same time. It still looks at all other directories,
    // so the exit code does not matter.
    const { stdout } = spawnSync(
      'find',
      [dir, '/tmp', '-maxdepth', '3', '-name', 'escaped', '-not', '-path', `${imagesDir}/*`],
      { encoding: 'utf8' },
    );
    expect(stdout).toBe('');
    expect(existsSync('/escaped')).toBe(false);
    expect(readdirSync(outside)).toEqual([]);
  });

  test.each(['/', '../../../../../../../../../..'])(
    'with a hard link to a file of the host, through %s, does not link or copy that file',
    async (way) => {
      const tree = join(dir, `linked-${(count += 1)}`);
      const secret = join(dir, `secret-${count}`);
      execFileSync('mkdir', ['-p', tree]);
      writeFileSync(secret, 'secret\n');
      writeFileSync(join(tree, 'original'), 'x\n');
      execFileSync('ln', [join(tree, 'original'), join(tree, 'twin')]);
      const layer = join(dir, `linked-${count}.tar`);
      tool('tar', [
        '-P',
        '-C',
        tree,
        '--transform',
        `flags=h;s#^original#${way === '/' ? '' : way}${secret}#`,
        '-cf',
        layer,
        'original',
        'twin',
      ]);
      expect(tool('tar', ['-P', '-tvf', layer])).toContain(`link to ${way === '/' ? '' : way}${secret}`);
      const imagesDir = freshDir();
      const layoutDir = await makeLayout(join(dir, `linked-layout-${count}`), layer);
      const source = { kind: 'layout' as const, name: 'x', layoutDir, digest: 'sha256:none' };
      const image = await preparer(imagesDir, [])
        .prepare(source, () => undefined, never)
        .catch(() => null);
      expect(statSync(secret).nlink).toBe(1);
      if (image !== null && existsSync(join(image.rootfsDir, 'twin')))
        expect(readFileSync(join(image.rootfsDir, 'twin'), 'utf8')).not.toBe('secret\n');
    },
  );

  test('with devices and a setuid program gives the box no access to them', async () => {
    const tree = join(dir, 'tricky');
    execFileSync('mkdir', ['-p', join(tree, 'bin')]);
    execFileSync('cp', ['-a', `${join(dir, 'tree')}/.`, tree]);
    execFileSync('mknod', [join(tree, 'mem'), 'c', '1', '1']);
    execFileSync('mknod', [join(tree, 'zero'), 'c', '1', '5']);
    execFileSync('chmod', ['4755', join(tree, 'bin', 'busybox')]);
    const layer = join(dir, 'tricky.tar');
    tool('tar', ['--numeric-owner', '-C', tree, '-cf', layer, '.']);
    await importImage(boxes.imagesDir(), 'tricky', layer);
    const box = await boxes.started({ image: 'tricky', spec: { workdir: '/' } });
    expect((await box.run(['cat', '/mem'])).stderr).toMatch(/Permission denied|not permitted/);
    expect((await box.run(['cat', '/zero'])).stderr).toMatch(/Permission denied|not permitted/);
    expect((await box.run(['sh', '-c', 'id -u; cat /root/x'], { user: '1000' })).stdout).toBe('1000\n');
  });
});
