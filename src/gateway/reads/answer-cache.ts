// Answers to reads, ready to be sent, for as long as nothing at all has been committed: then the database would say the
// same. Made by main.ts, asked by the routes that get and list. So no answer is older than what any client has been
// told before it asked.
import { limits } from '../../shared/limits.ts';
import type { CommitWatch } from '../../shared/store/commit-watch.ts';
import type { Position } from '../../shared/store/lists.ts';

export interface Answer {
  readonly json: string | Buffer;
  /** Of a list: where its next page begins, if there is one. */
  readonly next: Position | null;
}

export interface AnswerCache {
  /** What is known under `key`, else what `read` gives; that is kept unless it is null. */
  get<A extends Answer | null>(key: string, read: () => Promise<A>): Promise<A | Answer>;
}

/** What an entry costs beside its texts, in characters. */
const entryChars = 256;

export function createAnswerCache(commits: Pick<CommitWatch, 'version'>): AnswerCache {
  const answers = new Map<string, Answer>();
  let keptVersion: number | null = null;
  let keptChars = 0;
  let asked: { readonly version: number | null } | null = null;

  /** Asked once for all requests that have come when the event loop turns: those were sent before it was. */
  function versionNow(): number | null {
    if (asked === null) {
      asked = { version: commits.version() };
      setImmediate(() => {
        asked = null;
      });
    }
    return asked.version;
  }

  function forgetAll(): void {
    answers.clear();
    keptChars = 0;
  }

  function keep(key: string, answer: Answer): void {
    const chars = key.length + answer.json.length + entryChars;
    if (chars > limits.answersKeptChars) return;
    if (keptChars + chars > limits.answersKeptChars) forgetAll();
    answers.set(key, answer);
    keptChars += chars;
  }

  return {
    async get(key, read) {
      const version = versionNow();
      if (version !== keptVersion) {
        forgetAll();
        keptVersion = version;
      }
      const known = answers.get(key);
      if (known !== undefined) return known;
      const answer = await read();
      // Meanwhile there may have been a commit that it has not seen.
      if (answer !== null && version !== null && version === keptVersion && !answers.has(key)) keep(key, answer);
      return answer;
    },
  };
}

/** For JSON of a row as a reader gives it; null where there is none. */
export function rowAnswer(json: string | Uint8Array | null): Answer | null {
  if (json === null) return null;
  return {
    json: typeof json === 'string' ? json : Buffer.from(json.buffer, json.byteOffset, json.byteLength),
    next: null,
  };
}
