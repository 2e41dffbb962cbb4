// Detects that the process on the other side of a connection hangs. Such a process keeps its connections open, so only
// its silence shows that it hangs. Silence is counted in ticks of this process's own timer: after a sleep of the host,
// or on a busy host, this process misses ticks too, so it does not suspect the other one.
import { limits } from '../limits.ts';

/** The reason given for closing a connection when the other side was silent for too long. */
export const noSignOfLife = 'no sign of life within BOXRUN_SILENCE_MS';

export interface Heartbeat {
  /** To be called when anything arrives from the other side. */
  heard(): void;
  /** False after limits.heartbeatDoubtMisses ticks of silence. */
  readonly isAnswering: boolean;
  stop(): void;
}

export interface HeartbeatOptions {
  /** Called at each tick, to ask the other side for a sign of life. */
  readonly ask?: () => void;
  /** Milliseconds of silence (Config.silenceMs) until `onSilent` is called. */
  readonly silenceMs: number;
  /** Called once. */
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
