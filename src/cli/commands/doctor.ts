// The command doctor: finds out by probes whether this host can run boxes, and what is missing if it cannot.
// Its exit code is 0 if the chosen driver works. It changes nothing but its own files in the state directory.
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { loadConfig, type Config, type DriverName } from '../../shared/settings/config.ts';
import { makeStateDirectories } from '../../shared/settings/state-dir.ts';
import type { AgentUse } from '../../shared/api.ts';
import { errorText } from '../../shared/errors.ts';
import { jsonOption } from '../parsing/box-options.ts';
import { defineCommand } from '../parsing/command.ts';
import { printJson } from '../render/render.ts';

const drivers: readonly DriverName[] = ['boxlite', 'container'];

/** Programs that the container driver and image imports use, each with its Debian package. */
const tools: readonly (readonly [string, string])[] = [
  ['crun', 'crun'],
  ['runc', 'runc (instead of crun)'],
  ['skopeo', 'skopeo'],
  ['umoci', 'umoci'],
  ['zstd', 'zstd'],
  ['busybox', 'busybox-static'],
  ['catatonit', 'catatonit'],
  ['slirp4netns', 'slirp4netns'],
  ['nft', 'nftables'],
  ['iptables', 'iptables'],
  ['setpriv', 'util-linux'],
  ['flock', 'util-linux'],
  ['unshare', 'util-linux'],
];

/** How long `doctor` waits for the server's figures. */
const usageTimeoutMs = 5_000;

/** The result of one check. */
export interface Finding {
  /** Null if the result is only information. */
  readonly good: boolean | null;
  readonly what: string;
  readonly problems?: readonly string[];
}

type Report = (good: boolean | null, what: string, problems?: readonly string[]) => void;

export const doctorCommand = defineCommand({
  name: 'doctor',
  describe: 'check whether this host can run boxes, and what is missing',
  options: {
    driver: {
      type: 'text',
      choices: ['boxlite', 'container'],
      describe: 'the driver that must work for exit code 0',
      shownDefault: 'BOXRUN_DRIVER, else boxlite',
    },
    fresh: { type: 'flag', describe: 'try the drivers again, even if a stored result is still valid' },
    json: jsonOption,
  },
  examples: [['doctor --driver container', 'exit code 0 if containers work on this host']],
  async run({ driver, fresh, json }) {
    const config = loadConfig({ driver });
    const findings: Finding[] = [];
    const report: Report = (good, what, problems = []) => {
      findings.push({ good, what, problems });
      if (json) return;
      process.stdout.write(`${good === null ? '  --  ' : good ? '  ok  ' : '  NO  '}${what}\n`);
      for (const problem of problems) process.stdout.write(`        ${problem}\n`);
    };
    const works = await examine(config, report, fresh);
    if (json) printJson({ ok: works, driver: config.driver, findings });
    else if (!works && config.driver === 'boxlite') {
      process.stdout.write(
        'Boxes can run as containers, which are less isolated from the host: boxrun serve --driver container\n',
      );
    }
    return works ? 0 : 1;
  },
});

/**
 * Runs all checks and reports each result. Returns true if the chosen driver works.
 * @param fresh probes the drivers again, even if a stored result is still valid
 */
export async function examine(config: Config, report: Report, fresh = false): Promise<boolean> {
  reportNode(report);
  if (!reportStateDirectory(config, report)) return false;
  report(null, `limits: ${config.maxCpu} CPUs, ${config.maxMemoryMb} MiB over all boxes`);
  for (const [tool, source] of tools) {
    const path = findTool(tool);
    report(
      path === null ? null : true,
      path === null ? `${tool} is not installed; package ${source}` : `${tool}: ${path}`,
    );
  }
  reportKvm(report);
  await reportServiceGroup(config, report);
  await reportBoxes(report);
  const [{ probeDriver }, { createWaitNotice }] = await Promise.all([
    import('../heavy.ts'),
    import('../render/waiting.ts'),
  ]);
  let chosenWorks = false;
  for (const driver of drivers) {
    const chosen = driver === config.driver;
    const notice = createWaitNotice(`trying the driver ${driver}, which may take 20 s`);
    const { ok, problems, isKept } = await probeDriver({ ...config, driver }, { fresh }).finally(() => {
      notice.end();
    });
    if (chosen) chosenWorks = ok;
    const verdict = `${ok ? 'works' : 'does not work here'}${isKept ? ' (stored result; `boxrun doctor --fresh` tries again)' : ''}`;
    report(ok ? true : chosen ? false : null, `driver ${driver}${chosen ? ' (chosen)' : ''}: ${verdict}`, problems);
  }
  return chosenWorks;
}

