// Tests heartbeats. Silence is first only noticed and later ends the connection, and any sign of life resets the count.
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { watchHeartbeat } from '../../../src/shared/waiting/heartbeat.ts';
import { limits } from '../../../src/shared/limits.ts';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

const tick = () => {
  vi.advanceTimersByTime(limits.heartbeatEveryMs);
};

describe('a heartbeat', () => {
  it('asks at each tick, and reports no silence if each is answered', () => {
    let silent = 0;
    let asked = 0;
    const heartbeat = watchHeartbeat({
      silenceMs: limits.silenceMs,
      ask: () => {
        asked++;
        heartbeat.heard();
      },
      onSilent: () => silent++,
    });
    for (let round = 0; round < 50; round++) tick();
    expect([asked, silent, heartbeat.isAnswering]).toEqual([50, 0, true]);
    heartbeat.stop();
  });

  it('reports doubt after a few misses, and reports silence once after more', () => {
    let silent = 0;
    const heartbeat = watchHeartbeat({ silenceMs: limits.silenceMs, onSilent: () => silent++ });
    tick(); // The first tick only begins to listen.
    for (let miss = 1; miss <= limits.silenceMs / limits.heartbeatEveryMs; miss++) {
      expect(silent).toBe(0);
      tick();
      expect(heartbeat.isAnswering).toBe(miss < limits.heartbeatDoubtMisses);
    }
    expect(silent).toBe(1);
    for (let round = 0; round < 20; round++) tick();
    expect(silent).toBe(1);
  });

  it('counts from zero again after the first sign of life', () => {
    let silent = 0;
    const heartbeat = watchHeartbeat({ silenceMs: limits.silenceMs, onSilent: () => silent++ });
    for (let round = 0; round < limits.silenceMs / limits.heartbeatEveryMs; round++) tick();
    expect(heartbeat.isAnswering).toBe(false);
    heartbeat.heard();
    expect(heartbeat.isAnswering).toBe(true);
    for (let round = 0; round < limits.silenceMs / limits.heartbeatEveryMs; round++) tick();
    expect(silent).toBe(0);
    heartbeat.stop();
  });
});
