// Command lines that users of docker type, and what boxrun does: it does the same, or it fails with a hint.
// The table in docs/cli.md says the same in words.
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Box } from '../../src/sdk/index.ts';
import { cliBundle, startServer, type TestServer } from '../support/servers/server.ts';

interface Result {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const size = '--cpu 1 -m 64m';
let server: TestServer;
let directory: string;

beforeAll(async () => {
  server = await startServer({ maxCpu: 16 });
  directory = await mkdtemp(join(tmpdir(), 'boxrun-habits-'));
  await writeFile(join(directory, 'a.txt'), 'a\n');
  await writeFile(join(directory, 'b.txt'), 'b\n');
  await writeFile(join(directory, 'some.env'), '# a comment\nFROM_FILE=yes\nFROM_HERE\nNOT_SET_HERE\n');
  await writeFile(join(directory, 'boxrun'), `#!/bin/sh\nexec "${process.execPath}" -- "${cliBundle}" "$@"\n`, {
    mode: 0o755,
  });
});
afterAll(async () => {
  await rm(directory, { recursive: true, force: true });
  await server.close();
});

/** Runs one line in a shell, in which `boxrun` is the program. */
function shell(line: string, extra: NodeJS.ProcessEnv = {}): Promise<Result> {
  const env = { ...server.env, PATH: `${directory}:${process.env['PATH']}`, FROM_HERE: 'here', ...extra };
  return new Promise((resolve) => {
    const child = execFile('bash', ['--norc', '-c', line], { cwd: directory, env }, (error, stdout, stderr) => {
      resolve({ code: typeof error?.code === 'number' ? error.code : error === null ? 0 : -1, stdout, stderr });
    });
    child.stdin?.end();
  });
}

const names = async (status: 'all' | Box['status'] = 'all') =>
  (await server.client.listBoxes())
    .filter((box) => status === 'all' || box.status === status)
    .map(({ name, id }) => name ?? id)
    .sort();

/** Makes sure that the boxes `web` and `db` run, and that no others exist. */
async function startOver(): Promise<void> {
  const missing = new Set(['web', 'db']);
  for (const box of await server.client.listBoxes()) {
    if (box.status === 'running' && missing.delete(box.name ?? '')) continue;
    await server.client.removeBox(box.id, { force: true, graceS: 0 });
  }
  for (const name of missing)
    await server.client.create({ image: 'base', name, cpu: 1, memory_mb: 64, labels: { app: name } });
}

beforeEach(startOver);

describe('works as in docker:', () => {
  it.each([
    ['boxrun exec web ls -l /', /bin/],
    ['boxrun exec web sh -c "exit 3"; echo $?', /^3\n$/],
    ['boxrun exec web echo -t 5 -- --help', /^-t 5 -- --help\n$/],
    ['boxrun exec -w /tmp web pwd', /^\/tmp\n$/],
    ["boxrun exec -e A=1 -eB=2 web sh -c 'echo $A$B'", /^12\n$/],
    ['boxrun exec -e FROM_HERE -e NOT_SET_HERE web env', /^(?![^]*NOT_SET_HERE)[^]*FROM_HERE=here\n/],
    ['boxrun exec --env-file some.env web env', /^(?![^]*NOT_SET_HERE)(?=[^]*FROM_HERE=here\n)[^]*FROM_FILE=yes\n/],
    ['boxrun exec -u 1000:1000 web id -u', /^1000\n$/],
    ['boxrun exec -t web sh -c "[ -t 1 ] && echo yes"', /^yes\r?\n$/],
    ['echo input | boxrun exec -i web cat', /^input\n$/],
    ['boxrun exec -d web sleep 1', /^exec_[\w-]{12}\n$/],
    [`boxrun run --rm ${size} base echo hello`, /^hello\n$/],
    [`boxrun run ${size} base sh -c 'echo $0 -- $1' x y`, /^x -- y\n$/],
    [`echo input | boxrun run -i ${size} base cat`, /^input\n$/],
    [`boxrun run -w /tmp ${size} base pwd`, /^\/tmp\n$/],
    ['boxrun run --cpus 1 -m 64m base echo hello', /^hello\n$/],
    ['boxrun create --cpus 0.5 -m 64m -n new base && boxrun inspect -f "{{.cpu}} {{.cpu_limit}}" new', /\n1 0\.5\n$/],
    [
      'boxrun create -n new -l a=b --cpu 1 -m 64m base >id.txt; boxrun label new stage=test a- && boxrun label new',
      /^stage=test\nstage=test\n$/,
    ],
    [`boxrun run -d --name new ${size} base sleep 60`, /^box_[\w-]{12}\nexec_[\w-]{12}\n$/],
    [`boxrun run --name new -l a=b ${size} base echo hello`, /^hello\n$/],
    [`boxrun run -v "$PWD:/here:ro" ${size} base cat /here/a.txt`, /^a\n$/],
    ['boxrun create --name new --cpu 1 -m 64m base', /^box_[\w-]{12}\nName: new\n/],
    ['boxrun ps', /^ID +NAME +STATUS/],
    ['boxrun ps -a', /web/],
    ['boxrun ps -q', /^box_[\w-]{12}\nbox_[\w-]{12}\n$/],
    ['boxrun ps -aq --no-trunc', /^box_[\w-]{12}\nbox_[\w-]{12}\n$/],
    ['boxrun list', /web/],
    ['boxrun ps --format "{{.Names}}\\t{{.labels.app}}"', /^db\tdb\nweb\tweb\n$|^web\tweb\ndb\tdb\n$/],
    ['boxrun ps --format json', /^(\{"id":"box_.*\}\n){2}$/],
    ['boxrun inspect -f "{{.status}} {{json .labels}}" web', /^running \{"app":"web"\}\n$/],
    ['boxrun inspect web db', /^\[[^]*"name": "web"[^]*"name": "db"[^]*\]\n$/],
    ['boxrun stop web', /Status: stopped/],
    ['boxrun stop web db', /^web: stopped\ndb: stopped\n$/],
    ['boxrun stop web && boxrun start web', /Status: running/],
    ['boxrun restart web', /^box_[\w-]{12}\nStatus: running\n$/],
    ['boxrun restart --grace 1 web db', /^web: running\ndb: running\n$/],
    ['boxrun rename web site && boxrun ps', /site/],
    ['boxrun stats --no-stream', /^ID +NAME +CPU +CPUS +MEMORY.*\n(box_.* % .*iB \/ 64\.0 MiB .*\n){2}$/],
    ['boxrun stats --no-stream --format "{{.Name}} {{.memory_limit_bytes}}" web', /^web 67108864\n$/],
    ['timeout -s INT 3 boxrun stats --json web | head -n 2', /^(\{"id":"box_.*"name":"web".*\}\n){2}$/],
    ['boxrun kill web', /Status: stopped/],
    ['boxrun rm -f web db', /^Removed: web\nRemoved: db\n$/],
    ['boxrun rm -f $(boxrun ps -aq)', /^Removed: box_[\w-]{12}\nRemoved: box_[\w-]{12}\n$/],
    ['boxrun exec web echo first; boxrun logs web', /^first\nfirst\n$/],
    ['boxrun exec -d web sleep 321; boxrun top web', / sleep 321\n$/],
    ['boxrun exec web seq 5 >seq.txt; boxrun logs --tail 2 web', /^4\n5\n$/],
    ['boxrun exec web seq 5 >seq.txt; boxrun logs -f -n 1 web', /^5\n$/],
    ['boxrun exec -d web sh -c "exit 7" >id.txt; boxrun wait web', /^7\n$/],
    ['boxrun cp a.txt web:/tmp/a && boxrun exec web cat /tmp/a', /^a\n$/],
    ['boxrun cp a.txt b.txt web:/tmp && boxrun exec web cat /tmp/a.txt /tmp/b.txt', /^a\nb\n$/],
    ['mkdir -p dir && cp a.txt dir && boxrun cp -a dir web:/tmp && boxrun exec web ls /tmp/dir', /^a.txt\n$/],
    ['boxrun cp web:/etc/passwd - | wc -l', /^\d+\n$/],
    ['boxrun images', /base/],
    ['boxrun image ls -q', /base/],
    ['boxrun images --format "{{.name}}" --no-trunc', /^base\n$/m],
    ['boxrun pull base', /^Ready: base\n$/],
    ['boxrun version', /^\d+\.\d+\.\d+\n$/],
    ['boxrun -v', /^\d+\.\d+\.\d+\n$/],
    ['boxrun info', /container/],
    ['boxrun stop db && boxrun prune -f', /Removed: 1\n$/],
    ['boxrun --help', /ps/],
  ])('%s', async (line, output) => {
    const { code, stdout, stderr } = await shell(line);
    expect({ code, stderr, stdout }).toMatchObject({ code: 0, stdout: expect.stringMatching(output) as unknown });
  });
});

describe('fails with a hint, and changes nothing:', () => {
  it.each([
    [`boxrun run -p 80:80 ${size} base true`, 2, 'boxrun forward BOX 8080:80'],
    [`boxrun create --publish 80:80 ${size} base`, 2, 'boxrun forward BOX 8080:80'],
    ['boxrun run --cpus 0 base true', 2, 'such as 0.5'],
    ['boxrun create --cpu 1 --cpus 1.5 base', 2, 'leave --cpu out'],
    [`boxrun run -d --rm ${size} base true`, 2, 'boxrun rm -f'],
    [`boxrun run ${size} base`, 2, 'boxrun run alpine ls -l'],
    [`boxrun run -it ${size} base sh`, 2, 'needs a terminal'],
    ['boxrun create -it base', 2, 'boxrun exec -it BOX sh'],
    ['boxrun create -d base', 2, '--disk must be'],
    ['boxrun exec web', 2, 'boxrun exec web ls -l'],
    ['boxrun exec web -it sh', 2, 'before the box'],
    ['boxrun stop -t 10 web', 2, '--grace 10'],
    ['boxrun stop', 2, 'boxrun stop web'],
    ['boxrun rm --all', 2, 'boxrun rm -f --all'],
    ['boxrun prune', 2, 'boxrun prune -f'],
    ['boxrun rm web', 1, 'boxrun rm -f web'],
    ['boxrun kill -s TERM web', 2, 'boxrun execs web'],
    ['boxrun logs -t web', 2, 'carry no times'],
    ['boxrun ps --filter name=web', 2, '--label'],
    ['boxrun ps --format "{{.Ports}}"', 2, 'the fields are id, name,'],
    ['boxrun ps --format "{{range .labels}}"', 2, '{{json .field}}'],
    ['boxrun ps --format "table {{.ID}}"', 2, 'leave --format out'],
    ['boxrun ps -q --format json', 2, 'choose one'],
    ['boxrun stats nobody', 1, "there is no box 'nobody'"],
    ['boxrun rename web db', 1, '[NAME_ALREADY_EXISTS]'],
    ['boxrun rename web', 2, 'boxrun rename --help'],
    ['boxrun label web stage', 2, 'KEY- to remove it'],
    ['boxrun restart', 2, 'boxrun restart web'],
    ['boxrun pull 127.0.0.1:9/no:image', 1, 'registry not reachable'],
    ['boxrun rmi no-such-image', 1, '[NOT_FOUND]'],
    ['boxrun build .', 2, 'boxrun images import NAME PATH'],
    ['boxrun container ls', 2, 'boxrun ls'],
    ['boxrun crate base', 2, 'did you mean create?'],
    ['boxrun create --nmae x base', 2, 'did you mean --name?'],
  ])('%s', async (line, exitCode, hint) => {
    const { code, stdout, stderr } = await shell(line);
    expect({ code, stdout, stderr }).toMatchObject({ code: exitCode, stdout: '' });
    expect(stderr).toContain(hint);
    expect(await names('running')).toEqual(['db', 'web']);
  });
});

describe('several boxes', () => {
  it('are all removed, although one of them does not exist', async () => {
    const { code, stdout, stderr } = await shell('boxrun rm -f web nobody db');
    expect({ code, stdout }).toEqual({ code: 1, stdout: 'Removed: web\nRemoved: db\n' });
    expect(stderr).toContain("[BOX_NOT_FOUND] there is no box 'nobody'");
    expect(await names()).toEqual([]);
  });

  it('are chosen by a label, or all of them', async () => {
    expect((await shell('boxrun stop -l app=db')).stdout).toBe('db: stopped\n');
    expect(await names('running')).toEqual(['web']);
    expect((await shell('boxrun start --all')).stdout).toBe('db: running\n');
    expect((await shell('boxrun rm -f --all')).code).toBe(0);
    expect(await names()).toEqual([]);
  });

  it('give a list with --json, and one named box an object', async () => {
    expect(JSON.parse((await shell('boxrun stop --json web db')).stdout)).toMatchObject([
      { name: 'web', status: 'stopped' },
      { name: 'db', status: 'stopped' },
    ]);
    expect(JSON.parse((await shell('boxrun start --json web')).stdout)).toMatchObject({ name: 'web' });
    expect(JSON.parse((await shell('boxrun rm --json db')).stdout)).toEqual({ removed: 'db' });
  });
});

it('a box of a run is removed, and the box of a detached run stays', async () => {
  await shell(`echo | boxrun run -i --name gone ${size} base cat`);
  await shell(`boxrun run -d --name stays ${size} base sleep 60`);
  expect(await names('running')).toEqual(['db', 'stays', 'web']);
});

it('an interrupt while a run creates its own box leaves no box', async () => {
  // The box is in the list from the beginning of its create, so the signal comes during the create or soon after it.
  const line = [
    `boxrun run -i --name soon ${size} base cat </dev/zero >/dev/null & run=$!`,
    'until boxrun ps | grep -q soon; do kill -0 $run || exit 9; done',
    'kill -INT $run; wait $run; echo $?',
  ].join('\n');
  const { stdout } = await shell(line);
  expect(stdout).toBe('130\n');
  expect(await names()).toEqual(['db', 'web']);
});

it('the beginning of an id means its box or command, if it is the beginning of one id only', async () => {
  const { id } = await server.client.getBox('web');
  expect((await shell(`boxrun exec ${id.slice(0, 12)} echo found`)).stdout).toBe('found\n');
  const [exec] = await server.client.listExecs('web');
  expect((await shell(`boxrun logs ${id.slice(0, 12)} ${exec?.id.slice(0, 13) ?? ''}`)).stdout).toBe('found\n');
  expect((await shell(`boxrun cp ${id.slice(0, 12)}:/etc/passwd - | head -n 1`)).stdout).toMatch(/^root:/);
  expect((await shell('boxrun rm -f box_')).stderr).toContain('[BOX_NOT_FOUND]');
  expect(await names()).toEqual(['db', 'web']);
});

it('kill ends one command, with a signal if it is named', async () => {
  const first = (await shell('boxrun exec -d web sleep 60')).stdout.trim();
  expect((await shell(`boxrun kill web ${first}`)).stdout).toBe(`${first}: canceled\n`);
  const second = (await shell('boxrun exec -d web sleep 60')).stdout.trim();
  expect((await shell(`boxrun kill -s SIGTERM web ${second}`)).code).toBe(0);
  expect((await shell(`boxrun wait web ${second}`)).stdout).toBe('143\n');
  expect((await shell('boxrun kill -s NOTHING web exec_x')).code).toBe(2);
});

describe('colours', () => {
  it('appear with --color always, and never in a pipe or with NO_COLOR on a terminal', async () => {
    const green = '\x1b[32mrunning';
    expect((await shell('boxrun ps --color always')).stdout).toContain(green);
    expect((await shell('boxrun ps')).stdout).not.toContain('\x1b');
    const onTerminal = 'script -qec "boxrun ps" /dev/null';
    expect((await shell(onTerminal, { TERM: 'xterm' })).stdout).toContain(green);
    expect((await shell(onTerminal, { TERM: 'xterm', NO_COLOR: '1' })).stdout).not.toContain(green);
  });

  it('do not change the text of errors in a pipe', async () => {
    expect((await shell('boxrun rm web')).stderr).toMatch(
      /^Error: \[BOX_ALREADY_RUNNING\] .*\nHint: boxrun rm -f web\n$/,
    );
  });
});

it('a failed pull is one line with a hint, and --verbose shows what the registry client wrote', async () => {
  const line = 'boxrun create --cpu 1 127.0.0.1:9/no:image';
  const pattern =
    /Error: \[IMAGE_PULL_FAILED\] cannot pull 127\.0\.0\.1:9\/no:image: registry not reachable\nHint: .*\n$/;
  expect((await shell(line)).stderr).toMatch(pattern);
  expect((await shell(`${line} --verbose`)).stderr).toContain('connection refused');
  expect((await shell(line, { BOXRUN_VERBOSE: '1' })).stderr).toContain('connection refused');
});

it('the program bin/boxrun takes --env-file itself, and Node does not', async () => {
  const program = join(import.meta.dirname, '../../bin/boxrun');
  const missing = await shell(`"${program}" create --env-file no-such-file base`);
  expect(missing).toMatchObject({ code: 2, stdout: '' });
  expect(missing.stderr).toContain('--env-file no-such-file cannot be read');
});
