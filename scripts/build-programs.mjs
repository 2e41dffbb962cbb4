// Compiles our two C programs into dist/, as static programs for this processor: the agent that lives in boxes, and the
// host program of the container driver. Without a C compiler or a static C library it prints a warning, and the build
// goes on. Then the OCI runtime starts all commands.
import { execFile } from 'node:child_process';
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const programs = [
  { from: 'src/agent', to: `dist/agent-linux-${process.arch}` },
  { from: 'src/worker/drivers/container/host-program', to: `dist/runner-linux-${process.arch}` },
];
const options = ['-static', '-Os', '-s', '-Wall', '-Wextra', '-Werror'];

export async function buildPrograms() {
  await mkdir('dist', { recursive: true });
  try {
    for (const { from, to } of programs) {
      const sources = (await readdir(from, { recursive: true }))
        .filter((name) => name.endsWith('.c'))
        .map((name) => join(from, name));
      await promisify(execFile)('cc', [...options, '-o', to, ...sources]);
    }
  } catch (error) {
    const reason =
      error.code === 'ENOENT'
        ? 'there is no C compiler (apt install gcc libc6-dev)'
        : error.stderr?.trim() || error.message;
    console.warn(`build: without the agent of boxes, whose commands will start more slowly: ${reason}`);
  }
}
