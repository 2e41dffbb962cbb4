// Tests group commit against a real database file. Waiting changes are committed together, a bad change is undone
// alone, and an error of the database undoes the whole group.
import Database from 'better-sqlite3';
import { describe, expect, it, onTestFinished } from 'vitest';
import { BoxRunError } from '../../../src/shared/errors.ts';
import { limits } from '../../../src/shared/limits.ts';
import { createBatch, type Batch } from '../../../src/writer/batch.ts';
import { openWriter } from './setup.ts';

interface Numbers {
  readonly path: string;
  readonly db: Database.Database;
  readonly batch: Batch;
  readonly commits: () => number;
  /** A change that adds a number and returns it. */
  readonly add: (value: number) => () => number;
  /** The numbers that another process sees. */
  readonly seen: () => number[];
}

async function openNumbers(): Promise<Numbers> {
  const { db, path } = await openWriter();
  db.exec('CREATE TABLE numbers (value INTEGER PRIMARY KEY, padding BLOB) STRICT');
  let commits = 0;
  const prepare = db.prepare.bind(db);
  db.prepare = ((sql: string) => {
    const statement = prepare(sql);
    if (sql !== 'COMMIT') return statement;
    return {
      run: () => {
        commits++;
        return statement.run();
      },
    };
  }) as typeof db.prepare;
  const insert = db.prepare('INSERT INTO numbers VALUES (?, ?)');
  const reader = new Database(path, { readonly: true });
  onTestFinished(() => {
    reader.close();
  });
  return {
    path,
    db,
    batch: createBatch(db),
    commits: () => commits,
    add: (value) => () => {
      insert.run(value, Buffer.alloc(2000));
      return value;
    },
    seen: () => reader.prepare('SELECT value FROM numbers ORDER BY value').pluck().all() as number[],
  };
}

describe('a large change', () => {
  const large = { bytes: limits.largeChangeBytes, sender: 'loud' };

  it('waits for one group of small changes, and goes with the next group', async () => {
    const { batch, add, commits } = await openNumbers();
    const order: string[] = [];
    const submit = async (name: string, value: number, size = {}) => {
      await batch.submit(add(value), size);
      order.push(name);
    };
    const first = Promise.all([submit('large', 1, large), submit('small', 2), submit('other large', 3, large)]);
    const later = first.then(() => undefined);
    // The next small change arrives as soon as the previous one is committed.
    for (let value = 10; value < 15; value++) await submit(`small ${value}`, value);
    await later;
    expect(order.slice(0, 2)).toEqual(['small', 'small 10']);
    expect(order.indexOf('other large')).toBeLessThan(order.indexOf('small 12'));
    expect(commits()).toBeLessThanOrEqual(7);
  });

  it('waits while others send small ones, but never for long', async () => {
    const { batch, add, db } = await openNumbers();
    const slow = (value: number) => () => {
      db.exec(
        'WITH RECURSIVE count(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < 300000) SELECT max(n) FROM count',
      );
      return add(value)();
    };
    let isOver = false;
    let smallOnes = 0;
    const small = (async () => {
      while (!isOver) await batch.submit(add(1_000 + smallOnes++), { sender: 'other' });
    })();
    const startedAt = performance.now();
    const largeOnes = 10;
    for (let value = 0; value < largeOnes; value++) await batch.submit(slow(value), large);
    isOver = true;
    await small;
    expect(smallOnes).toBeGreaterThan(2 * largeOnes); // On average more than two small changes for each large one.
    expect(performance.now() - startedAt).toBeLessThan(5_000);
  });

  it('waits for nothing if there are no other changes', async () => {
    const { batch, add, commits } = await openNumbers();
    await Promise.all([batch.submit(add(1), large), batch.submit(add(2), large)]);
    expect(commits()).toBe(1);
  });
});

describe('a group of changes', () => {
  it('is all waiting changes in one transaction, and each gets its own result', async () => {
    const { batch, commits, add, seen } = await openNumbers();
    const values = await Promise.all(Array.from({ length: 200 }, (_, value) => batch.submit(add(value))));
    expect(values).toEqual(Array.from({ length: 200 }, (_, value) => value));
    expect(seen()).toEqual(values);
    expect(commits()).toBe(1);
  });

  it('is committed before any of its changes is answered', async () => {
    const { batch, add, seen } = await openNumbers();
    const heard: number[] = [];
    await Promise.all(
      [1, 2, 3].map(async (value) => {
        await batch.submit(add(value));
        heard.push(value);
        expect(seen()).toEqual([1, 2, 3]);
      }),
    );
    expect(heard).toEqual([1, 2, 3]);
  });

  it('applies changes in the order in which they were submitted, also across groups', async () => {
    const { batch } = await openNumbers();
    const order: number[] = [];
    const submit = (value: number) => batch.submit(() => order.push(value));
    const first = submit(1);
    void submit(2);
    await first;
    void submit(3);
    await submit(4);
    expect(order).toEqual([1, 2, 3, 4]);
  });

  it('has a limited number of operations, and the rest goes into the next group', async () => {
    const { batch, commits, add } = await openNumbers();
    const half = limits.groupOpsMax / 2;
    await Promise.all([1, 2, 3, 4, 5].map((value) => batch.submit(add(value), { operations: half })));
    expect(commits()).toBe(3);
    await batch.submit(add(6), { operations: limits.groupOpsMax * 3 });
    expect(commits()).toBe(4);
  });

  it('is followed by another with the changes that arrive during its answers', async () => {
    const { batch, add, seen } = await openNumbers();
    for (let value = 0; value < 50; value++) await batch.submit(add(value));
    expect(seen()).toHaveLength(50);
  });
});

