// The number of blocks that a box's file system may not use, so that all boxes together do not need more space than the
// host has.
import { describe, expect, it } from 'vitest';
import { limits } from '../../../src/shared/limits.ts';
import { blocksToReserve } from '../../../src/worker/drivers/container/disk/disk-room.ts';

const gib = 2 ** 30;
const blockBytes = 4096;
/** The kernel itself reserves a fiftieth of the blocks, but at most this number. */
const kernelReserveBlocksMax = 4096;
const eightGib = { blocks: (8 * gib) / blockBytes, freeBlocks: (7 * gib) / blockBytes, blockBytes };

describe('the blocks that a box may not use', () => {
  it('are only those that the kernel reserves itself while the host has room for the whole disk', () => {
    expect(blocksToReserve({ hostFreeBytes: 100 * gib, pendingBytes: 0, disks: 4, fileSystem: eightGib })).toBe(
      kernelReserveBlocksMax,
    );
  });

  it('leave a box its share of the free space of the host', () => {
    const hostFreeBytes = 2 * gib + limits.diskMarginBytes;
    const free =
      eightGib.freeBlocks - blocksToReserve({ hostFreeBytes, pendingBytes: 0, disks: 2, fileSystem: eightGib });
    expect(free * blockBytes).toBe(gib);
  });

  it('leave room on the host for data that waits in memory', () => {
    const hostFreeBytes = 2 * gib + limits.diskMarginBytes;
    const free =
      eightGib.freeBlocks - blocksToReserve({ hostFreeBytes, pendingBytes: gib, disks: 1, fileSystem: eightGib });
    expect(free * blockBytes).toBe(gib);
  });

  it('are all free blocks when the host has no free space', () => {
    expect(blocksToReserve({ hostFreeBytes: 0, pendingBytes: gib, disks: 1, fileSystem: eightGib })).toBe(
      eightGib.freeBlocks,
    );
  });
});
