// `USER[:GROUP]` of a command or an image: which forms no box can have. The gateway, the command line, the import of
// images and the drivers ask it. The kernel takes the id 4294967295 for "do not change", which would be root: it must
// never get there.

/** The largest id of a user or a group in a box, which has 65,536 of each. */
export const boxIdMax = 65_535;

/**
 * What is wrong with `user`, as words that follow its name; null where a box may have it. Names are looked up in the
 * box.
 */
export function userProblem(user: string): string | null {
  const parts = user.split(':');
  if (parts.length > 2) return 'must be NAME or ID, with :GROUP where wanted';
  const outside = parts.find((part) => /^\d+$/.test(part) && Number(part) > boxIdMax);
  return outside === undefined ? null : `has the id ${outside}, and ids in a box are 0 to ${boxIdMax}`;
}
