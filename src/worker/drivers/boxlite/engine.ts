// The engine's native binding. It gives the rest of this folder the engine's types and an opened runtime. In this
// folder, a runtime is the engine's open handle of a home. A home has one runtime at a time: the process that opened it
// holds a lock until the process exits.
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
  /** Registries that the engine asks over plain http, as host:port. */
  readonly insecureRegistries: readonly string[];
  /** The directory for the engine's own programs. Null: the engine's default. */
  readonly runtimeDir: string | null;
}

/** A worker that was killed holds its lock until the kernel has removed the process. */
const lockWaitMs = 3_000;
const lockRetryMs = 50;

/**
 * Loads the binding.
 * @param runtimeDir the directory for the engine's own programs, or null for the engine's default
 * @throws RUNTIME_ERROR when the binding cannot be loaded
 */
export async function loadEngine(runtimeDir: string | null) {
  // The engine has no option for this directory. It only reads this variable.
  if (runtimeDir !== null) process.env['BOXLITE_RUNTIME_DIR'] = runtimeDir;
  return import('@boxlite-ai/boxlite').then(
    (binding) => binding.getJsBoxlite(),
    (error: unknown) => {
      throw engineError(error, 'loading the BoxLite engine');
    },
  );
}

/**
 * Opens the runtime of a home. Waits a short time for the lock of a worker that was killed.
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
