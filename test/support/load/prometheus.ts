// Reads Prometheus' text format, strictly: every line is a comment, or a sample that was announced by its HELP and
// TYPE.
export type Samples = ReadonlyMap<string, number>;

const sampleForm = /^([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\]|\\.)*",?)*)\})? (-?[0-9.eE+-]+|NaN|\+Inf)$/;

/** Samples by `name{labels}`, as they are written. @throws for a line of another form */
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

/** The sum of the samples of a name whose labels contain all of these words. */
export function sumOf(samples: Samples, name: string, ...words: readonly string[]): number | null {
  const found = [...samples].filter(
    ([key]) => (key === name || key.startsWith(`${name}{`)) && words.every((word) => key.includes(word)),
  );
  return found.length === 0 ? null : found.reduce((sum, [, value]) => sum + value, 0);
}