describe('a bad change', () => {
  it('is undone alone and completely, and its sender gets the error', async () => {
    const { batch, commits, add, seen } = await openNumbers();
    const outcomes = await Promise.allSettled([
      batch.submit(add(1)),
      batch.submit(() => {
        add(2)();
        throw new BoxRunError('CANCELED', 'too old');
      }),
      batch.submit(() => {
        add(3)();
        add(3)(); // The second insert breaks a constraint.
      }),
      batch.submit(add(4)),
    ]);
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected', 'fulfilled']);
    expect(outcomes[1]).toMatchObject({ reason: { code: 'CANCELED' } });
    expect(outcomes[2]).toMatchObject({ reason: { code: expect.stringContaining('CONSTRAINT') as unknown } });
    expect(seen()).toEqual([1, 4]);
    expect(commits()).toBe(1);
  });

  it('does not prevent the commit of the next group', async () => {
    const { batch, add, seen } = await openNumbers();
    await expect(
      batch.submit(() => {
        throw new Error('bad');
      }),
    ).rejects.toThrow('bad');
    await batch.submit(add(1));
    expect(seen()).toEqual([1]);
  });
});

describe('an error of the database', () => {
  async function expectNothingButUnavailable(outcomes: PromiseSettledResult<unknown>[]): Promise<void> {
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'UNAVAILABLE' } });
    }
  }

  it('rejects all changes with UNAVAILABLE while the disk is full, leaves no half change, and passes', async () => {
    const { db, batch, add, seen } = await openNumbers();
    await batch.submit(add(0));
    db.pragma(`max_page_count = ${(db.pragma('page_count', { simple: true }) as number) + 3}`);
    const waiting = Array.from({ length: 40 }, (_, index) => batch.submit(add(index + 1)));
    await expectNothingButUnavailable(await Promise.allSettled(waiting));
    expect(seen()).toEqual([0]);
    db.pragma('max_page_count = 100000');
    await Promise.all(Array.from({ length: 40 }, (_, index) => batch.submit(add(index + 1))));
    expect(seen()).toHaveLength(41);
  });

  it('rejects all changes with UNAVAILABLE while another program holds the database', async () => {
    const { path, db, batch, add, seen } = await openNumbers();
    db.pragma('busy_timeout = 0');
    const holder = new Database(path);
    onTestFinished(() => {
      holder.close();
    });
    holder.exec('BEGIN IMMEDIATE');
    await expectNothingButUnavailable(await Promise.allSettled([batch.submit(add(1)), batch.submit(add(2))]));
    holder.exec('ROLLBACK');
    await batch.submit(add(3));
    expect(seen()).toEqual([3]);
  });

  it('in the middle of one change undoes the others of its group too', async () => {
    const { batch, add, seen } = await openNumbers();
    const waiting = [
      batch.submit(add(1)),
      batch.submit(() => {
        throw Object.assign(new Error('disk I/O error'), { code: 'SQLITE_IOERR_WRITE' });
      }),
    ];
    await expectNothingButUnavailable(await Promise.allSettled(waiting));
    expect(seen()).toEqual([]);
  });

  it('rejects all changes with UNAVAILABLE while the file is read-only, even those that only read', async () => {
    const { db, batch, add, seen } = await openNumbers();
    db.pragma('query_only = ON');
    await expectNothingButUnavailable(
      await Promise.allSettled([batch.submit(() => 'reads only'), batch.submit(add(2))]),
    );
    db.pragma('query_only = OFF');
    await batch.submit(add(3));
    expect(seen()).toEqual([3]);
  });
});

describe('waiting until the batch is idle', () => {
  it('ends at once if no change waits, and otherwise after the last commit', async () => {
    const { batch, add, seen } = await openNumbers();
    await batch.idle();
    void batch.submit(add(1), { operations: limits.groupOpsMax });
    void batch.submit(add(2), { operations: limits.groupOpsMax });
    await batch.idle();
    expect(seen()).toEqual([1, 2]);
  });
});
