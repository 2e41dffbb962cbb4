// Identifiers: a prefix that says what kind of thing the id names, and 12 random URL-safe characters (72 bits).
// An id is never used for a second thing.
import { randomFillSync } from 'node:crypto';

export type IdPrefix = 'box' | 'exec' | 'wrk' | 'inst' | 'req';

const idBytes = 9;
/** Random bytes for the next 128 ids. One call of the system for each id would cost more than the id itself. */
const stock = Buffer.alloc(idBytes * 128);
let used = stock.length;

/** A new id, such as `box_x7Kq0aZ-_b3T`. */
export function newId(prefix: IdPrefix): string {
  if (used === stock.length) {
    randomFillSync(stock);
    used = 0;
  }
  used += idBytes;
  return `${prefix}_${stock.toString('base64url', used - idBytes, used)}`;
}

/** True if `value` has the form of a box id. A box must not have such a name. */
export function isBoxId(value: string): boolean {
  return /^box_[A-Za-z0-9_-]{12}$/.test(value);
}
