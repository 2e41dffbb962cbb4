// Tests arguments and variables near the limits of the kernel, execve(2), in real boxes of the container driver. Every
// way to start a command gives the same answer. The limits count bytes, not characters.
import { beforeAll, expect, test } from 'vitest';
import type { ExecRequest } from '../../src/worker/drivers/driver-contract.ts';
import { describeOnHost, execPaths, useBoxes } from '../support/boxes/container-boxes.ts';
import type { DriverHarness } from '../support/boxes/driver-harness.ts';

const allBoxes = useBoxes('file');
const terminal = { cols: 80, rows: 24, term: 'xterm' };
const streams: ReadonlyArray<readonly [string, Partial<ExecRequest>]> = [
  ['a pipe', {}],
  ['a terminal', { tty: terminal }],
];
const ways = execPaths.flatMap(([path, create]) =>
  streams.map(([stream, request]) => [path, stream, create, request] as const),
);
/** The limit of the kernel for one argument, in bytes, without the zero byte at its end. */
const most = 131_071;
const tooLong = /^sh: [\w/]+: Argument list too long\r?\n$/;

describeOnHost.each(ways)('a command started by %s with %s', (_path, _stream, create, request) => {
  let box: DriverHarness;
  beforeAll(async () => {
    box = await allBoxes.by(create).started();
  });
  const run = async (cmd: readonly string[], more: Partial<ExecRequest> = {}) => {
    const { stdout, stderr, exit } = await box.run(cmd, { ...request, workdir: '/', ...more });
    return { said: stdout + stderr, code: 'exitCode' in exit ? exit.exitCode : exit };
  };
  const count = ['sh', '-c', 'printf %s "$0" | wc -c'];

  test('takes an argument of 131,071 bytes, and ends with 126 for a longer one', async () => {
    for (const letter of ['a', 'ä', '€', '😀']) {
      const bytes = Buffer.byteLength(letter);
      const longest = letter.repeat(Math.floor(most / bytes));
      expect(await run([...count, longest]), letter).toMatchObject({
        said: expect.stringMatching(`^${Buffer.byteLength(longest)}\r?\n$`) as unknown,
        code: 0,
      });
      const refused = await run([...count, `${longest}${letter}`]);
      expect([letter, refused.code]).toEqual([letter, 126]);
      expect(refused.said).toMatch(tooLong);
    }
  });

  test('takes a variable of 131,071 bytes, and ends with 126 for a longer one', async () => {
    const ask = ['sh', '-c', 'printf %s "$LONG" | wc -c'];
    const length = most - 'LONG='.length;
    expect(await run(ask, { env: { LONG: 'a'.repeat(length) } })).toMatchObject({
      said: expect.stringMatching(`^${length}\r?\n$`) as unknown,
      code: 0,
    });
    for (const env of [
      { LONG: 'a'.repeat(length + 1) },
      { LONG: 'ä'.repeat(most / 2) },
      { 'odd-name': 'a'.repeat(most) },
      { PATH: 'a'.repeat(most) },
    ]) {
      const refused = await run(ask, { env });
      expect([Object.keys(env)[0], refused.code]).toEqual([Object.keys(env)[0], 126]);
      expect(refused.said).toMatch(tooLong);
    }
  });

  test('takes arguments of a quarter of the stack limit in all, and ends with 126 for more', async () => {
    const arguments_ = (bytes: number) => Array.from({ length: Math.floor(bytes / 1009) }, () => 'a'.repeat(1000));
    const ask = ['sh', '-c', 'echo "$#"', 'sh'];
    expect(await run([...ask, ...arguments_(2_000_000)])).toMatchObject({
      said: expect.stringMatching('^1982\r?\n$') as unknown,
      code: 0,
    });
    const refused = await run([...ask, ...arguments_(2_100_000)]);
    expect(refused.code).toBe(126);
    expect(refused.said).toMatch(tooLong);
  });
});

describeOnHost('the limit of the stack', () => {
  test('changes how long all arguments together may be', async () => {
    const stack = (bytes: number) => ({ spec: { ulimits: [{ name: 'stack' as const, soft: bytes, hard: bytes }] } });
    const cmd = ['sh', '-c', 'echo "$#"', 'sh', ...Array.from({ length: 500 }, () => 'a'.repeat(1000))];
    expect((await (await allBoxes.started(stack(1024 * 1024))).run(cmd)).exit).toEqual({ exitCode: 126 });
    expect((await (await allBoxes.started(stack(4 * 1024 * 1024))).run(cmd)).exit).toEqual({ exitCode: 0 });
  });
});
