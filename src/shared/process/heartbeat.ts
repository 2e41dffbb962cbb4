// Whether the other side of a connection still does anything: a process that hangs keeps its connections open, and its
// silence is all that shows it. Used by ipc/client.ts (asks, and is answered) and own-process.ts (the child beats by
// itself). Silence is counted in ticks of this process's own clock: a host that slept, or a busy one, accuses nobody.
import { limits } from '../limits.ts';

/** The reason with which a connection ends whose other side gave no sign of life. */
export const noSignOfLife = 'no sign of life within BOXRUN_SILENCE_MS';

export interface Heartbeat {
  /** Anything came from the other side. */
  heard(): void;
  /** False after limits.heartbeatDoubtMisses ticks of silence. */
  readonly isAnswering: boolean;
  stop(): void;
}

export interface HeartbeatOptions {
  /** Called at each tick, so that there is something to hear. */
  readonly ask?: () => void;
  /** Called once, after so many milliseconds of silence (Config.silenceMs). */
  readonly silenceMs: number;
  readonly onSilent: () => void;
}

export function watchHeartbeat({ ask, silenceMs, onSilent }: HeartbeatOptions): Heartbeat {
  let silent = false;
  let misses = 0;
  const timer = setInterval(() => {
    misses = silent ? misses + 1 : 0;
    silent = true;
    if (misses * limits.heartbeatEveryMs < silenceMs) {
      ask?.();
      return;
    }
    clearInterval(timer);
    onSilent();
  }, limits.heartbeatEveryMs);
  timer.unref();
  return {
    heard() {
      silent = false;
      misses = 0;
    },
    get isAnswering() {
      return misses < limits.heartbeatDoubtMisses;
    },
    stop() {
      clearInterval(timer);
    },
  };
}
