// Checks the text `USER[:GROUP]` of a command or an image. Ids above boxIdMax are refused. In particular, the kernel
// must never get the id 4294967295: it means "do not change the user", and the command would then run as root.

/** The largest id of a user or a group in a box. A box has 65,536 of each. */
export const boxIdMax = 65_535;

/**
 * The problem with `user`, as text that follows its name in a message, or null if there is none. Names are not checked
 * here, because only the box knows its users.
 */
export function userProblem(user: string): string | null {
  const parts = user.split(':');
  if (parts.length > 2) return 'must be NAME or ID, with :GROUP where wanted';
  const outside = parts.find((part) => /^\d+$/.test(part) && Number(part) > boxIdMax);
  return outside === undefined ? null : `has the id ${outside}, and ids in a box are 0 to ${boxIdMax}`;
}
