// Compares two versions of a JSON Schema, and finds changes that break a client of the older one. In a request, the
// server must still accept every value that it accepted. In an answer, a client must find every field and value that it
// knows, and no unknown type. New optional fields and new values of an enum break nothing.
import type { Schema } from './conformance.ts';

export type Schemas = Readonly<Record<string, Schema>>;
/** A client makes the value of a request, and the server makes the value of an answer. */
export type Direction = 'request' | 'answer';

export interface SchemaComparison {
  /** Returns one line for each breaking change. A line names the place by the name of the schema, or else by `at`. */
  changes(direction: Direction, before: Schema, after: Schema, at: string): readonly string[];
  /** True when `changes` has already compared the schema with that name. */
  hasSeen(name: string): boolean;
}

/** Lower bounds. A new or higher one refuses values that were accepted. */
const lowerBounds = ['minimum', 'exclusiveMinimum', 'minLength', 'minItems', 'minProperties'];
const upperBounds = ['maximum', 'exclusiveMaximum', 'maxLength', 'maxItems', 'maxProperties'];
/** The comparison cannot compute whether a new value of these accepts all that the old one did, so it is a break. */
const rules = ['pattern', 'format', 'multipleOf', 'uniqueItems', 'propertyNames'];

export function createSchemaComparison(before: Schemas, after: Schemas): SchemaComparison {
  /** The results for schemas with a name, by direction and name. A schema that is being compared has an empty one. */
  const known = new Map<string, readonly string[]>();

  function changes(direction: Direction, was: Schema, is: Schema, at: string): readonly string[] {
    const name = referenceOf(was);
    if (name === null || name !== referenceOf(is)) return formChanges(direction, was, is, at);
    const key = `${direction} ${name}`;
    const found = known.get(key);
    if (found !== undefined) return found;
    known.set(key, []); // A schema may refer to itself.
    const made = formChanges(direction, was, is, name);
    known.set(key, made);
    return made;
  }

  function formChanges(direction: Direction, was: Schema, is: Schema, at: string): readonly string[] {
    const [old, now] = [alternatives(was, before), alternatives(is, after)];
    const compare = (one: Schema, other: Schema) =>
      overlap(one, other)
        ? [
            ...typeChanges(direction, one, other, at),
            ...enumChanges(direction, one, other, at),
            ...(direction === 'request' ? ruleChanges(one, other, at) : []),
            ...objectChanges(direction, one, other, at),
            ...itemChanges(direction, one, other, at),
          ]
        : typeChanges(direction, one, other, at);
    if (direction === 'request') return old.flatMap((one) => closest(one, now, (other) => compare(one, other)));
    // A type that the server no longer sends is a break, because the fields in it are gone.
    const gone = old.filter((one) => !isNull(one) && !now.some((other) => overlap(one, other)));
    return [
      ...now.flatMap((other) => closest(other, old, (one) => compare(one, other))),
      ...gone.map((one) => `${at} is no longer ${typesOf(one).join(' or ')}`),
    ];
  }

  function objectChanges(direction: Direction, was: Schema, is: Schema, at: string): string[] {
    const [old, now] = [propertiesOf(was), propertiesOf(is)];
    const [needed, needs] = [listOf(was, 'required'), listOf(is, 'required')];
    const own = Object.entries(old).flatMap(([name, schema]) => {
      const other = now[name];
      return other === undefined ? [`${at}.${name} was removed`] : changes(direction, schema, other, `${at}.${name}`);
    });
    const presence =
      direction === 'request'
        ? needs.filter((name) => !needed.includes(name)).map((name) => `${at}.${name} is required now`)
        : needed
            .filter((name) => name in now && !needs.includes(name))
            .map((name) => `${at}.${name} may be absent now`);
    return [...own, ...presence, ...otherFieldChanges(direction, was, is, at)];
  }

  /** Compares fields without a fixed name. */
  function otherFieldChanges(direction: Direction, was: Schema, is: Schema, at: string): string[] {
    const [old, now] = [asSchemas(was['patternProperties']), asSchemas(is['patternProperties'])];
    const names = (schemas: Schemas) => Object.keys(schemas).sort().join(' and ') || 'none';
    const isRenamed = names(old) !== names(now);
    const [rest, restNow] = [was['additionalProperties'], is['additionalProperties']];
    return [
      ...(isRenamed ? [`${at}: names of its fields were ${names(old)}, are ${names(now)}`] : []),
      ...(direction === 'request' && rest !== false && restNow === false ? [`${at} accepts no other fields now`] : []),
      ...(isSchema(rest) && isSchema(restNow) ? changes(direction, rest, restNow, `${at}.*`) : []),
      ...Object.entries(old).flatMap(([name, schema]) => {
        const other = now[name];
        return other === undefined ? [] : changes(direction, schema, other, `${at}.*`);
      }),
    ];
  }

  function itemChanges(direction: Direction, was: Schema, is: Schema, at: string): readonly string[] {
    const [old, now] = [was['items'], is['items']];
    if (isSchema(old) && isSchema(now)) return changes(direction, old, now, `${at}[]`);
    if (direction === 'request') return isSchema(now) ? [`${at} accepts fewer elements now`] : [];
    return isSchema(old) ? [`${at}: its elements are no longer described`] : [];
  }

  return {
    changes,
    hasSeen: (name) => known.has(`request ${name}`) || known.has(`answer ${name}`),
  };
}

