// The values of options, read from the text that users type.
import { expect, it } from 'vitest';
import {
  parseAssignments,
  parseSeconds,
  parseSignal,
  parseSize,
  parseUlimit,
  parseUser,
  parseVolume,
  parseWhole,
  UsageError,
} from '../../../src/cli/parsing/options.ts';

it('reads whole numbers', () => {
  expect(parseWhole('cpu', '12', 1)).toBe(12);
  for (const text of ['', '0', '-1', '1.5', '1e3', 'two', '0x10', ' 1']) {
    expect(() => parseWhole('cpu', text, 1)).toThrow(UsageError);
  }
});

it('reads seconds as milliseconds', () => {
  expect(parseSeconds('timeout', '2')).toBe(2000);
  expect(parseSeconds('timeout', '0.25')).toBe(250);
  for (const text of ['', '0', '-1', 'soon', '0.0001', 'Infinity']) {
    expect(() => parseSeconds('timeout', text)).toThrow(UsageError);
  }
});

it('reads users, and refuses ids that cannot exist in a box', () => {
  for (const text of ['ana', 'ana:wheel', '0', '65535:65535', 'a4294967295']) expect(parseUser(text)).toBe(text);
  for (const text of ['4294967295', '65536', '0:4294967295', 'ana:65536', '00000000004294967295', '1:2:3']) {
    expect(() => parseUser(text)).toThrow(UsageError);
  }
});

it('reads limits', () => {
  expect(parseUlimit('nofile=1024:2048')).toEqual({ name: 'nofile', soft: 1024, hard: 2048 });
  expect(parseUlimit('core=-1')).toEqual({ name: 'core', soft: -1, hard: -1 });
  for (const text of [
    '',
    'nofile',
    'nofile=',
    'nofile=x',
    'files=1',
    'nofile=1:',
    'nofile=1:2:3',
    'nofile=-2',
    'constructor=1',
  ]) {
    expect(() => parseUlimit(text)).toThrow(UsageError);
  }
});

it('reads volumes', () => {
  expect(parseVolume('/a:/b')).toEqual({ host_path: '/a', guest_path: '/b', readonly: false });
  expect(parseVolume('/a:/b:ro')).toEqual({ host_path: '/a', guest_path: '/b', readonly: true });
  expect(parseVolume('/a:/b:rw')).toEqual({ host_path: '/a', guest_path: '/b', readonly: false });
  expect(parseVolume('a:/b').host_path).toBe(`${process.cwd()}/a`);
  for (const text of ['', '/a', ':/b', '/a:', '/a:b', '/a:/b:rx', '/a:/b:ro:x']) {
    expect(() => parseVolume(text)).toThrow(UsageError);
  }
});

it('reads variables, and takes the last value if a name occurs twice', () => {
  expect(parseAssignments('env', ['A=1', 'B=x=y', 'C=', 'A=2'])).toEqual({ A: '2', B: 'x=y', C: '' });
  for (const text of ['', 'A', '=1']) expect(() => parseAssignments('env', [text])).toThrow(UsageError);
});

it('reads sizes with and without a unit', () => {
  const mib = (text: string) => parseSize('memory', text, 'MiB');
  expect([mib('512'), mib('512m'), mib('1g'), mib('2GiB'), mib('1t')]).toEqual([512, 512, 1024, 2048, 1_048_576]);
  expect([parseSize('disk', '8', 'GiB'), parseSize('disk', '2048m', 'GiB'), parseSize('disk', '8g', 'GiB')]).toEqual([
    8, 2, 8,
  ]);
  for (const text of ['', '0', '-1', '1.5g', 'm', '5k', '1gg']) expect(() => mib(text)).toThrow(UsageError);
  expect(() => parseSize('disk', '512m', 'GiB')).toThrow(UsageError);
});

it('reads signals by name and by number', () => {
  expect(['TERM', 'sigint', 'SIGKILL', '9', '15'].map(parseSignal)).toEqual(['TERM', 'INT', 'KILL', 'KILL', 'TERM']);
  for (const text of ['', 'SIG', 'nothing', '0', '999']) expect(() => parseSignal(text)).toThrow(UsageError);
});
