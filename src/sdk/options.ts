// Parameters of the client's methods that are not part of the API itself.
// An option with the value undefined counts as absent.
import type { CreateBoxBody, ExecBody, Progress, RunBody, UpdateBoxBody } from '../shared/api.ts';

export interface CallOptions {
  /** Aborting it ends the call with CANCELED. The server goes on with its work, unless the method says otherwise. */
  readonly signal?: AbortSignal | undefined;
}

/** Options of calls that stop or remove a box. */
export interface StopOptions extends CallOptions {
  /** How long processes have to end by themselves before they are killed, in seconds. */
  readonly graceS?: number | undefined;
}

export interface RemoveOptions extends StopOptions {
  /** True: removes the box even if it runs. */
  readonly force?: boolean | undefined;
}

/** Options of calls that create a box or start a command. */
export interface MakeOptions extends CallOptions {
  /**
   * 1 to 255 visible ASCII characters. If the same call is sent again with the same key within 24 hours, the server
   * does nothing again and gives the same answer. A different call with this key is refused with VALIDATION_ERROR.
   */
  readonly idempotencyKey?: string | undefined;
}

export interface CreateOptions extends MakeOptions {
  /** Called at each step of creating the box. */
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

export interface PullOptions extends CallOptions {
  /** Called at each step of the pull. */
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

export interface ExecOptions extends MakeOptions {
  /** How much output to keep, both streams together, in bytes; 64 MiB when absent. */
  readonly outputBytesMax?: number | undefined;
}

export type CreateBoxInput = Pick<CreateBoxBody, 'image'> & Partial<CreateBoxBody>;
/** `name`: null removes the name. `labels`: are merged; null removes one label, or all of them. */
export type UpdateBoxInput = UpdateBoxBody;
export type RunInput = Pick<RunBody, 'image' | 'cmd'> & Partial<RunBody>;
/**
 * A command: its words, or an object with its words (`cmd`) and settings (`env`, `workdir`, `timeout_ms`, `user`). It
 * does not run in a shell.
 */
export type Command = readonly string[] | ExecBody;
