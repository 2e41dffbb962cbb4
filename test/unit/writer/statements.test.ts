// Tests the statements that change a real database. Each has the same effect when it is repeated, and a lease that has
// ended changes nothing any more.
import { describe, expect, it } from 'vitest';
import { limits } from '../../../src/shared/limits.ts';
import { openReader } from '../../../src/shared/store/reader.ts';
import { addEvent, boxRow, execRow, finishExec, insertExec, logEvent, openWriter, type OpenWriter } from './setup.ts';

const boxId = boxRow().id;
const execId = execRow().id;
const at = '2026-02-02T00:00:00.000Z';

function dump({ rows }: OpenWriter) {
  return ['boxes', 'execs', 'events'].map((table) => rows(`SELECT * FROM ${table} ORDER BY 1, 2, 3`));
}

/** A box with one running command that has written three lines. */
async function openWithExec(): Promise<OpenWriter> {
  const writer = await openWriter();
  const { statements } = writer;
  statements.insertBox(boxRow({ name: 'one' }));
  statements.changeExec(insertExec());
  for (const seq of [0, 1, 2]) statements.changeExec(addEvent(execId, logEvent(seq)));
  return writer;
}

describe('a change that is repeated', () => {
  const changes: Record<string, (writer: OpenWriter) => unknown> = {
    insertBox: ({ statements }) => {
      statements.insertBox(boxRow({ name: 'one' }));
    },
    'insertBox of another': ({ statements }) => {
      statements.insertBox(boxRow({ id: 'box_b', name: 'two' }));
    },
    updateBox: ({ statements }) => {
      statements.updateBox(boxId, { state: 'stopped', status: 'stopped', stopped_at: at });
    },
    openLease: ({ statements }) => {
      statements.openLease(boxId, 2);
    },
    closeLease: ({ statements }) => statements.closeLease(boxId, 1, 'worker exited', at),
    insert: ({ statements }) => {
      statements.changeExec(insertExec({ id: 'exec_b' }));
    },
    event: ({ statements }) => {
      statements.changeExec(addEvent(execId, logEvent(3)));
    },
    finish: ({ statements }) => {
      statements.changeExec(finishExec(execId));
    },
    removeBox: ({ statements }) => {
      while (!statements.removeBoxSlice(boxId).isDone);
    },
  };
  for (const [name, change] of Object.entries(changes)) {
    it(`has the same effect: ${name}`, async () => {
      const writer = await openWithExec();
      change(writer);
      const once = dump(writer);
      change(writer);
      expect(dump(writer)).toEqual(once);
    });
  }

  it('has the same effect for the whole life of a command, when each part is sent again', async () => {
    const once = await openWithExec();
    const twice = await openWithExec();
    const life = [
      insertExec(),
      ...[0, 1, 2, 3].map((seq) => addEvent(execId, logEvent(seq))),
      addEvent(execId, { seq: 4, type: 'exit', stream: null, data: Buffer.from('{"exit_code":0}') }),
      finishExec(execId),
    ];
    for (const change of life) once.statements.changeExec(change);
    for (let upTo = 1; upTo <= life.length; upTo++)
      for (const change of life.slice(0, upTo)) twice.statements.changeExec(change);
    const withoutIds = (writer: OpenWriter) =>
      writer.rows('SELECT exec_id, seq, type, stream, data FROM events ORDER BY seq');
    expect(withoutIds(twice)).toEqual(withoutIds(once));
    expect(twice.rows('SELECT * FROM execs')).toEqual(once.rows('SELECT * FROM execs'));
  });

  it('does not replace an event that has other text', async () => {
    const writer = await openWithExec();
    writer.statements.changeExec(addEvent(execId, logEvent(1, 'forged')));
    expect(writer.value('SELECT data FROM events WHERE seq = 1')).toEqual(Buffer.from('line 1'));
  });

  it('does not finish a command for a second time', async () => {
    const { statements, value } = await openWithExec();
    statements.changeExec(finishExec(execId));
    statements.changeExec({ op: 'finish', execId, status: 'failed', exitCode: 1, errorMessage: 'late', at });
    expect(value('SELECT status FROM execs')).toBe('succeeded');
  });
});

describe('a box row', () => {
  it('is read from the database as it was written', async () => {
    const { statements, path } = await openWriter();
    const full = boxRow({
      name: 'full',
      ephemeral: true,
      network: true,
      labels: { a: 'b' },
      generation: 7,
      image_source: { kind: 'registry', reference: 'docker.io/library/alpine:3.20' },
    });
    statements.insertBox(full);
    const reader = openReader(path);
    expect(reader.boxRows()).toEqual([full]);
    reader.close();
  });

  it('is refused if its name is taken, and the name is free when its box is renamed or removed', async () => {
    const { statements } = await openWriter();
    statements.insertBox(boxRow({ name: 'n' }));
    const other = boxRow({ id: 'box_other', name: 'n' });
    expect(() => {
      statements.insertBox(other);
    }).toThrow(expect.objectContaining({ code: 'NAME_ALREADY_EXISTS' }) as Error);
    statements.updateBox(boxId, { name: null });
    statements.insertBox(other);
    expect(statements.removeBoxSlice('box_other')).toMatchObject({
      isDone: true,
      removed: { id: 'box_other', name: 'n' },
    });
    expect(statements.removeBoxSlice('box_other')).toEqual({ isDone: true, removed: null });
    statements.insertBox(boxRow({ id: 'box_third', name: 'n' }));
  });

  it('gets BOX_NOT_FOUND for a change if it does not exist', async () => {
    const { statements } = await openWriter();
    expect(() => {
      statements.updateBox('box_none', { name: null });
    }).toThrow(expect.objectContaining({ code: 'BOX_NOT_FOUND' }) as Error);
    expect(() => {
      statements.openLease('box_none', 1);
    }).toThrow(expect.objectContaining({ code: 'BOX_NOT_FOUND' }) as Error);
  });

  it('changes only in the columns that are named', async () => {
    const { statements, rows } = await openWriter();
    statements.insertBox(boxRow({ name: 'n' }));
    const [before] = rows('SELECT * FROM boxes');
    statements.updateBox(boxId, { error_message: 'x' });
    statements.updateBox(boxId, {});
    expect(rows('SELECT * FROM boxes')).toEqual([{ ...before, error_message: 'x' }]);
  });
});

