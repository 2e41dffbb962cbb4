// Parses the text format of Prometheus strictly: every line is a comment or a sample. A TYPE line must come before the
// samples of a name.
export type Samples = ReadonlyMap<string, number>;

const sampleForm = /^([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\]|\\.)*",?)*)\})? (-?[0-9.eE+-]+|NaN|\+Inf)$/;

/** Returns the samples by `name{labels}`, as in the text. @throws for a line in another format */
export function parsePrometheus(text: string): Samples {
  const samples = new Map<string, number>();
  const announced = new Set<string>();
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const [, what, name = ''] = /^# (HELP|TYPE) (\S+) ./.exec(line) ?? [];
    if (what !== undefined) {
      if (what === 'TYPE') announced.add(name);
      continue;
    }
    const [, sample = '', labels, value] = sampleForm.exec(line) ?? [];
    if (!announced.has(sample.replace(/_(bucket|sum|count)$/, '')) && !announced.has(sample))
      throw new Error(`no sample: ${line}`);
    const key = labels === undefined ? sample : `${sample}{${labels}}`;
    if (samples.has(key)) throw new Error(`twice: ${key}`);
    samples.set(key, Number(value));
  }
  return samples;
}

/** Adds the samples of a name whose labels contain all of these words. Returns null if there are none. */
export function sumOf(samples: Samples, name: string, ...words: readonly string[]): number | null {
  const found = [...samples].filter(
    ([key]) => (key === name || key.startsWith(`${name}{`)) && words.every((word) => key.includes(word)),
  );
  return found.length === 0 ? null : found.reduce((sum, [, value]) => sum + value, 0);
}
