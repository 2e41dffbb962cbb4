// The native binding: loaded before a spare worker has a box, and opened once for a home. The rest of this folder sees
// only the types below, so that what the engine calls things stays here. A home has one runtime at a time, guarded by a
// lock that its process holds until it exits.
import type { Boxlite } from '@boxlite-ai/boxlite';
import { sleep } from '../../../shared/waiting/clock.ts';
import { errorText } from '../../../shared/errors.ts';
import { engineError } from './engine-errors.ts';

export type EngineRuntime = Boxlite;
export type EngineBox = Awaited<ReturnType<Boxlite['create']>>;
export type EngineBoxOptions = Parameters<Boxlite['create']>[0];
export type EngineExec = Awaited<ReturnType<EngineBox['exec']>>;

export interface EngineOptions {
  readonly homeDir: string;
  /** Registries reached over plain http, as host:port. */
  readonly insecureRegistries: readonly string[];
  /** Where the engine keeps its own programs; its default where null. */
  readonly runtimeDir: string | null;
}

/** A predecessor that was killed holds its lock until the kernel has taken it down. */
const lockWaitMs = 3_000;
const lockRetryMs = 50;

/** @throws RUNTIME_ERROR when the binding cannot be loaded */
export async function loadEngine(runtimeDir: string | null) {
  // The engine reads this variable itself, and has no option for it.
  if (runtimeDir !== null) process.env['BOXLITE_RUNTIME_DIR'] = runtimeDir;
  return import('@boxlite-ai/boxlite').then(
    (binding) => binding.getJsBoxlite(),
    (error: unknown) => {
      throw engineError(error, 'loading the BoxLite engine');
    },
  );
}

/**
 * Opens the home's runtime.
 * @throws RUNTIME_ERROR when the binding cannot be loaded or another process has the home open
 */
export async function openEngine(options: EngineOptions): Promise<EngineRuntime> {
  const JsBoxlite = await loadEngine(options.runtimeDir);
  const imageRegistries = options.insecureRegistries.map((host) => ({ host, transport: 'http' as const }));
  const deadline = Date.now() + lockWaitMs;
  for (;;) {
    try {
      return new JsBoxlite({ homeDir: options.homeDir, imageRegistries });
    } catch (error) {
      if (!/runtime lock/i.test(errorText(error)) || Date.now() > deadline) {
        throw engineError(error, 'opening the home of the box');
      }
      await sleep(lockRetryMs);
    }
  }
}
