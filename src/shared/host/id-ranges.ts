// Ids of the host that boxes of the container driver use: a block of 65,536 for each box, and for each block one user
// of the host who creates the box's user namespace. The kernel charges that user for what it counts per user, so no two
// boxes may share a block. All lie above the ranges that distributions and systemd give away, and below those that
// systemd keeps for others.
import { createHash } from 'node:crypto';

export interface IdRange {
  /** The host's id of the box's root. */
  readonly base: number;
  readonly size: number;
}

export const rangeSize = 65_536;
/** On disks and in prepared images, for every box; and of boxes that have no block of their own. */
export const sharedRange: IdRange = { base: 1_900_000_000, size: rangeSize };
const firstBase = sharedRange.base + rangeSize;
/** The last block ends below 2,147,352,576, where systemd's range for foreign files begins. */
export const idBlocks = 3_772;
/** The block after the last one is for trials of the host: no box ever has it. */
export const trialBlock = 3_772;
const firstCreator = 1_890_000_000;

export function rangeOf(block: number): IdRange {
  return { base: firstBase + block * rangeSize, size: rangeSize };
}

/** The user who creates the namespaces of the box that has this block; it owns nothing and runs nothing else. */
export function creatorOf(block: number): number {
  return firstCreator + block;
}

/** Where a server begins to look for a free block: servers beside each other on a host begin at different ones. */
export function firstBlockOf(instanceId: string): number {
  return createHash('sha256').update(instanceId).digest().readUInt32BE(0) % idBlocks;
}
