// One client of the chaos test. It does random operations on its own boxes, one after the other, and has a model of the
// allowed answers. An acknowledged change must stay. An answer may be missing only if a fault explains it. After a
// create without an answer, the actor looks for the box at once. After another change without an answer, the box is
// `unsure` until its next acknowledged change, or until the end of the round.
import { BoxRunError, type Box, type BoxRunClient, type Exec } from '../../../src/sdk/index.ts';
import { collectPatiently, expectWhole, inTime } from './crash-arena.ts';
import type { Random } from '../runs/random.ts';

/** Tells which faults the killer has made. An actor needs it to judge an answer. */
export interface Faults {
  /** True when any process was hit after `since`, is hit now, or was hit so recently that answers may be missing. */
  anySince(since: number): boolean;
  /** True when the worker or the engine of the box was hit after `since`, or at most 1 s before. */
  onBoxSince(boxId: string, since: number): boolean;
}

interface ModelExec {
  readonly id: string;
  readonly startedAt: number;
  /** True when the actor has asked for the end of the command or of its box. Then its output may be incomplete. */
  ended: boolean;
  /** True when the cancel was acknowledged. */
  canceled?: boolean;
  /** True when the command does not end by itself. */
  sleeps: boolean;
}

interface ModelBox {
  readonly name: string;
  readonly id: string;
  status: 'running' | 'stopped';
  /**
   * True when the actor does not know the state: a create, start, stop or removal got no answer, or an expected refusal
   * did not come. The next acknowledged start or stop makes it false.
   */
  unsure: boolean;
  removing: boolean;
  /**
   * The time before the last acknowledged start or stop, or of the last look at the box. Earlier faults do not count.
   */
  sureAt: number;
  execs: ModelExec[];
}

export interface ActorOptions {
  readonly name: string;
  readonly client: BoxRunClient;
  readonly random: Random;
  readonly faults: Faults;
  readonly onOperation: (kind: string) => void;
  readonly onViolation: (what: string) => void;
}

const transientCodes = new Set(['UNAVAILABLE', 'TIMEOUT', 'CANCELED']);
const boxesMax = 2;
/** If a create got no answer, its box appears within this time, or never. */
const appearsWithinMs = 20_000;
const size = { image: 'base', cpu: 1, memory_mb: 64, disk_size_gb: 1 };

const operations = {
  create: 2,
  createAndDisconnect: 1,
  exec: 6,
  execInBackground: 4,
  execAndDisconnect: 2,
  cancel: 3,
  stop: 2,
  start: 3,
  remove: 1,
  run: 1,
  runAndDisconnect: 1,
};
type Operation = keyof typeof operations;
/** Each operation as often as its weight. */
const weightedOperations = (Object.keys(operations) as Operation[]).flatMap((kind) =>
  Array.from({ length: operations[kind] }, () => kind),
);

export class Actor {
  readonly #options: ActorOptions;
  readonly #boxes = new Map<string, ModelBox>();
  readonly #openCreates: { readonly name: string; readonly at: number }[] = [];
  /** The ids of boxes whose removal was acknowledged. */
  readonly #removed = new Set<string>();

  constructor(options: ActorOptions) {
    this.#options = options;
  }

