// The environment variables that clients give to boxes and commands. Variables of BoxRun and BoxLite never reach an
// engine, because they would change how the engine works instead of reaching the program in the box.

const reserved = /^(BOXLITE|BOXRUN)_/;

/** Gives `body` without the reserved variables in its `env`. */
export function withCleanEnvironment<B extends { env?: Readonly<Record<string, string>> | null }>(body: B): B {
  if (body.env === null || body.env === undefined) return body;
  return { ...body, env: Object.fromEntries(Object.entries(body.env).filter(([key]) => !reserved.test(key))) };
}
