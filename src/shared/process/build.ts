// Says which build of BoxRun this process runs. Processes of one build understand each other in everything.
// Processes of two builds meet after an upgrade. They share only what their contracts promise to keep.

/** Put in by scripts/build.mjs. */
declare const boxrunBuild: string | undefined;

/** Equal for equal sources; the same word for all processes that run from sources. */
export const buildId: string = typeof boxrunBuild === 'string' ? boxrunBuild : 'sources';
