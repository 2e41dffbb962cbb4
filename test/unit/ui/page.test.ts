// The parts of the dashboard that need no browser: routes, forms, commands, and lists of boxes and commands.
import { expect, it } from 'vitest';
import type { Box, Exec, UsageSample } from '../../../src/shared/api.ts';
import { merge } from '../../../src/ui/live/box-execs.ts';
import { chooseBoxes } from '../../../src/ui/live/box-list.ts';
import { createInputOf, emptyFields } from '../../../src/ui/parts/create-input.ts';
import { formatAge, formatCommand, formatMemory, formatSpan, parseCommand } from '../../../src/ui/parts/format.ts';
import { withEvent } from '../../../src/ui/live/usage.ts';
import { hrefOf, parseRoute } from '../../../src/ui/router.ts';

const box = (id: string, changes: Partial<Box> = {}) =>
  ({
    id,
    name: id,
    status: 'running',
    image: 'base',
    cpu: 1,
    memory_mb: 64,
    created_at: `2026-01-01T00:00:0${id.length}Z`,
    labels: {},
    ...changes,
  }) as Box;

it('has a route for every view, and a view for every address', () => {
  const routes = [
    { view: 'boxes' },
    { view: 'box', box: 'a/b%', tab: 'files' },
    { view: 'exec', box: 'box_1', exec: 'exec_1' },
  ] as const;
  for (const route of routes) expect(parseRoute(hrefOf(route))).toEqual(route);
  expect(parseRoute('#/boxes/x/elsewhere')).toEqual({ view: 'box', box: 'x', tab: 'commands' });
  for (const odd of ['', '#', '#/%', '#/boxes/', '#main']) expect(parseRoute(odd)).toEqual({ view: 'boxes' });
});

it('turns the form into a request, and names a wrong line', () => {
  const input = createInputOf({
    ...emptyFields,
    name: ' web ',
    env: 'A=1\n\nB=x=y',
    volumes: '/data:/srv:ro',
    labels: 'team=blue',
    cpuLimit: '0.5',
    stopGraceS: '0',
  });
  expect(input).toEqual({
    image: 'base',
    name: 'web',
    cpu: 2,
    memory_mb: 1024,
    disk_size_gb: 8,
    cpu_limit: 0.5,
    stop_grace_s: 0,
    network: false,
    env: { A: '1', B: 'x=y' },
    labels: { team: 'blue' },
    volumes: [{ host_path: '/data', guest_path: '/srv', readonly: true }],
  });
  expect(() => createInputOf({ ...emptyFields, env: 'nothing' })).toThrow('"nothing" must be KEY=VALUE');
  expect(() => createInputOf({ ...emptyFields, volumes: '/data' })).toThrow('/data');
});

it('splits a command into words as a shell does, and writes it as a shell reads it', () => {
  expect(parseCommand(`echo 'a b' "c \\"d\\"" e\\ f ''`)).toEqual(['echo', 'a b', 'c "d"', 'e f', '']);
  expect(() => parseCommand(`echo 'a`)).toThrow('a quote has no end');
  const words = ['sh', '-c', `echo "it's"`, ''];
  expect(parseCommand(formatCommand(words))).toEqual(words);
});

it('formats numbers and times', () => {
  expect([512, 1024, 1536].map(formatMemory)).toEqual(['512 MB', '1 GB', '1.5 GB']);
  expect([5, 1_500, 90_000, 600_000, 7_200_000, 259_200_000].map(formatSpan)).toEqual([
    '5 ms',
    '1.5 s',
    '90 s',
    '10 min',
    '2 h',
    '3 d',
  ]);
  expect(formatAge('2026-01-01T00:00:00Z', Date.parse('2026-01-01T00:00:03Z'))).toBe('3 s');
});

it('filters boxes by words in names, images and labels, and keeps the order of equal boxes', () => {
  const boxes = new Map(
    [box('a'), box('bb', { labels: { team: 'blue' } }), box('ccc', { status: 'stopped', image: 'ubuntu' })].map(
      (each) => [each.id, each],
    ),
  );
  const all = { text: '', status: 'all', sort: 'created_at', descending: true } as const;
  const ids = (changes: object) => chooseBoxes(boxes, { ...all, ...changes }).map(({ id }) => id);
  expect(ids({})).toEqual(['ccc', 'bb', 'a']);
  expect(ids({ text: 'TEAM=blue' })).toEqual(['bb']);
  expect(ids({ text: 'ubu cc' })).toEqual(['ccc']);
  expect(ids({ status: 'running', sort: 'name', descending: false })).toEqual(['a', 'bb']);
  expect(ids({ sort: 'cpu', descending: false })).toEqual(['a', 'bb', 'ccc']);
});

it('keeps a command finished if a late answer says that it runs', () => {
  const exec = (id: string, status: string, at: string) => ({ id, status, created_at: at }) as Exec;
  const finished = exec('e1', 'succeeded', '2026-01-01T00:00:01Z');
  expect(
    merge(
      [exec('e1', 'running', '2026-01-01T00:00:01Z'), exec('e2', 'running', '2026-01-01T00:00:02Z')],
      [finished],
    ).map(({ id, status }) => [id, status]),
  ).toEqual([
    ['e2', 'running'],
    ['e1', 'succeeded'],
  ]);
});

it('keeps older samples of the last hour when the server restarts', () => {
  const at = (second: number) => ({ at: new Date(second * 1_000).toISOString() }) as UsageSample;
  const known = [at(10), at(3_000), at(3_005)];
  const seconds = (samples: readonly UsageSample[]) => samples.map((sample) => Date.parse(sample.at) / 1_000);
  const now = 3_700_000;
  expect(seconds(withEvent(known, { type: 'sample', sample: at(3_010), boxes: {} }, now))).toEqual([
    3_000, 3_005, 3_010,
  ]);
  expect(seconds(withEvent(known, { type: 'history', samples: [], boxes: {} }, now))).toEqual([3_000, 3_005]);
  expect(seconds(withEvent(known, { type: 'history', samples: [at(3_004), at(3_009)], boxes: {} }, now))).toEqual([
    3_000, 3_004, 3_009,
  ]);
});
