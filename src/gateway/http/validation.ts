// Checks bodies and queries against the public schemas. It fills in defaults and removes unknown fields; body.ts says
// what the client hears of them. It never converts the types of a body: "2" is not a number. The error message names
// the field.
import type { Static, TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { ulimitNames } from '../../shared/request-bounds.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';

/** The parts of a JSON Schema that the functions in this file use. */
interface Shape {
  readonly type?: string;
  readonly properties?: Readonly<Record<string, TSchema>>;
  readonly items?: TSchema;
  readonly anyOf?: readonly TSchema[];
  readonly default?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
}

/** Texts for error messages, for fields whose schema does not explain them well. */
const requirements: Readonly<Record<string, string>> = {
  image: "the name of an image, such as 'ubuntu:24.04', without blanks",
  name: "1 to 63 letters, digits, '_', '.' or '-', the first one a letter or a digit",
  workdir: 'an absolute path',
  host_path: 'an absolute path',
  guest_path: 'an absolute path',
  cmd: 'a list of at least one text, none with a NUL character',
  env: "an object of texts without NUL characters, whose names are not empty and have no '='",
  volumes: 'a list of objects with host_path, guest_path and readonly',
  ulimits: `a list of objects with name (one of ${ulimitNames.join(', ')}), soft and hard; numbers from 0, or -1 for unlimited`,
  network: 'true or false',
  readonly: 'true or false',
  force: 'true or false',
  follow: 'true or false',
  since: 'the id of an event',
  status: 'one of creating, running, stopped, error, all',
  encoding: "'text' or 'base64'",
  labels:
    "an object of at most 64 texts of at most 255 characters, by keys of 1 to 63 letters, digits, '_', '.', '/' or '-'",
  label: `'key' or 'key=value', at most ${limits.labelFiltersMax} of them`,
  cursor: 'the value of X-Next-Cursor from an earlier answer',
};

export type Parse<S extends TSchema> = (value: unknown) => Static<S>;

/**
 * Makes a function that turns the body of a client into a value of `schema`.
 * The function throws VALIDATION_ERROR, which names the first field that does not fit.
 */
export function createParse<S extends TSchema>(schema: S): Parse<S> {
  const validator = Compile(schema);
  return (value) => {
    const candidate = withDefaults(schema, value);
    if (validator.Check(candidate)) return candidate;
    const [problem] = validator.Errors(candidate);
    throw new BoxRunError('VALIDATION_ERROR', describe(schema, candidate, problem));
  };
}

/**
 * As createParse, for a query. Each value of a query is text, so it reads numbers from the text. A single value becomes
 * a list if the schema wants a list.
 */
export function createParseQuery<S extends TSchema>(schema: S): Parse<S> {
  const parse = createParse(schema);
  const { properties = {} } = schema as Shape;
  return (query) => {
    const fields = Object.entries(query as Record<string, unknown>).map(([name, value]) => [
      name,
      Object.hasOwn(properties, name) ? fromText(properties[name] as Shape, value) : undefined,
    ]);
    return parse(Object.fromEntries(fields));
  };
}

function fromText({ type }: Shape, value: unknown): unknown {
  if (type === 'array') return Array.isArray(value) ? value : [value];
  if ((type !== 'integer' && type !== 'number') || typeof value !== 'string') return value;
  if (value === '') return undefined;
  const pattern = type === 'integer' ? /^-?\d{1,15}$/ : /^-?\d{1,15}(\.\d{1,6})?$/;
  return pattern.test(value) ? Number(value) : value;
}

/** Gives `value` with known fields only, and with defaults for missing ones. It does not check the result. */
function withDefaults(schema: TSchema, value: unknown): unknown {
  const { properties, items, anyOf } = schema as Shape;
  if (anyOf !== undefined) {
    const first = anyOf[0];
    return value === null || first === undefined ? value : withDefaults(first, value);
  }
  if (items !== undefined && Array.isArray(value)) return value.map((item) => withDefaults(items, item));
  if (properties === undefined || !isRecord(value)) return value;
  const fields: Record<string, unknown> = {};
  for (const [key, property] of Object.entries(properties)) {
    const given =
      Object.hasOwn(value, key) && value[key] !== undefined
        ? withDefaults(property, value[key])
        : (property as Shape).default;
    if (given !== undefined) fields[key] = given;
  }
  return fields;
}

/** The fields in `value` that the schema does not have, each with its path, such as `volumes.0.hostpath`. */
export function unknownFields(schema: TSchema, value: unknown, path: readonly string[] = []): string[] {
  const { properties, items, anyOf } = schema as Shape;
  if (anyOf !== undefined) return anyOf[0] === undefined ? [] : unknownFields(anyOf[0], value, path);
  if (items !== undefined && Array.isArray(value)) {
    return value.flatMap((item, index) => unknownFields(items, item, [...path, String(index)]));
  }
  if (properties === undefined || !isRecord(value)) return [];
  return Object.entries(value).flatMap(([key, member]) => {
    const property = Object.hasOwn(properties, key) ? properties[key] : undefined;
    return property === undefined ? [[...path, key].join('.')] : unknownFields(property, member, [...path, key]);
  });
}

/** The names of the fields of an object. */
export function fieldNames(schema: TSchema): string[] {
  return Object.keys((schema as Shape).properties ?? {});
}

interface Problem {
  readonly keyword: string;
  readonly instancePath: string;
  readonly message: string;
  readonly params: unknown;
}

function describe(schema: TSchema, value: unknown, problem: Problem | undefined): string {
  if (!isRecord(value)) return 'the body must be a JSON object';
  const path = (problem?.instancePath ?? '').split('/').slice(1);
  if (problem?.keyword === 'required') {
    const [missing] = (problem.params as { requiredProperties?: string[] }).requiredProperties ?? [];
    if (missing !== undefined) {
      const { field, requirement } = requirementOf(schema, [...path, missing]);
      return `'${field}' is missing; it must be ${requirement}`;
    }
  }
  if (path.length === 0) return `the body ${problem?.message ?? 'is not valid'}`;
  const { field, requirement } = requirementOf(schema, path);
  return `'${field}' must be ${requirement}`;
}

function requirementOf(schema: TSchema, path: readonly string[]): { field: string; requirement: string } {
  // Takes the innermost field that has a text in `requirements`: an entry of `env` or `cmd` has none of its own.
  // `ulimits` is an exception: its entries have a field `name`, but the text for `name` is about the name of a box.
  const depth = path[0] === 'ulimits' ? 0 : path.findLastIndex((name) => Object.hasOwn(requirements, name));
  if (depth >= 0) {
    return { field: path.slice(0, depth + 1).join('.'), requirement: requirements[path[depth] ?? ''] ?? '' };
  }
  const field = path.join('.');
  const property: Shape | undefined = (schema as Shape).properties?.[path[0] ?? ''];
  const number = property?.anyOf === undefined ? property : (property.anyOf[0] as Shape);
  if (number?.type === 'number') return { field, requirement: `a number${rangeOf(number)}` };
  if (number?.type === 'integer') return { field, requirement: `a whole number${rangeOf(number)}` };
  return { field, requirement: 'as the API describes it' };
}

/** The bounds of a number, as far as it has any: ' from 0 to 99', ' from 0', ' up to 99' or nothing. */
function rangeOf({ minimum, maximum }: Shape): string {
  const most = maximum === undefined ? '' : ` to ${maximum}`;
  if (minimum !== undefined) return ` from ${minimum}${most}`;
  return most === '' ? '' : ` up${most}`;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
