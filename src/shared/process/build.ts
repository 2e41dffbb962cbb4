// The build of BoxRun that this process runs. Processes of the same build understand all messages of each other.
// After an upgrade, processes of two builds work together: they can rely only on what their contracts keep.

/** scripts/build.mjs defines this. */
declare const boxrunBuild: string | undefined;

/** Builds of equal sources have equal ids. A process that runs without a build has the id `sources`. */
export const buildId: string = typeof boxrunBuild === 'string' ? boxrunBuild : 'sources';