function reportNode(report: Report): void {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const good = major > 20 || (major === 20 && minor >= 19);
  report(
    good,
    `Node ${process.versions.node}${good ? '' : '; 20.19 or newer is needed'} on ${process.platform} ${process.arch}`,
  );
}

function reportStateDirectory({ stateDir }: Config, report: Report): boolean {
  try {
    makeStateDirectories(stateDir);
    accessSync(stateDir, constants.R_OK | constants.W_OK | constants.X_OK);
    report(true, `state directory ${stateDir}`);
    return true;
  } catch (error) {
    report(false, `state directory ${stateDir}: ${errorText(error)}`);
    return false;
  }
}

function reportKvm(report: Report): void {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    report(null, '/dev/kvm can be opened; see the result of the driver boxlite for whether VMs work');
  } catch (error) {
    report(null, `/dev/kvm: ${errorText(error)}; the boxlite driver needs it`);
  }
}

/** Reports whether the boxes of a server started here would survive the end of its control group. */
async function reportServiceGroup({ stateDir }: Config, report: Report): Promise<void> {
  try {
    const { testLeaving } = await import('../heavy.ts');
    const place = await testLeaving(stateDir);
    if (place === null)
      report(null, 'boxes need not leave the control group of the server: nothing ends its processes by this group');
    else report(true, `boxes leave the control group of the server (tried: ${place})`);
  } catch (error) {
    report(null, 'boxes stay in the control group of the server, and end with the server', [
      errorText(error),
      'in a unit file, KillMode=process keeps boxes running; `boxrun service install` writes such a unit file',
    ]);
  }
}

const agentReasonTexts = {
  off: 'the agent is switched off',
  host: 'the agent is not used on this kind of host',
  earlier_version: 'the box was started by an earlier version',
  not_started: 'the agent did not start',
} as const;

/** If a server runs, reports how the commands of its running boxes start. */
async function reportBoxes(report: Report): Promise<void> {
  try {
    const { isServerUp, withRunningServer } = await import('../server/running-server.ts');
    if (!(await isServerUp())) return;
    await withRunningServer(async (client) => {
      const counts = new Map<string, number>();
      for await (const { boxes } of client.usage({ signal: AbortSignal.timeout(usageTimeoutMs) })) {
        for (const { agent } of Object.values(boxes)) {
          const text =
            agent === undefined ? 'not known, because their workers are of an earlier version' : wayOf(agent);
          counts.set(text, (counts.get(text) ?? 0) + 1);
        }
        break;
      }
      for (const [way, count] of counts) report(null, `commands of ${count} running boxes: ${way}`);
      return 0;
    });
  } catch (error) {
    report(null, `the server did not say how commands of its boxes start: ${errorText(error)}`);
  }
}

function wayOf({ way, reason }: AgentUse): string {
  if (way !== 'none') return `by the agent, over ${way === 'vsock' ? 'vsock' : 'a socket'}`;
  return `without the agent${reason === null ? '' : `: ${agentReasonTexts[reason]}`}`;
}

function findTool(name: string): string | null {
  for (const directory of (process.env['PATH'] ?? '').split(delimiter)) {
    const path = join(directory, name);
    try {
      accessSync(path, constants.X_OK);
      if (statSync(path).isFile()) return path;
    } catch {
      // Not in this directory.
    }
  }
  return null;
}
