// What the client's methods take, beside what the API itself defines. An option that is undefined is as one that is
// absent. Public through public.ts.
import type { CreateBoxBody, ExecBody, Progress, RunBody } from '../shared/api.ts';

export interface CallOptions {
  /** Ends the wait with CANCELED; what the server has begun goes on, where the method does not say otherwise. */
  readonly signal?: AbortSignal | undefined;
}

/** For calls that end what runs in a box. */
export interface StopOptions extends CallOptions {
  /** How long processes have to end by themselves before they are killed, in seconds. */
  readonly graceS?: number;
}

export interface RemoveOptions extends StopOptions {
  /** Whether a running box is removed too. */
  readonly force?: boolean;
}

/** For calls that make something. */
export interface MakeOptions extends CallOptions {
  /**
   * 1 to 255 visible characters of ASCII. Sent again within 24 hours with the same key, the same call makes nothing
   * twice and gives the same answer; another call with it is refused with VALIDATION_ERROR.
   */
  readonly idempotencyKey?: string | undefined;
}

export interface CreateOptions extends MakeOptions {
  /** Told each step. */
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

export interface ExecOptions extends MakeOptions {
  /** Bytes of output that are kept, both streams together; 64 MiB when absent. */
  readonly outputBytesMax?: number | undefined;
}

export type CreateBoxInput = Pick<CreateBoxBody, 'image'> & Partial<CreateBoxBody>;
export type RunInput = Pick<RunBody, 'image' | 'cmd'> & Partial<RunBody>;
/**
 * A command: its words, or these with its settings (`cmd`, `env`, `workdir`, `timeout_ms`, `user`). No shell is
 * involved.
 */
export type Command = readonly string[] | ExecBody;
