import { describe, expect, it } from 'vitest';
import { createDetachKeys, parseDetachKeys } from '../../../src/cli/parsing/detach-keys.ts';

const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('latin1');
const typed = (keys: ReturnType<typeof createDetachKeys>, input: string) => {
  const { bytes, isDetach } = keys.take(Buffer.from(input, 'latin1'));
  return { bytes: text(bytes), isDetach };
};

describe('the detach keys', () => {
  it('have the same form as in docker', () => {
    expect(parseDetachKeys('ctrl-p,ctrl-q')).toEqual([0x10, 0x11]);
    expect(parseDetachKeys('ctrl-],x')).toEqual([0x1d, 0x78]);
    expect(parseDetachKeys('ctrl-@')).toEqual([0]);
    expect(parseDetachKeys('')).toEqual([]);
  });

  it.each(['ctrl-', 'ctrl-1', 'ab', 'a,,b', 'é'])('are refused if they are not valid: %s', (keys) => {
    expect(() => parseDetachKeys(keys)).toThrow(/--detach-keys/);
  });

  it('leave the terminal if they come in separate reads, and earlier keys are passed on', () => {
    const keys = createDetachKeys([0x10, 0x11]);
    expect(typed(keys, 'ab\x10')).toEqual({ bytes: 'ab', isDetach: false });
    expect(typed(keys, '\x11dropped')).toEqual({ bytes: '', isDetach: true });
  });

  it('do not change other keys or their order', () => {
    const keys = createDetachKeys([0x10, 0x11]);
    expect(typed(keys, 'a\x10b\x10\x10c')).toEqual({ bytes: 'a\x10b\x10\x10c', isDetach: false });
    expect(typed(keys, '\x11')).toEqual({ bytes: '\x11', isDetach: false });
  });

  it('are found after keys that only look like their beginning', () => {
    const keys = createDetachKeys(parseDetachKeys('a,a,b'));
    expect(typed(keys, 'aaab')).toEqual({ bytes: 'a', isDetach: true });
  });

  it('give a held key when flush is called', () => {
    const keys = createDetachKeys([0x10, 0x11]);
    expect(typed(keys, '\x10')).toEqual({ bytes: '', isDetach: false });
    expect(text(keys.flush())).toBe('\x10');
    expect(typed(keys, '\x11')).toEqual({ bytes: '\x11', isDetach: false });
  });

  it('never leave the terminal if there are none', () => {
    expect(typed(createDetachKeys([]), '\x10\x11')).toEqual({ bytes: '\x10\x11', isDetach: false });
  });
});
