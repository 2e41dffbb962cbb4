// Keeps the answers of reads until the next commit of any change. Until then the database would give the same answer.
// So a client that has heard of a change never gets an answer from before the change.
import { limits } from '../../shared/limits.ts';
import type { CommitWatch } from '../../shared/store/commit-watch.ts';
import type { Position } from '../../shared/store/lists.ts';

export interface Answer {
  readonly json: string | Buffer;
  /** For a list: where its next page begins; null if there is none. */
  readonly next: Position | null;
}

export interface AnswerCache {
  /** Gives the kept answer for `key`. Otherwise it gives the result of `read`, and keeps that unless it is null. */
  get<A extends Answer | null>(key: string, read: () => Promise<A>): Promise<A | Answer>;
}

/** Counted for each entry in addition to its key and its JSON, in characters. */
const entryChars = 256;

export function createAnswerCache(commits: Pick<CommitWatch, 'version'>): AnswerCache {
  const answers = new Map<string, Answer>();
  let keptVersion: number | null = null;
  let keptChars = 0;
  let thisTurn: { readonly version: number | null } | null = null;

  /**
   * Asks the database once for all requests in one turn of the event loop. All these requests were already here when
   * the database was asked, so none can know of a later commit.
   */
  function versionNow(): number | null {
    if (thisTurn === null) {
      thisTurn = { version: commits.version() };
      setImmediate(() => {
        thisTurn = null;
      });
    }
    return thisTurn.version;
  }

  function removeAll(): void {
    answers.clear();
    keptChars = 0;
  }

  function keep(key: string, answer: Answer): void {
    const chars = key.length + answer.json.length + entryChars;
    if (chars > limits.answersKeptChars) return;
    if (keptChars + chars > limits.answersKeptChars) removeAll();
    answers.set(key, answer);
    keptChars += chars;
  }

  return {
    async get(key, read) {
      const version = versionNow();
      if (version !== keptVersion) {
        removeAll();
        keptVersion = version;
      }
      const known = answers.get(key);
      if (known !== undefined) return known;
      const answer = await read();
      // If another request saw a new version during the read, this answer may be older than that commit.
      if (answer !== null && version !== null && version === keptVersion && !answers.has(key)) keep(key, answer);
      return answer;
    },
  };
}

/** Makes an answer of the JSON that a reader thread gives for one row; null if the row does not exist. */
export function rowAnswer(json: string | Uint8Array | null): Answer | null {
  if (json === null) return null;
  return {
    json: typeof json === 'string' ? json : Buffer.from(json.buffer, json.byteOffset, json.byteLength),
    next: null,
  };
}
