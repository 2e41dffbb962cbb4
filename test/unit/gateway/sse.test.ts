// Tests the bytes of server-sent events on the wire.
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

it('log and exit events have the form of the contract', () => {
  expect(textOf([log(0, 'hello\n'), exit], 'text')).toBe(
    'id: 0\nevent: log\ndata: {"stream":"stdout","data":"hello\\n","seq":0}\n\n' +
      'id: 1\nevent: exit\ndata: {"stream":null,"data":"{\\"exit_code\\":0}","seq":1}\n\n',
  );
});

it('log events have base64 if the client wants it, and the exit event still has text', () => {
  expect(textOf([log(0, [0xff, 0x00], 'stderr'), exit], 'base64')).toBe(
    'id: 0\nevent: log\ndata: {"stream":"stderr","data_b64":"/wA=","seq":0}\n\n' +
      'id: 1\nevent: exit\ndata: {"stream":null,"data":"{\\"exit_code\\":0}","seq":1}\n\n',
  );
});

it('bytes that are not UTF-8 become U+FFFD, and a byte order mark is kept', () => {
  expect(textOf([log(0, [0xef, 0xbb, 0xbf, 0x61, 0xff])], 'text')).toContain('"data":"\ufeffa\ufffd"');
});

it('an event contains no character at which a client might split lines', () => {
  const every = String.fromCodePoint(...Array.from({ length: 0x2100 }, (_, code) => code));
  const text = textOf([log(0, every)], 'text');
  const body = text.slice(text.indexOf('data: '), -2);
  expect(body).not.toMatch(/[\n\r\v\f\u001c-\u001e\u0085\u2028\u2029]/);
  expect(JSON.parse(body.slice('data: '.length))).toEqual({ stream: 'stdout', data: every, seq: 0 });
});

it('events are read correctly from a view into a larger buffer', () => {
  const view = new Uint8Array(Buffer.from('xxhixx').buffer.slice(0)).subarray(0, 0);
  expect(textOf([{ ...log(0, ''), data: view }], 'text')).toContain('"data":""');
  const large = Uint8Array.from(Buffer.from('xxhixx'));
  expect(textOf([{ ...log(0, ''), data: large.subarray(2, 4) }], 'text')).toContain('"data":"hi"');
});

it('notices have no id', () => {
  expect(encodeNotice('progress', { stage: 'pull', message: 'a\nb' }).toString()).toBe(
    'event: progress\ndata: {"stage":"pull","message":"a\\nb"}\n\n',
  );
});

it('small events are sent together, and large ones alone', () => {
  const small = Array.from({ length: 100 }, (_, seq) => log(seq, 'x'));
  expect([...encodeEvents(small, 'text')]).toHaveLength(1);
  const large = [0, 1, 2].map((seq) => log(seq, 'x'.repeat(65_536)));
  expect([...encodeEvents(large, 'text')]).toHaveLength(3);
  expect([...encodeEvents([], 'text')]).toEqual([]);
});
