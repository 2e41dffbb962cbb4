// The form of events on the wire, byte for byte.
import { expect, it } from 'vitest';
import { encodeEvents, encodeNotice } from '../../../src/gateway/live/sse.ts';

const log = (seq: number, bytes: readonly number[] | string, stream: 'stdout' | 'stderr' = 'stdout') =>
  ({
    seq,
    type: 'log',
    stream,
    data: typeof bytes === 'string' ? Buffer.from(bytes) : Uint8Array.from(bytes),
  }) as const;
const exit = { seq: 1, type: 'exit', stream: null, data: Buffer.from('{"exit_code":0}') } as const;

const textOf = (...given: Parameters<typeof encodeEvents>) => Buffer.concat([...encodeEvents(...given)]).toString();

it('writes log and exit as the contract has them', () => {
  expect(textOf([log(0, 'hello\n'), exit], 'text')).toBe(
    'id: 0\nevent: log\ndata: {"stream":"stdout","data":"hello\\n","seq":0}\n\n' +
      'id: 1\nevent: exit\ndata: {"stream":null,"data":"{\\"exit_code\\":0}","seq":1}\n\n',
  );
});

it('gives bytes as base64 where asked, and the exit as text all the same', () => {
  expect(textOf([log(0, [0xff, 0x00], 'stderr'), exit], 'base64')).toBe(
    'id: 0\nevent: log\ndata: {"stream":"stderr","data_b64":"/wA=","seq":0}\n\n' +
      'id: 1\nevent: exit\ndata: {"stream":null,"data":"{\\"exit_code\\":0}","seq":1}\n\n',
  );
});

it('gives U+FFFD for what is no UTF-8, and keeps a byte order mark', () => {
  expect(textOf([log(0, [0xef, 0xbb, 0xbf, 0x61, 0xff])], 'text')).toContain('"data":"\ufeffa\ufffd"');
});

it('has no character in it at which any client splits lines', () => {
  const every = String.fromCodePoint(...Array.from({ length: 0x2100 }, (_, code) => code));
  const text = textOf([log(0, every)], 'text');
  const body = text.slice(text.indexOf('data: '), -2);
  expect(body).not.toMatch(/[\n\r\v\f\u001c-\u001e\u0085\u2028\u2029]/);
  expect(JSON.parse(body.slice('data: '.length))).toEqual({ stream: 'stdout', data: every, seq: 0 });
});

it('reads views into larger buffers', () => {
  const view = new Uint8Array(Buffer.from('xxhixx').buffer.slice(0)).subarray(0, 0);
  expect(textOf([{ ...log(0, ''), data: view }], 'text')).toContain('"data":""');
  const large = Uint8Array.from(Buffer.from('xxhixx'));
  expect(textOf([{ ...log(0, ''), data: large.subarray(2, 4) }], 'text')).toContain('"data":"hi"');
});

it('gives notices no id', () => {
  expect(encodeNotice('progress', { stage: 'pull', message: 'a\nb' }).toString()).toBe(
    'event: progress\ndata: {"stage":"pull","message":"a\\nb"}\n\n',
  );
});

it('brings small events together and leaves large ones alone', () => {
  const small = Array.from({ length: 100 }, (_, seq) => log(seq, 'x'));
  expect([...encodeEvents(small, 'text')]).toHaveLength(1);
  const large = [0, 1, 2].map((seq) => log(seq, 'x'.repeat(65_536)));
  expect([...encodeEvents(large, 'text')]).toHaveLength(3);
  expect([...encodeEvents([], 'text')]).toEqual([]);
});
