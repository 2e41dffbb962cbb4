// The environment that clients give to boxes and commands. Keys of our own and of the engine's never reach an engine:
// they would change how it works, not what runs in it.

const reserved = /^(BOXLITE|BOXRUN)_/;

/** `body` with an environment that has no reserved keys. */
export function withCleanEnvironment<B extends { env?: Readonly<Record<string, string>> | null }>(body: B): B {
  if (body.env === null || body.env === undefined) return body;
  return { ...body, env: Object.fromEntries(Object.entries(body.env).filter(([key]) => !reserved.test(key))) };
}
