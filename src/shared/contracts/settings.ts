// The settings that a living worker takes over from the next `serve`. The writer takes over those for the log, and the
// retention (WriterSettings in writer.ts). Both can outlive the `serve` that started them. All other settings are used
// only when a process or a box starts.
import { createHash } from 'node:crypto';
import { Type, type Static } from 'typebox';
import type { Config } from '../settings/config.ts';

export const LogSettings = Type.Object({
  logLevel: Type.String(),
  logFormat: Type.Union([Type.Literal('json'), Type.Literal('pretty')]),
});

export const WorkerSettings = Type.Object({
  ...LogSettings.properties,
  orphanGraceMs: Type.Integer({ minimum: 0 }),
  outputMb: Type.Integer({ minimum: 1 }),
  execs: Type.Integer({ minimum: 1 }),
});
export type WorkerSettings = Static<typeof WorkerSettings>;

export function workerSettingsOf({ logLevel, logFormat, orphanGraceMs, caps }: Config): WorkerSettings {
  return { logLevel, logFormat, orphanGraceMs, outputMb: caps.outputMb, execs: caps.execs };
}

/**
 * A digest of all settings. Two digests are equal only if the settings are equal. A new supervisor keeps a spare worker
 * only if its digest and its build are equal.
 */
export function settingsDigest(config: Config): string {
  return createHash('sha256').update(JSON.stringify(config)).digest('hex');
}
