// Runs a real registry on a free port: docker-registry of Debian. Its storage is in a directory of the test, which the
// test removes.
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { tool } from './image-files.ts';

export interface TestRegistry {
  /** The address as host:port. It speaks plain HTTP. */
  readonly host: string;
  /** Pushes the image of a layout directory. */
  push(layoutDir: string, name: string): void;
  /** Returns the lines of the access log that contain `text`. */
  requests(text: string): string[];
  stop(): Promise<void>;
}

export const registryInstalled = spawnSync('docker-registry', ['--version']).status === 0;

export async function startRegistry(dir: string): Promise<TestRegistry> {
  mkdirSync(join(dir, 'registry'), { recursive: true });
  const port = await freePort();
  const host = `127.0.0.1:${port}`;
  const config = join(dir, 'registry.yml');
  writeFileSync(
    config,
    `version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: ${join(dir, 'registry')}\nhttp:\n  addr: ${host}\n`,
  );
  const log = join(dir, 'registry.log');
  const child = spawn('sh', ['-c', 'exec docker-registry serve "$1" > "$2" 2>&1', 'sh', config, log], {
    stdio: 'ignore',
  });
  await untilAnswers(host);
  return {
    host,
    push(layoutDir, name) {
      tool('skopeo', [
        'copy',
        '--quiet',
        '--dest-tls-verify=false',
        `oci:${layoutDir}:latest`,
        `docker://${host}/${name}`,
      ]);
    },
    requests: (text) =>
      readFileSync(log, 'utf8')
        .split('\n')
        .filter((line) => line.includes('HTTP/1.1') && line.includes(text)),
    async stop() {
      child.kill('SIGKILL');
      await once(child, 'exit');
    },
  };
}

async function untilAnswers(host: string): Promise<void> {
  for (let attempt = 0; attempt < 500; attempt += 1) {
    const answer = await fetch(`http://${host}/v2/`).catch(() => null);
    if (answer?.ok) return;
    await delay(20);
  }
  throw new Error(`the registry on ${host} does not answer`);
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
