// Says on standard error what a command waits for, if it waits long. A terminal gets one line that is rewritten and at
// last removed. Another reader gets one plain line for the whole wait; later changes of the message are not printed.
// Nothing appears if the wait is short.
import type { Box, BoxRunClient, CreateBoxInput } from '../../sdk/index.ts';
import type { Progress } from '../../shared/api.ts';
import { limits } from '../../shared/limits.ts';
import { createProgressLine } from './render.ts';

export interface WaitNotice {
  /** Changes what the user waits for. */
  say(message: string): void;
  /** Removes the line of a terminal. */
  end(): void;
}

/** @param message what the user waits for, such as `starting the server` */
export function createWaitNotice(message: string): WaitNotice {
  const line = createProgressLine(process.stderr);
  let latest = message;
  let isShown = false;
  const show = () => {
    if (process.stderr.isTTY) line.show(`${latest} ...`);
    else if (!isShown) process.stderr.write(`boxrun: ${latest} ...\n`);
    isShown = true;
  };
  const timer = setTimeout(show, limits.waitNoticeMs);
  return {
    say(next) {
      latest = next;
      if (isShown) show();
    },
    end() {
      clearTimeout(timer);
      line.clear();
    },
  };
}

/** Stages of a create that may take long. The first of these stages starts the notice where no terminal is. */
const longStages = new Set(['pull', 'unpack']);

/** Shows the progress of a create: of a box, or of the box of a run. */
export function createProgressNotice(): { readonly onProgress: (progress: Progress) => void; end(): void } {
  let notice: WaitNotice | null = process.stderr.isTTY ? createWaitNotice('creating the box') : null;
  return {
    onProgress({ stage, message }) {
      if (notice === null && longStages.has(stage)) notice = createWaitNotice(message);
      notice?.say(message);
    },
    end() {
      notice?.end();
    },
  };
}

/** Shows the progress of a pull. `isQuiet`: shows nothing. */
export function createPullNotice(image: string, isQuiet: boolean) {
  const notice = isQuiet ? null : createWaitNotice(`pulling ${image}`);
  return {
    onProgress: ({ message }: Progress) => notice?.say(message),
    end: () => notice?.end(),
  };
}

/** Creates a box, and says what the server does meanwhile. */
export async function createWithProgress(client: BoxRunClient, input: CreateBoxInput): Promise<Box> {
  const { onProgress, end } = createProgressNotice();
  try {
    return await client.create(input, { onProgress });
  } finally {
    end();
  }
}
