// Tests how the limits relate to each other. Some code is only correct because one limit is larger than another, so a
// test fails here if only one of them is changed.
import { describe, expect, it } from 'vitest';
import { graceSMax } from '../../../src/shared/request-bounds.ts';
import { limits } from '../../../src/shared/limits.ts';
import { capTable } from '../../../src/shared/settings/caps.ts';

const mib = 1024 * 1024;
/** An output event is sent as a line of JSON. This many bytes are around its data: names of fields, seq, stream. */
const eventEnvelopeBytes = 1024;
/** JSON writes a control character as \u0000, which has six bytes. */
const jsonBytesPerByteMost = 6;

function base64Bytes(bytes: number): number {
  return Math.ceil(bytes / 3) * 4;
}

describe('the sizes of messages', () => {
  it('let a commit request fit into a frame, although its last change may exceed the limit', () => {
    expect(limits.commitBytesMax + limits.eventBytesMax).toBeLessThan(limits.frameBytesMax / 2);
  });

  it('let the longest body fit into a frame for every value of --max-body-mb', () => {
    expect(capTable.bodyMb.most * mib).toBeLessThanOrEqual(limits.frameBytesMax / 2);
    expect(limits.bodyBytesMax).toBeLessThanOrEqual(capTable.bodyMb.most * mib);
  });

  it('let the kept answer of a run fit into a frame, even if JSON escapes each byte', () => {
    expect(2 * limits.keptOutputBytesMax * jsonBytesPerByteMost).toBeLessThan(limits.frameBytesMax);
  });

  it('keep an event as base64 shorter than a line of Go’s bufio.Scanner', () => {
    expect(base64Bytes(limits.eventBytesMax) + eventEnvelopeBytes).toBeLessThan(64 * 1024);
  });

  it('let a block of a file as base64 fit into the ring of BoxLite', () => {
    expect(base64Bytes(limits.fileBlockBytes)).toBeLessThan(mib);
  });

  it('divide output that is sent at once into whole events', () => {
    expect(limits.outputFlushBytes % limits.eventBytesMax).toBe(0);
  });
});

describe('the sizes of buffers', () => {
  it('are enough for one commit', () => {
    expect(limits.commitBytesMax + limits.eventBytesMax).toBeLessThan(limits.feedBufferBytesMax);
    expect(limits.commitBytesMax + limits.eventBytesMax).toBeLessThan(limits.followerBufferBytesMax);
  });

  it('are enough for a page of history and one more event', () => {
    expect(limits.replayPageBytes + limits.eventBytesMax).toBeLessThan(limits.replayBytesMax);
    expect(limits.replayPageBytes + limits.eventBytesMax).toBeLessThan(limits.followerBufferBytesMax);
  });

  it('let a worker have several unacknowledged commit requests', () => {
    expect(limits.unackedBytesMax).toBeGreaterThanOrEqual(4 * limits.commitBytesMax);
  });

  it('are not larger for one client than for all clients', () => {
    expect(limits.feedBufferBytesMax).toBeLessThanOrEqual(limits.feedsBufferBytesMax);
    expect(limits.webSocketBufferBytesMax).toBeLessThanOrEqual(limits.webSocketsBufferBytesMax);
    expect(2 * limits.runOutputBytesMax).toBeLessThanOrEqual(limits.runsOutputBytesMax);
  });

  it('are large enough for the longest message, body and page in the half of one client', () => {
    expect(limits.webSocketMessageBytesMax).toBeLessThanOrEqual(limits.webSocketsIncomingBytesMax / 2);
    expect(limits.bodyBytesMax).toBeLessThanOrEqual(limits.bodiesHeldBytesMax / 2);
    expect(limits.replayPageBytes).toBeLessThanOrEqual(limits.unreadBytesMax / 2);
  });

  it('have a smallest value that is below the usual size', () => {
    expect(limits.replayPageBytesLeast).toBeLessThan(limits.replayPageBytes);
    expect(limits.webSocketBufferBytesLeast).toBeLessThan(limits.webSocketBufferBytesMax);
  });

  it('let a whole commit request fit into one group, and count it as large', () => {
    expect(limits.commitOpsMax).toBeLessThan(limits.groupOpsMax);
    expect(limits.largeChangeBytes).toBeLessThan(limits.commitBytesMax);
  });
});

describe('the deadlines of processes', () => {
  it('let a silent process be doubted before it is killed', () => {
    expect(limits.heartbeatDoubtMisses * limits.heartbeatEveryMs).toBeLessThan(limits.silenceMs);
  });

  it('let a gateway finish its waits before the keeper kills it', () => {
    const waitsMs = limits.helloTimeoutMs + limits.peersWaitMs + limits.listenWaitMs;
    expect(waitsMs).toBeLessThan(limits.childReadyMs);
  });

  it('let a gateway end its streams before the keeper kills it', () => {
    expect(limits.gatewayCloseMs).toBeLessThan(limits.childStopMs);
  });

  it('let a supervisor that ends wait until its spare workers have exited or are killed', () => {
    expect(limits.workerExitMs + limits.killTimeoutMs).toBeLessThan(limits.supervisorEndMs);
  });

  it('let a supervisor that stops its boxes give each box the longest grace', () => {
    expect(limits.supervisorStopMs).toBe(limits.stopGraceMsMax + limits.boxStopTimeoutMs + limits.childStopMs);
  });

  it('let the token of a stream outlive the connection that uses it', () => {
    expect(limits.connectTimeoutMs + limits.helloTimeoutMs).toBeLessThan(limits.streamTokenMs);
  });

  it('let one sample of the usage end before the next one begins', () => {
    expect(2 * limits.healthTimeoutMs).toBeLessThan(limits.usageSampleMs);
    expect(limits.usageSampleMs * limits.usageSamplesMax).toBe(60 * 60 * 1000);
  });
});

describe('the deadlines of boxes and commands', () => {
  it('let a stop wait for the ends of commands, for their output and for its commit', () => {
    const waitsMs =
      limits.killTimeoutMs + limits.commandEndReportMs + limits.exitDrainBusyMs + Math.ceil(limits.workerExitMs / 2);
    expect(waitsMs).toBeLessThan(limits.boxStopTimeoutMs);
  });

  it('let a worker that hangs be killed before its stop fails', () => {
    const noticedMs = limits.workerPulsesMissedMax * (limits.workerPulseMs + limits.helloTimeoutMs);
    expect(noticedMs).toBeLessThan(limits.boxStopTimeoutMs);
    expect(noticedMs).toBeLessThan(limits.boxRemoveTimeoutMs);
  });

  it('let a box that hangs delay the next one only for a short time', () => {
    expect(limits.boxTurnMs).toBeLessThan(limits.boxStartTimeoutMs / 10);
  });

  it('allow the same longest grace in milliseconds and in seconds', () => {
    expect(limits.stopGraceMsMax).toBe(graceSMax * 1000);
    expect(limits.stopGraceMs).toBeLessThanOrEqual(limits.stopGraceMsMax);
    expect(limits.removeGraceMs).toBeLessThanOrEqual(limits.stopGraceMs);
  });

  it('hold the answer to an exec for less time than its caller waits', () => {
    expect(limits.execHoldLeastMs).toBeLessThan(limits.execHoldMostMs);
    expect(limits.execHoldMostMs).toBeLessThan(limits.requestTimeoutMs);
  });
});

describe('the reserve of the disk', () => {
  it('fits with the margin into the space at which new boxes are refused', () => {
    expect(limits.diskMarginBytes + limits.diskReserveBytes).toBeLessThan(limits.freeDiskBytesMin);
  });
});