  async act(): Promise<void> {
    const { random, onOperation } = this.#options;
    const kind = random.pick(weightedOperations);
    const box = this.#boxes.size === 0 ? null : random.pick([...this.#boxes.values()]);
    const fits = box === null || kind.startsWith('create') ? kind.startsWith('create') || kind.startsWith('run') : true;
    if (!fits || (kind.startsWith('create') && this.#boxes.size >= boxesMax)) return;
    onOperation(kind);
    try {
      await this.#operate(kind, box as ModelBox);
    } catch (error) {
      this.#violation(
        `${kind} of ${box?.id ?? 'a box'}: ${error instanceof BoxRunError ? error.code : ''} ${String(error)}`,
      );
    }
  }

  async #operate(kind: Operation, box: ModelBox): Promise<void> {
    switch (kind) {
      case 'create':
        return this.#create(null);
      case 'createAndDisconnect':
        return this.#create(this.#disconnectSoon());
      case 'exec':
        return this.#exec(box);
      case 'execInBackground': {
        await this.#startExec(box, this.#counting());
        return;
      }
      case 'execAndDisconnect':
        return this.#execAndDisconnect(box);
      case 'cancel':
        return this.#cancel(box);
      case 'stop':
        return this.#change(box, 'stopped', () => this.#options.client.stopBox(box.name));
      case 'start':
        return this.#change(box, 'running', () => this.#options.client.startBox(box.name));
      case 'remove':
        return this.#remove(box);
      case 'run':
        return this.#run(null);
      case 'runAndDisconnect':
        return this.#run(this.#disconnectSoon());
    }
  }

