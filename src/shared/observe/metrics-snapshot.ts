// The figures of one process at one moment, as they cross to another one. Apart from metrics.ts, so that workers, which
// only know the contracts, do not load what counts.
import { Type, type Static } from 'typebox';

const Labels = Type.Record(Type.String(), Type.Union([Type.String(), Type.Number()]));
export const MetricsSnapshot = Type.Array(
  Type.Object({
    name: Type.String(),
    help: Type.String(),
    type: Type.String(),
    aggregator: Type.String(),
    values: Type.Array(Type.Object({ labels: Labels, value: Type.Number(), metricName: Type.Optional(Type.String()) })),
  }),
);
export type MetricsSnapshot = Static<typeof MetricsSnapshot>;
