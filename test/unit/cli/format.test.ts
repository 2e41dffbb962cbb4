// Tests --format without a server, and the options that have a form of their own: labels and CPUs. The names of fields
// are those of the API, also in the form that users of docker write.
import { describe, expect, it } from 'vitest';
import { boxInput } from '../../../src/cli/parsing/box-options.ts';
import { formatOf, listFormOf } from '../../../src/cli/parsing/format.ts';
import { parseCpus, parseLabelChanges } from '../../../src/cli/parsing/options.ts';

const row = { id: 'box_1', name: null, cpu: 2, created_at: 'now', labels: { 'a.b/c': 'x', team: 'docs' } };

describe('--format', () => {
  it.each([
    ['{{.id}} {{ .cpu }}', 'box_1 2\n'],
    ['{{.ID}}\\t{{.CreatedAt}}\\n', 'box_1\tnow\n\n'],
    ['[{{.Names}}]', '[]\n'],
    ['{{.labels.team}} {{.labels.a.b/c}} {{.labels.none}}.', 'docs x .\n'],
    ['{{json .name}} {{json .labels.none}} {{.labels}}', 'null null {"a.b/c":"x","team":"docs"}\n'],
    ['{{json .}}', `${JSON.stringify(row)}\n`],
    ['json', `${JSON.stringify(row)}\n`],
    ['plain', 'plain\n'],
  ])('%s', (text, line) => {
    expect(formatOf(text)(row)).toBe(line);
  });

  it.each(['{{.id', '{{if .id}}x{{end}}', '{{.id | upper}}', '}}', 'table {{.id}}'])('refuses %s', (text) => {
    expect(() => formatOf(text)).toThrow(/--format/);
  });

  it('names the fields if one does not exist, and refuses a second form of output', () => {
    expect(() => formatOf('{{.ports}}')(row)).toThrow(/no field ports; the fields are id, name, cpu/);
    expect(() => formatOf('{{.constructor}}')(row)).toThrow(/no field constructor/);
    expect(() => listFormOf({ json: true, format: 'json' })).toThrow(/choose one/);
  });
});

it('labels are set by KEY=VALUE and removed by KEY-, and the last change of a key counts', () => {
  expect(parseLabelChanges(['a=b', 'c-', 'd=e-', 'f--', 'a=', 'g=h=i'])).toEqual({
    a: '',
    c: null,
    d: 'e-',
    'f-': null,
    g: 'h=i',
  });
  for (const text of ['a', '-', '=b', '']) expect(() => parseLabelChanges([text])).toThrow(/KEY=VALUE/);
});

it('--cpus reserves whole CPUs and limits their use, and it is never above --cpu', () => {
  const given = (cpu: string | undefined, cpus: string | undefined) => {
    const { cpu: reserved, cpu_limit: limit } = boxInput('base', {
      cpu,
      cpus,
      memory: '64m',
      disk: '8',
      network: false,
      volume: [],
      env: [],
      'env-file': [],
      ulimit: [],
    });
    return [reserved, limit];
  };
  expect(given(undefined, undefined)).toEqual([2, undefined]);
  expect(given(undefined, '0.5')).toEqual([1, 0.5]);
  expect(given(undefined, '2.5')).toEqual([3, 2.5]);
  expect(given(undefined, '3')).toEqual([3, undefined]);
  expect(given('4', '.25')).toEqual([4, 0.25]);
  expect(() => given('1', '1.5')).toThrow(/more than --cpu 1/);
  for (const text of ['0', '-1', '1e3', 'x', '', '0.001']) expect(() => parseCpus(text)).toThrow(/such as 0.5/);
});
