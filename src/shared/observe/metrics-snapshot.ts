// The schema of one process's metrics at one moment, for messages between processes. It is not in metrics.ts, so that a
// process that only needs the contracts does not load the metrics library.
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
