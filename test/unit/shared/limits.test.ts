// How the limits relate. Some code is only correct because one limit is larger than another, so a test fails here when
// somebody changes one limit and not the other.
import { describe, expect, it } from 'vitest';
import { graceSMax } from '../../../src/shared/request-bounds.ts';
import { limits } from '../../../src/shared/limits.ts';
import { capTable } from '../../../src/shared/settings/caps.ts';

const mib = 1024 * 1024;
/** An output event is sent as a line of JSON; this much is around the data: names of fields, seq, stream. */
const eventEnvelopeBytes = 1024;
/** JSON writes a control character as \u0000, which has six bytes. */
const jsonBytesPerByteMost = 6;

function base64Bytes(bytes: number): number {
  return Math.ceil(bytes / 3) * 4;
}

describe('sizes of messages', () => {
  it('let a commit request fit into a frame, although its last change passes the bound', () => {
    expect(limits.commitBytesMax + limits.eventBytesMax).toBeLessThan(limits.frameBytesMax / 2);
  });

  it('let the longest body fit into a frame, whatever --max-body-mb says', () => {
    expect(capTable.bodyMb.most * mib).toBeLessThanOrEqual(limits.frameBytesMax / 2);
    expect(limits.bodyBytesMax).toBeLessThanOrEqual(capTable.bodyMb.most * mib);
  });

  it('let the answer of a run that is kept under a key fit into a frame, even if JSON escapes each byte', () => {
    expect(2 * limits.keptOutputBytesMax * jsonBytesPerByteMost).toBeLessThan(limits.frameBytesMax);
  });

  it('keep an event as base64 shorter than a line of Go’s bufio.Scanner', () => {
    expect(base64Bytes(limits.eventBytesMax) + eventEnvelopeBytes).toBeLessThan(64 * 1024);
  });

  it('let a block of a file as base64 fit into the ring of BoxLite', () => {
    expect(base64Bytes(limits.fileBlockBytes)).toBeLessThan(mib);
  });

  it('let output that is sent at once be whole events', () => {
    expect(limits.outputFlushBytes % limits.eventBytesMax).toBe(0);
  });
});

describe('buffers', () => {
  it('have room for what one commit publishes', () => {
    expect(limits.commitBytesMax + limits.eventBytesMax).toBeLessThan(limits.feedBufferBytesMax);
    expect(limits.commitBytesMax + limits.eventBytesMax).toBeLessThan(limits.followerBufferBytesMax);
  });

  it('have room for a page of history, with the event that passes its bound', () => {
    expect(limits.replayPageBytes + limits.eventBytesMax).toBeLessThan(limits.replayBytesMax);
    expect(limits.replayPageBytes + limits.eventBytesMax).toBeLessThan(limits.followerBufferBytesMax);
  });

  it('let a worker have several commit requests that the writer has not acknowledged', () => {
    expect(limits.unackedBytesMax).toBeGreaterThanOrEqual(4 * limits.commitBytesMax);
  });

  it('of one client are no larger than those of all clients', () => {
    expect(limits.feedBufferBytesMax).toBeLessThanOrEqual(limits.feedsBufferBytesMax);
    expect(limits.webSocketBufferBytesMax).toBeLessThanOrEqual(limits.webSocketsBufferBytesMax);
    expect(2 * limits.runOutputBytesMax).toBeLessThanOrEqual(limits.runsOutputBytesMax);
  });

  it('let the half that one client may have hold its longest message, body and page', () => {
    expect(limits.webSocketMessageBytesMax).toBeLessThanOrEqual(limits.webSocketsIncomingBytesMax / 2);
    expect(limits.bodyBytesMax).toBeLessThanOrEqual(limits.bodiesHeldBytesMax / 2);
    expect(limits.replayPageBytes).toBeLessThanOrEqual(limits.unreadBytesMax / 2);
  });

  it('shrink no further than to a least that is below the usual size', () => {
    expect(limits.replayPageBytesLeast).toBeLessThan(limits.replayPageBytes);
    expect(limits.webSocketBufferBytesLeast).toBeLessThan(limits.webSocketBufferBytesMax);
  });

  it('let a whole commit request go into one group, and let it be large', () => {
    expect(limits.commitOpsMax).toBeLessThan(limits.groupOpsMax);
    expect(limits.largeChangeBytes).toBeLessThan(limits.commitBytesMax);
  });
});

describe('deadlines of processes', () => {
  it('let a silent process be doubted before it is given up', () => {
    expect(limits.heartbeatDoubtMisses * limits.heartbeatEveryMs).toBeLessThan(limits.silenceMs);
  });

  it('let a gateway wait for everything that it waits for before the keeper gives it up', () => {
    const waitsMs = limits.helloTimeoutMs + limits.peersWaitMs + limits.listenWaitMs;
    expect(waitsMs).toBeLessThan(limits.childReadyMs);
  });

  it('let a gateway end its streams before the keeper kills it', () => {
    expect(limits.gatewayCloseMs).toBeLessThan(limits.childStopMs);
  });

  it('let a supervisor that ends see its spare workers leave or be killed', () => {
    expect(limits.workerExitMs + limits.killTimeoutMs).toBeLessThan(limits.supervisorEndMs);
  });

  it('let a supervisor that stops its boxes give each the longest grace', () => {
    expect(limits.supervisorStopMs).toBe(limits.stopGraceMsMax + limits.boxStopTimeoutMs + limits.childStopMs);
  });

  it('let the token of a stream outlive the connection that uses it', () => {
    expect(limits.connectTimeoutMs + limits.helloTimeoutMs).toBeLessThan(limits.streamTokenMs);
  });

  it('let a sample of the usage be done before the next one begins', () => {
    expect(2 * limits.healthTimeoutMs).toBeLessThan(limits.usageSampleMs);
    expect(limits.usageSampleMs * limits.usageSamplesMax).toBe(60 * 60 * 1000);
  });
});

describe('deadlines of boxes and commands', () => {
  it('let a stop wait for the ends of commands, their output and its commit', () => {
    const waitsMs =
      limits.killTimeoutMs + limits.commandEndReportMs + limits.exitDrainBusyMs + Math.ceil(limits.workerExitMs / 2);
    expect(waitsMs).toBeLessThan(limits.boxStopTimeoutMs);
  });

  it('let a worker that hangs be killed before the stop that it was asked for fails', () => {
    const noticedMs = limits.workerPulsesMissedMax * (limits.workerPulseMs + limits.helloTimeoutMs);
    expect(noticedMs).toBeLessThan(limits.boxStopTimeoutMs);
    expect(noticedMs).toBeLessThan(limits.boxRemoveTimeoutMs);
  });

  it('let a box that hangs hold up the next one for a moment only', () => {
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

describe('the disk', () => {
  it('has room for the reserve and the margin when nothing new is admitted any more', () => {
    expect(limits.diskMarginBytes + limits.diskReserveBytes).toBeLessThan(limits.freeDiskBytesMin);
  });
});
