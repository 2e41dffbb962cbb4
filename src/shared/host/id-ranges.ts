// The user and group ids of the host that boxes of the container driver use. Each box has a block of 65,536 ids, and a
// user of the host (the creator) who makes the box's user namespace. The kernel counts resources per creator, so two
// boxes never share a block. All ids are above the ranges that distributions and systemd assign, and below the ranges
// that systemd reserves.
import { createHash } from 'node:crypto';

export interface IdRange {
  /** The host's id for root in the box. */
  readonly base: number;
  readonly size: number;
}

export const rangeSize = 65_536;
/**
 * On disks and in prepared images all files have these ids. A box runs with these ids if the host cannot make a user
 * namespace for its block, or if an earlier version started it.
 */
export const sharedRange: IdRange = { base: 1_900_000_000, size: rangeSize };
const firstBase = sharedRange.base + rangeSize;
/** The last block ends below 2,147,352,576, where systemd's range for foreign files begins. */
export const idBlocks = 3_772;
/** The block after the last one is for probes of the host. No box ever has it. */
export const probeBlock = 3_772;
const firstCreator = 1_890_000_000;

export function rangeOf(block: number): IdRange {
  return { base: firstBase + block * rangeSize, size: rangeSize };
}

/** The user who makes the user namespace of the box with this block. This user owns no files and runs nothing else. */
export function creatorOf(block: number): number {
  return firstCreator + block;
}

/** The block at which a server begins to look for a free one. Servers on one host begin at different blocks. */
export function firstBlockOf(instanceId: string): number {
  return createHash('sha256').update(instanceId).digest().readUInt32BE(0) % idBlocks;
}