describe('a lease', () => {
  it('allows writes only with its own generation', async () => {
    const { statements } = await openWithExec();
    statements.checkLease(boxId, 1);
    statements.openLease(boxId, 2);
    statements.checkLease(boxId, 2);
    for (const generation of [0, 1, 3]) {
      expect(() => {
        statements.checkLease(boxId, generation);
      }).toThrow(expect.objectContaining({ code: 'CANCELED' }) as Error);
    }
    expect(() => {
      statements.checkLease('box_removed', 2);
    }).toThrow(expect.objectContaining({ code: 'CANCELED' }) as Error);
  });

  it('cannot be opened again after a newer one was opened', async () => {
    const { statements, value } = await openWithExec();
    statements.openLease(boxId, 5);
    expect(() => {
      statements.openLease(boxId, 4);
    }).toThrow(expect.objectContaining({ code: 'CANCELED' }) as Error);
    expect(value('SELECT generation FROM boxes')).toBe(5);
  });

  it('ends the running commands when it is closed, with an exit event right after their last event', async () => {
    const { statements, rows } = await openWithExec();
    statements.changeExec(insertExec({ id: 'exec_silent' }));
    statements.changeExec(insertExec({ id: 'exec_done' }));
    statements.changeExec(finishExec('exec_done'));
    const ended = statements.closeLease(boxId, 1, 'worker exited', at);
    expect(() => {
      statements.checkLease(boxId, 1);
    }).toThrow();
    expect(ended.map(({ exec, event }) => [exec.id, event.seq, event.type]).sort()).toEqual([
      [execId, 3, 'exit'],
      ['exec_silent', 0, 'exit'],
    ]);
    expect(rows(`SELECT status, exit_code, error_message, finished_at FROM execs WHERE id = ?`, execId)).toEqual([
      {
        status: 'failed',
        exit_code: null,
        error_message: 'worker exited; output after seq 2 may be missing',
        finished_at: at,
      },
    ]);
    const [last] = rows('SELECT seq, type, data FROM events WHERE exec_id = ? ORDER BY seq DESC LIMIT 1', execId);
    expect(last).toMatchObject({ seq: 3, type: 'exit' });
    expect(JSON.parse(String(last?.['data']))).toEqual({
      exit_code: null,
      error: 'worker exited; output after seq 2 may be missing',
    });
    expect(rows('SELECT status FROM execs WHERE id = ?', 'exec_done')).toEqual([{ status: 'succeeded' }]);
  });

  it('does not touch its successor when it is closed late', async () => {
    const { statements, value } = await openWithExec();
    statements.openLease(boxId, 2);
    statements.changeExec(insertExec({ id: 'exec_new', generation: 2 }));
    const ended = statements.closeLease(boxId, 1, 'worker exited', at);
    expect(ended.map(({ exec }) => exec.id)).toEqual([execId]);
    statements.checkLease(boxId, 2);
    expect(value(`SELECT status FROM execs WHERE id = 'exec_new'`)).toBe('running');
  });

  it('can be closed without an error if its box is gone', async () => {
    const { statements } = await openWriter();
    expect(statements.closeLease('box_none', 3, 'x', at)).toEqual([]);
  });
});

describe('removing the rows of a box', () => {
  it('happens in slices, includes its commands and events, and nothing of other boxes', async () => {
    const writer = await openWithExec();
    const { statements, db, value } = writer;
    statements.insertBox(boxRow({ id: 'box_other' }));
    statements.changeExec(insertExec({ id: 'exec_other', box_id: 'box_other' }));
    statements.changeExec(addEvent('exec_other', logEvent(0)));
    db.transaction(() => {
      for (let seq = 3; seq < limits.deleteSliceRows * 2; seq++)
        statements.changeExec(addEvent(execId, logEvent(seq, '')));
    })();
    for (let slice = 0; ; slice++) {
      const before = value('SELECT count(*) FROM events') as number;
      const { isDone } = statements.removeBoxSlice(boxId);
      const after = value('SELECT count(*) FROM events') as number;
      expect(before - after).toBeLessThanOrEqual(limits.deleteSliceRows + 16);
      if (isDone) {
        expect(slice).toBeGreaterThan(1);
        break;
      }
      expect(slice).toBeLessThan(1_000); // On a slow machine a slice ends sooner.
    }
    expect(dump(writer).map((rows) => rows.length)).toEqual([1, 1, 1]);
  });
});

describe('the last seq of a command', () => {
  it('is the one of its last event, and -1 before the first event', async () => {
    const { statements } = await openWithExec();
    statements.changeExec(insertExec({ id: 'exec_silent' }));
    expect(statements.lastSeq(execId)).toBe(2);
    expect(statements.lastSeq('exec_silent')).toBe(-1);
    expect(statements.lastSeq('exec_unknown')).toBe(-1);
  });
});
