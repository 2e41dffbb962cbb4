// Whether this program is the package `boxrun-client`: only the commands that talk to a server, and no server.
// The build decides it; a program that runs from its sources has everything.

/** scripts/client-package.mjs defines this. */
declare const boxrunClientOnly: boolean | undefined;

export const isClientOnly: boolean = typeof boxrunClientOnly === 'boolean' && boxrunClientOnly;