/** Compares a form with each of several others, and returns the shortest list. Forms with the same type come first. */
function closest(
  form: Schema,
  others: readonly Schema[],
  compare: (other: Schema) => readonly string[],
): readonly string[] {
  const near = others.filter((other) => overlap(form, other));
  const tries = (near.length > 0 ? near : others).map(compare);
  return tries.sort((one, other) => one.length - other.length)[0] ?? [];
}

function typeChanges(direction: Direction, was: Schema, is: Schema, at: string): string[] {
  const [old, now] = [typesOf(was), typesOf(is)];
  const covers = (types: readonly string[], type: string) =>
    types.includes('any') || types.includes(type) || (type === 'integer' && types.includes('number'));
  return direction === 'request'
    ? old.filter((type) => !covers(now, type)).map((type) => `${at} may not be ${type} any more`)
    : now.filter((type) => !covers(old, type)).map((type) => `${at} may be ${type} now`);
}

function enumChanges(direction: Direction, was: Schema, is: Schema, at: string): string[] {
  const [old, now] = [valuesOf(was), valuesOf(is)];
  if (old === null) return direction === 'request' && now !== null ? [`${at} accepts only ${now.join(', ')} now`] : [];
  if (now === null) return direction === 'answer' ? [`${at} is no longer one of ${old.join(', ')}`] : [];
  return old.filter((value) => !now.includes(value)).map((value) => `${at}: the value ${value} was removed`);
}

function ruleChanges(was: Schema, is: Schema, at: string): string[] {
  const isTighter = (name: string, tighter: (before: number, after: number) => boolean) => {
    const [old, now] = [was[name] as number | undefined, is[name] as number | undefined];
    return now !== undefined && (old === undefined || tighter(old, now));
  };
  const tell = (name: string) => `${at}: ${name} was ${text(was[name])}, is ${text(is[name])}`;
  return [
    ...lowerBounds.filter((name) => isTighter(name, (before, after) => after > before)),
    ...upperBounds.filter((name) => isTighter(name, (before, after) => after < before)),
    ...rules.filter((name) => is[name] !== undefined && text(was[name]) !== text(is[name])),
    // A client that leaves out a field relies on its default.
    ...('default' in was && text(was['default']) !== text(is['default']) ? ['default'] : []),
  ].map(tell);
}

/** Returns the alternatives (anyOf, oneOf) of a schema, each without references. */
function alternatives(schema: Schema, schemas: Schemas): Schema[] {
  const { anyOf, oneOf, ...rest } = whole(schema, schemas);
  const forms = (anyOf ?? oneOf) as readonly Schema[] | undefined;
  if (forms === undefined) return [rest];
  return forms.flatMap((form) => alternatives(form, schemas)).map((form) => merge(rest, form));
}

/** Resolves the reference of a schema, and merges all parts of an `allOf`. */
function whole(schema: Schema, schemas: Schemas): Schema {
  const name = referenceOf(schema);
  if (name !== null) {
    const found = schemas[name];
    if (found === undefined) throw new Error(`there is no schema ${name}`);
    return whole(found, schemas);
  }
  const { allOf, ...rest } = schema;
  return ((allOf ?? []) as readonly Schema[]).map((part) => whole(part, schemas)).reduce(merge, rest);
}

function merge(one: Schema, other: Schema): Schema {
  const properties = { ...propertiesOf(one) };
  for (const [name, schema] of Object.entries(propertiesOf(other))) {
    const known = properties[name];
    properties[name] = known === undefined ? schema : { allOf: [known, schema] };
  }
  const required = [...new Set([...listOf(one, 'required'), ...listOf(other, 'required')])];
  return {
    ...one,
    ...other,
    ...(Object.keys(properties).length === 0 ? {} : { properties }),
    ...(required.length === 0 ? {} : { required }),
  };
}

function referenceOf(schema: Schema): string | null {
  const reference = schema['$ref'];
  return typeof reference === 'string' ? reference.slice('#/components/schemas/'.length) : null;
}

function typesOf(schema: Schema): readonly string[] {
  const { type } = schema;
  if (typeof type === 'string') return [type];
  if (Array.isArray(type)) return type as string[];
  const values = (schema['enum'] ?? ('const' in schema ? [schema['const']] : undefined)) as unknown[] | undefined;
  if (values !== undefined) return [...new Set(values.map((value) => (value === null ? 'null' : typeof value)))];
  return 'properties' in schema ? ['object'] : ['any'];
}

function valuesOf(schema: Schema): readonly string[] | null {
  if (Array.isArray(schema['enum'])) return schema['enum'].map(text);
  return 'const' in schema ? [text(schema['const'])] : null;
}

function overlap(one: Schema, other: Schema): boolean {
  const numeric = (types: readonly string[]) => types.map((type) => (type === 'integer' ? 'number' : type));
  const [types, others] = [numeric(typesOf(one)), numeric(typesOf(other))];
  return types.includes('any') || others.includes('any') || types.some((type) => others.includes(type));
}

function isNull(schema: Schema): boolean {
  return typesOf(schema).every((type) => type === 'null');
}

function isSchema(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null;
}

function asSchemas(value: unknown): Schemas {
  return isSchema(value) ? (value as Schemas) : {};
}

function propertiesOf(schema: Schema): Schemas {
  return asSchemas(schema['properties']);
}

function listOf(schema: Schema, name: string): readonly string[] {
  return (schema[name] ?? []) as readonly string[];
}

function text(value: unknown): string {
  return value === undefined ? 'absent' : JSON.stringify(value);
}
