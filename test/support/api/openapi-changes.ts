// Compares two versions of the API description, and finds changes that break a client of the older one: things that
// were removed, and things that a request needs now. schema-changes.ts compares the schemas.
import type { ApiDocument, DescribedOperation, Schema } from './conformance.ts';
import { createSchemaComparison, type SchemaComparison } from './schema-changes.ts';

type Content = Readonly<Record<string, { readonly schema: Schema }>>;
type Parameter = DescribedOperation['parameters'][number];

/** Returns one line for each breaking change, in the order of the older document. */
export function breakingChanges(before: ApiDocument, after: ApiDocument): string[] {
  const schemas = createSchemaComparison(before.components.schemas, after.components.schemas);
  const inOperations = Object.entries(before.paths).flatMap(([path, methods]) =>
    Object.entries(methods).flatMap(([method, operation]) => {
      const name = `${method.toUpperCase()} ${path}`;
      const now = after.paths[path]?.[method];
      return now === undefined ? [`${name} was removed`] : operationChanges(name, operation, now, schemas);
    }),
  );
  const all = [...inOperations, ...namedSchemaChanges(before, after, schemas), ...securityChanges(before, after)];
  return [...new Set(all)]; // Many operations use the same schemas.
}

function operationChanges(
  name: string,
  before: DescribedOperation,
  after: DescribedOperation,
  schemas: SchemaComparison,
): string[] {
  const { operationId } = after;
  return [
    ...(operationId === before.operationId
      ? []
      : [`${name} was called ${before.operationId}, is called ${operationId}`]),
    ...parameterChanges(name, before.parameters, after.parameters, schemas),
    ...bodyChanges(name, before, after, schemas),
    ...answerChanges(name, before, after, schemas),
  ];
}

function parameterChanges(
  name: string,
  before: readonly Parameter[],
  after: readonly Parameter[],
  schemas: SchemaComparison,
): string[] {
  const find = (list: readonly Parameter[], wanted: Parameter) =>
    list.find((each) => each.in === wanted.in && each.name === wanted.name);
  const known = before.flatMap((old) => {
    const at = `${name}: ${old.in} parameter ${old.name}`;
    const now = find(after, old);
    if (now === undefined) return [`${at} was removed`];
    return [
      ...(now.required && !old.required ? [`${at} is required now`] : []),
      ...schemas.changes('request', old.schema, now.schema, at),
    ];
  });
  const added = after.filter((now) => now.required && find(before, now) === undefined);
  return [...known, ...added.map((now) => `${name}: ${now.in} parameter ${now.name} is required now`)];
}

function bodyChanges(
  name: string,
  { requestBody: old }: DescribedOperation,
  { requestBody: now }: DescribedOperation,
  schemas: SchemaComparison,
): string[] {
  const needsBody = now?.required === true && old?.required !== true ? [`${name}: a body is required now`] : [];
  if (old === undefined) return needsBody;
  if (now === undefined) return [`${name}: its body was removed`];
  return [...needsBody, ...contentChanges('request', `${name}: body`, old.content, now.content, schemas)];
}

function answerChanges(
  name: string,
  before: DescribedOperation,
  after: DescribedOperation,
  schemas: SchemaComparison,
): string[] {
  return Object.entries(before.responses).flatMap(([status, old]) => {
    const at = `${name}: answer ${status}`;
    const now = after.responses[status];
    if (now === undefined) return [`${at} was removed`];
    const lostHeaders = Object.keys(old.headers ?? {}).filter((header) => !(header in (now.headers ?? {})));
    return [
      ...lostHeaders.map((header) => `${at}: header ${header} was removed`),
      ...contentChanges('answer', at, old.content ?? {}, now.content ?? {}, schemas),
    ];
  });
}

function contentChanges(
  direction: 'request' | 'answer',
  at: string,
  before: Content,
  after: Content,
  schemas: SchemaComparison,
): string[] {
  return Object.entries(before).flatMap(([type, { schema }]) => {
    const now = after[type];
    return now === undefined ? [`${at}: ${type} was removed`] : schemas.changes(direction, schema, now.schema, at);
  });
}

/** A schema that no operation uses describes the data of events. The server sends events, so they count as answers. */
function namedSchemaChanges(before: ApiDocument, after: ApiDocument, schemas: SchemaComparison): string[] {
  return Object.keys(before.components.schemas).flatMap((name) => {
    if (!(name in after.components.schemas)) return [`the schema ${name} was removed`];
    const reference = { $ref: `#/components/schemas/${name}` };
    return schemas.hasSeen(name) ? [] : schemas.changes('answer', reference, reference, name);
  });
}

function securityChanges(before: ApiDocument, after: ApiDocument): string[] {
  const ways = (document: ApiDocument) => (document.security ?? [{}]).map((way) => JSON.stringify(way));
  return ways(before)
    .filter((way) => !ways(after).includes(way))
    .map((way) => `security: ${way} is not enough any more`);
}
