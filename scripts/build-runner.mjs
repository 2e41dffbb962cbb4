// Compiles the runner of the container driver into dist/, as a static program for this processor. Without a C compiler
// or a static C library it prints a warning, and the build goes on. Then the OCI runtime starts all commands.
import { execFile } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { promisify } from 'node:util';

const sources = ['runner.c', 'command.c', 'launch.c', 'ranges.c', 'terminal.c'].map(
  (name) => `src/worker/drivers/container/runner/${name}`,
);
const program = `dist/runner-linux-${process.arch}`;

export async function buildRunner() {
  await mkdir('dist', { recursive: true });
  try {
    await promisify(execFile)('cc', ['-static', '-Os', '-s', '-Wall', '-Wextra', '-Werror', '-o', program, ...sources]);
  } catch (error) {
    const reason =
      error.code === 'ENOENT'
        ? 'there is no C compiler (apt install gcc libc6-dev)'
        : error.stderr?.trim() || error.message;
    console.warn(`build: without the runner of the container driver, whose commands will start more slowly: ${reason}`);
  }
}
