// Identifiers: a prefix that says what it names, and 12 URL-safe random characters (72 bits).
// Made by the process that owns the thing; never reused.
import { randomFillSync } from 'node:crypto';

export type IdPrefix = 'box' | 'exec' | 'wrk' | 'inst' | 'req';

const idBytes = 9;
/** Random bytes in stock: asking the system for each id alone costs more than the id. */
const stock = Buffer.alloc(idBytes * 128);
let used = stock.length;

/** A fresh id such as `box_x7Kq0aZ-_b3T`. */
export function newId(prefix: IdPrefix): string {
  if (used === stock.length) {
    randomFillSync(stock);
    used = 0;
  }
  used += idBytes;
  return `${prefix}_${stock.toString('base64url', used - idBytes, used)}`;
}

/** True when `value` has the form of a box id; box names must not. */
export function isBoxId(value: string): boolean {
  return /^box_[A-Za-z0-9_-]{12}$/.test(value);
}
