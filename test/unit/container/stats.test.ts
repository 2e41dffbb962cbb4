// The sums that a box's network interfaces give. The rest of the figures is tried on real boxes.
import { expect, it } from 'vitest';
import { networkBytes } from '../../../src/worker/drivers/container/box/stats.ts';

const head = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
`;

it('sums up the bytes of all interfaces, but not those of the loopback one', () => {
  const table = `${head}    lo: 500 5 0 0 0 0 0 0 500 5 0 0 0 0 0 0
  tap0: 1200 10 0 0 0 0 0 0 340 4 0 0 0 0 0 0
  eth1:7 1 0 0 0 0 0 0 8 1 0 0 0 0 0 0
`;
  expect(networkBytes(table)).toEqual({ networkReceivedBytes: 1207, networkSentBytes: 348 });
  expect(networkBytes(head)).toEqual({ networkReceivedBytes: 0, networkSentBytes: 0 });
});
