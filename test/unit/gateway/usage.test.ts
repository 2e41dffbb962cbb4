// Tests the hour of figures that a gateway keeps, against a double of the supervisor: how CPU seconds become CPUs, when
// there is a gap, and how readers end.
import { expect, it, onTestFinished, vi } from 'vitest';
import { createUsage, type UsageMessage } from '../../../src/gateway/figures/usage.ts';
import type { SupervisorContract } from '../../../src/shared/contracts/supervisor.ts';
import { BoxRunError } from '../../../src/shared/errors.ts';
import type { ResultOf } from '../../../src/shared/ipc/contract.ts';
import { temporaryDirectory } from '../../support/runs/unit.ts';

type Told = ResultOf<SupervisorContract, 'usage'>;

/** A supervisor with one running box, which has used one more second of CPU at each request. */
function createBench({ fails = () => false }: { fails?: (asked: number) => boolean } = {}) {
  let asked = 0;
  const tell = (): Told => ({
    cpusHeld: 2,
    memoryHeldMb: 128,
    running: 1,
    boxes: 2,
    engines: [{ boxId: 'box_1', cpuSeconds: asked, memoryBytes: 3 * 2 ** 20 }],
  });
  const request = () => {
    asked++;
    return fails(asked) ? Promise.reject(new BoxRunError('UNAVAILABLE', 'it is away')) : Promise.resolve(tell());
  };
  const left = new AbortController();
  const usage = createUsage({
    supervisor: { request: request as never },
    maxBoxes: 9,
    stateDir: temporaryDirectory(),
    everyMs: 20,
  });
  usage.start(left.signal);
  return { usage, left };
}

async function take(messages: AsyncGenerator<UsageMessage, void, void>, count: number): Promise<UsageMessage[]> {
  const taken: UsageMessage[] = [];
  for await (const message of messages) {
    taken.push(message);
    if (taken.length === count) break;
  }
  return taken;
}

it('a reader of figures gets the history and then every sample, with the CPUs used since the one before', async () => {
  // Under load a real timer may be late, and its next turn then comes at once.
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] });
  onTestFinished(() => {
    vi.useRealTimers();
  });
  const { usage, left } = createBench();
  const messages = usage.read(left.signal);
  const next = async () => (await messages.next()).value as UsageMessage;
  const first = await next();
  const rest = [await next()];
  for (let count = 0; count < 2; count++) {
    vi.advanceTimersByTime(20);
    rest.push(await next());
  }
  expect(first).toEqual({ kind: 'history', value: { samples: [], boxes: {} } });
  const samples = rest.flatMap((each) => (each.kind === 'sample' ? [each.value] : []));
  expect(samples[0]).toMatchObject({
    sample: { boxes_running: 1, boxes: 2, max_boxes: 9, cpu_reserved: 2, memory_reserved_mb: 128, cpu_used: 0 },
    boxes: { box_1: { cpu_used: null, memory_used_mb: 3 } },
  });
  const [{ sample: one } = { sample: null }] = samples;
  expect(one?.disk_free_mb).toBeGreaterThan(0);
  expect(one?.disk_size_mb).toBeGreaterThanOrEqual(one?.disk_free_mb ?? Infinity);
  for (const { sample, boxes } of samples.slice(1)) {
    expect(sample.cpu_used).toBe(50); // One second of CPU in 20 ms.
    expect(boxes['box_1']?.cpu_used).toBe(sample.cpu_used);
  }
  const [again] = await take(usage.read(left.signal), 1);
  expect(again?.kind === 'history' && again.value.samples.slice(0, 3)).toEqual(samples.map(({ sample }) => sample));
  left.abort();
});

it('the figures have a gap while the supervisor is away, and continue afterwards', async () => {
  const { usage, left } = createBench({ fails: (asked) => asked % 2 === 0 });
  const messages = await take(usage.read(left.signal), 4);
  expect(messages.map(({ kind }) => kind)).toEqual(['history', 'sample', 'sample', 'sample']);
  left.abort();
});

it('a reader of figures ends when it is canceled', async () => {
  const { usage, left } = createBench({ fails: () => true });
  const reading = take(usage.read(left.signal), 2);
  left.abort();
  await expect(reading).rejects.toMatchObject({ code: 'CANCELED' });
});
