// The resolv.conf of a box, made out of the host's. The first name server is slirp4netns, if it can read the host's
// file.
import { describe, expect, test } from 'vitest';
import { isBlocked } from '../../../src/worker/drivers/container/network/network.ts';
import { boxResolver, needsIpv6 } from '../../../src/worker/drivers/container/network/resolver.ts';

const host = (...lines: string[]) => ({ text: lines.join('\n'), isSeenBySlirp: true });
const box = (...lines: string[]) => boxResolver(host(...lines), isBlocked);

describe('the name servers of a box', () => {
  test.each([
    ['one', ['nameserver 198.51.100.1'], ['10.0.2.3']],
    ['none', ['# nothing'], ['10.0.2.3']],
    [
      'several',
      ['nameserver 198.51.100.1', 'nameserver  198.51.100.2', 'nameserver 198.51.100.3', 'nameserver 198.51.100.4'],
      ['10.0.2.3', '198.51.100.2', '198.51.100.3'],
    ],
    [
      'one that only the host reaches, and another',
      ['nameserver 127.0.0.53', 'nameserver 198.51.100.2'],
      ['10.0.2.3', '198.51.100.2'],
    ],
    [
      'others that a box may not reach',
      ['nameserver 198.51.100.1', 'nameserver 127.0.0.1', 'nameserver 169.254.169.253', 'nameserver 10.0.2.3'],
      ['10.0.2.3'],
    ],
    [
      'both families',
      ['nameserver 2001:db8::1', 'nameserver 198.51.100.1', 'nameserver 198.51.100.2'],
      ['10.0.2.3', '198.51.100.2'],
    ],
    ['IPv6 alone', ['nameserver 2001:db8::1', 'nameserver ::1'], ['fd00::3']],
    [
      'comments and junk',
      [
        '#nameserver 198.51.100.9',
        '; nameserver 198.51.100.9',
        'nameserver',
        'nameserver x',
        'nameserver 198.51.100.1',
      ],
      ['10.0.2.3'],
    ],
  ])('where the host has %s', (_what, lines, servers) => {
    expect(box(...lines)).toBe(`${servers.map((address) => `nameserver ${address}`).join('\n')}\n`);
  });

  test('are asked directly when slirp4netns cannot read the file of the host', () => {
    const unseen = (...lines: string[]) => boxResolver({ ...host(...lines), isSeenBySlirp: false }, isBlocked);
    expect(unseen('nameserver 198.51.100.1', 'nameserver 198.51.100.2')).toBe(
      'nameserver 198.51.100.1\nnameserver 198.51.100.2\n',
    );
    expect(unseen('nameserver 127.0.0.53')).toBe('nameserver 10.0.2.3\n');
  });

  test('need IPv6 only if the host has no IPv4 name server', () => {
    expect(needsIpv6(host('nameserver fe80::1%eth0'))).toBe(true);
    expect(needsIpv6(host('nameserver 2001:db8::1', 'nameserver 198.51.100.1'))).toBe(false);
    expect(needsIpv6(host(''))).toBe(false);
  });
});

test('the box gets the last search list and all options of the host', () => {
  const text = box(
    'domain old.example',
    'search a.example b.example',
    'nameserver 198.51.100.1',
    'options ndots:2 timeout:1',
    'sortlist 10.0.0.0',
    'options rotate',
  );
  expect(text).toBe('nameserver 10.0.2.3\nsearch a.example b.example\noptions ndots:2 timeout:1\noptions rotate\n');
  expect(box('search a;b', 'nameserver 198.51.100.1')).toBe('nameserver 10.0.2.3\n');
});