  /** Returns the answer, or null if a fault can explain that there is none. @throws an error that no fault explains */
  async #ask<T>(since: number, box: ModelBox | null, work: () => Promise<T>): Promise<T | null> {
    try {
      return await inTime(work(), 'an answer');
    } catch (error) {
      if (!(error instanceof BoxRunError)) throw error;
      const { faults } = this.#options;
      const excused = box === null ? faults.anySince(since) : box.unsure || faults.onBoxSince(box.id, box.sureAt);
      if (transientCodes.has(error.code) ? faults.anySince(since) || excused : excused) return null;
      throw error;
    }
  }

  async #create(signal: AbortSignal | null): Promise<void> {
    const { client, name: own } = this.#options;
    const name = [0, 1].map((index) => `${own}-${index}`).find((entry) => !this.#boxes.has(entry)) as string;
    const since = Date.now();
    const made = await this.#ask(since, null, () =>
      client.create({ ...size, name }, signal === null ? {} : { signal }),
    ).catch((error: unknown) => {
      if (!(error instanceof BoxRunError)) throw error;
      if (signal?.aborted === true && error.code === 'CANCELED') return null;
      if (error.code === 'NAME_ALREADY_EXISTS' && this.#mayHaveAppeared(name)) return null;
      throw error;
    });
    const found = made ?? (await this.#find(name));
    if (found === null) this.#openCreates.push({ name, at: Date.now() });
    else this.#record(name, found, { status: 'running', unsure: made === null });
  }

  /** True when the server may still be working on a create that got no answer and whose box was not there yet. */
  #mayHaveAppeared(name: string): boolean {
    return this.#openCreates.some((open) => open.name === name && open.at + appearsWithinMs > Date.now());
  }

  /** Adds a box to the model. Its create was answered, or an unanswered create explains it. */
  #record(name: string, { id }: Pick<Box, 'id'>, { status, unsure }: Pick<ModelBox, 'status' | 'unsure'>): void {
    if (this.#removed.has(id)) throw new Error(`${id} was removed, and is there`);
    const open = this.#openCreates.findIndex((entry) => entry.name === name);
    if (open >= 0) this.#openCreates.splice(open, 1);
    this.#boxes.set(name, { name, id, status, unsure, removing: false, sureAt: Date.now(), execs: [] });
  }

  /** Waits until no box with this name is in creation, and returns the box. Null: there is none, or not yet. */
  async #find(name: string) {
    const deadline = Date.now() + 90_000;
    for (;;) {
      try {
        const box = await this.#options.client.getBox(name);
        if (box.status !== 'creating') return box;
      } catch (error) {
        if (!(error instanceof BoxRunError)) throw error;
        if (error.code === 'BOX_NOT_FOUND') return null;
        if (!transientCodes.has(error.code)) throw error;
      }
      if (Date.now() > deadline) throw new Error(`${name} stays in creation`);
      await pause(50);
    }
  }

  #counting(): string[] {
    const lines = 50 + this.#options.random.below(1500);
    return [
      'sh',
      '-c',
      `i=0; while [ $i -lt ${lines} ]; do echo line-$i; i=$((i+1)); [ $((i%50)) = 0 ] && sleep 0.03; done; echo end-$i`,
    ];
  }

  async #startExec(box: ModelBox, cmd: string[], sleeps = false): Promise<(Exec & ModelExec) | null> {
    const startedAt = Date.now();
    if (box.status === 'stopped' && !box.unsure) {
      await this.#expectRefusal('BOX_NOT_RUNNING', box, startedAt, () =>
        this.#options.client.startExec(box.name, { cmd }),
      );
      return null;
    }
    const exec = await this.#ask(startedAt, box, () => this.#options.client.startExec(box.name, { cmd }));
    if (exec === null) return null;
    const model = { id: exec.id, startedAt, ended: false, sleeps };
    box.execs.push(model);
    return Object.assign(model, exec);
  }

  async #exec(box: ModelBox): Promise<void> {
    const exec = await this.#startExec(box, this.#counting());
    if (exec !== null) await this.#expectOutput(box, exec);
  }

  async #execAndDisconnect(box: ModelBox): Promise<void> {
    const exec = await this.#startExec(box, this.#counting());
    if (exec === null) return;
    try {
      for await (const event of this.#options.client.execEvents(
        { id: exec.id, box_id: box.id },
        { signal: this.#disconnectSoon() },
      ))
        void event;
    } catch (error) {
      if (!(error instanceof BoxRunError) || error.code !== 'CANCELED') throw error;
    }
    await this.#expectOutput(box, exec);
  }

  async #cancel(box: ModelBox): Promise<void> {
    const exec = await this.#startExec(box, ['sh', '-c', 'sleep 1000 & sleep 1000'], true);
    if (exec === null) return;
    await pause(this.#options.random.below(200));
    const model = box.execs.find(({ id }) => id === exec.id) as ModelExec;
    const canceled = await this.#ask(exec.startedAt, box, () => this.#options.client.cancelExec(box.name, exec.id));
    model.canceled = canceled !== null;
    model.ended = true;
  }

  async #change(box: ModelBox, status: ModelBox['status'], work: () => Promise<unknown>): Promise<void> {
    const since = Date.now();
    const wasSure = !box.unsure && !this.#options.faults.onBoxSince(box.id, box.sureAt);
    if (wasSure && box.status === status) {
      return this.#expectRefusal(status === 'running' ? 'BOX_ALREADY_RUNNING' : 'BOX_NOT_RUNNING', box, since, work);
    }
    for (const exec of box.execs) if (status === 'stopped') exec.ended = true;
    const done = await this.#ask(since, box, work);
    box.unsure = done === null;
    if (done !== null) Object.assign(box, { status, sureAt: since });
  }

  async #expectRefusal(code: string, box: ModelBox, since: number, work: () => Promise<unknown>): Promise<void> {
    const { faults } = this.#options;
    try {
      await work();
    } catch (error) {
      if (
        error instanceof BoxRunError &&
        (error.code === code || transientCodes.has(error.code) || faults.onBoxSince(box.id, box.sureAt))
      )
        return;
      throw error;
    }
    if (!faults.anySince(since) && !faults.onBoxSince(box.id, box.sureAt))
      throw new Error(`should be refused with ${code}`);
    box.unsure = true;
  }

  async #remove(box: ModelBox): Promise<void> {
    const since = Date.now();
    box.removing = true;
    for (const exec of box.execs) exec.ended = true;
    const removed = await this.#ask(since, box, () =>
      this.#options.client.removeBox(box.name, { force: true }).then(() => true),
    );
    if (removed !== true) box.unsure = true;
    else {
      this.#boxes.delete(box.name);
      this.#removed.add(box.id);
    }
  }

  async #run(signal: AbortSignal | null): Promise<void> {
    const since = Date.now();
    const input = { ...size, cmd: ['sh', '-c', signal === null ? 'echo out' : 'sleep 1000'] };
    try {
      const result = await this.#ask(since, null, () =>
        this.#options.client.run(input, signal === null ? {} : { signal }),
      );
      if (result !== null && result.stdout !== 'out\n' && !this.#options.faults.anySince(since))
        throw new Error(`said ${JSON.stringify(result)}`);
    } catch (error) {
      if (!(signal !== null && error instanceof BoxRunError && error.code === 'CANCELED')) throw error;
    }
  }

  /**
   * Expects that the output is complete, or that the exit event gives a reason. A reason is allowed only if the box was
   * hit, or if the actor has asked for the end.
   */
  async #expectOutput(box: ModelBox, exec: ModelExec): Promise<void> {
    let collected;
    try {
      collected = await inTime(
        collectPatiently(this.#options.client, { id: exec.id, box_id: box.id }),
        `the end of ${exec.id}`,
      );
    } catch (error) {
      const gone = error instanceof BoxRunError && ['EXEC_NOT_FOUND', 'BOX_NOT_FOUND'].includes(error.code);
      if (gone && box.removing) return;
      throw error;
    }
    if (exec.sleeps) return;
    const excused = exec.ended || this.#options.faults.onBoxSince(box.id, exec.startedAt);
    if (!excused && collected.exit.exitCode !== 0)
      throw new Error(`${exec.id} was not hit, and ended with ${collected.exit.error ?? collected.exit.exitCode}`);
    expectWhole(collected, /^end-(\d+)$/);
  }

  /**
   * Compares the model with the server. Call it only while no fault is active. Every acknowledged box must be there,
   * and every command must have its row and its output. Afterwards the model is sure about every box.
   */
  async expectTruth(): Promise<void> {
    const { client, faults } = this.#options;
    const found = new Map((await client.listBoxes()).map((box) => [box.name, box]));
    for (const box of [...this.#boxes.values()]) {
      const now = found.get(box.name);
      const sure = !box.unsure && !faults.onBoxSince(box.id, box.sureAt);
      if (now?.id !== box.id) {
        if (!box.removing) this.#violation(`${box.id} was acknowledged and is gone`);
        this.#boxes.delete(box.name);
        continue;
      }
      if (sure && now.status !== box.status) this.#violation(`${box.id} is ${now.status} and was left ${box.status}`);
      for (const exec of box.execs)
        await this.#expectKept(box, exec, now.status).catch((error: unknown) => {
          this.#violation(`${box.id}: ${String(error)}`);
        });
      Object.assign(box, {
        status: now.status === 'running' ? 'running' : 'stopped',
        unsure: now.status === 'error',
        removing: false,
        sureAt: Date.now(),
        execs: [],
      });
      found.delete(box.name);
    }
    for (const [name, box] of found) {
      if (name?.startsWith(`${this.#options.name}-`) !== true || this.#boxes.has(name)) continue;
      try {
        this.#record(name, box, { status: box.status === 'running' ? 'running' : 'stopped', unsure: false });
      } catch (error) {
        this.#violation(String(error));
      }
    }
  }

  async #expectKept(box: ModelBox, exec: ModelExec, status: string): Promise<void> {
    const row = await this.#options.client.getExec(box.id, exec.id);
    if (row.status === 'running' && status !== 'running')
      throw new Error(`${exec.id} is running in a box that is ${status}`);
    if (row.status === 'running' && exec.canceled === true) throw new Error(`${exec.id} was canceled and is running`);
    if (row.status === 'running' && exec.sleeps) await this.#options.client.cancelExec(box.id, exec.id);
    await this.#expectOutput(box, exec);
  }

  #disconnectSoon(): AbortSignal {
    return AbortSignal.timeout(this.#options.random.below(400));
  }

  #violation(what: string): void {
    this.#options.onViolation(`${this.#options.name}: ${what}`);
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
