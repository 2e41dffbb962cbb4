// Identifiers: a prefix that says what it names, and 12 URL-safe random characters (72 bits).
// Made by the process that owns the thing; never reused.
import { randomBytes } from 'node:crypto';

export type IdPrefix = 'box' | 'exec' | 'wrk' | 'inst' | 'req';

/** A fresh id such as `box_x7Kq0aZ-_b3T`. */
export function newId(prefix: IdPrefix): string {
  return `${prefix}_${randomBytes(9).toString('base64url')}`;
}

/** True when `value` has the form of a box id; box names must not. */
export function isBoxId(value: string): boolean {
  return /^box_[A-Za-z0-9_-]{12}$/.test(value);
}
