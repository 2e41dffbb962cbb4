// Checking of bodies and queries against the public schemas: defaults are filled in, unknown fields (of newer or older
// clients) are left out, types are never converted: "2" is no number. What is wrong is said in words that name the field.
import { Type, type Static, type TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { BoxRunError } from '../shared/errors.ts';

/** What JSON Schema says of a schema, as far as the functions here look into it. */
interface Shape {
  readonly type?: string;
  readonly properties?: Readonly<Record<string, TSchema>>;
  readonly items?: TSchema;
  readonly anyOf?: readonly TSchema[];
  readonly default?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
}

/** What a field must be, for the fields whose schema alone would explain little. */
const requirements: Readonly<Record<string, string>> = {
  image: "the name of an image, such as 'ubuntu:24.04', without blanks",
  name: "1 to 63 letters, digits, '_', '.' or '-', the first one a letter or a digit",
  workdir: 'an absolute path',
  host_path: 'an absolute path',
  guest_path: 'an absolute path',
  cmd: 'a list of at least one text, none with a NUL character',
  env: "an object of texts without NUL characters, whose names are not empty and have no '='",
  volumes: 'a list of objects with host_path, guest_path and readonly',
  network: 'true or false',
  readonly: 'true or false',
  force: 'true or false',
  status: 'one of creating, running, stopped, error, all',
  encoding: "'text' or 'base64'",
};

export type Parse<S extends TSchema> = (value: unknown) => Static<S>;

/**
 * A function that gives the value which `schema` describes, out of whatever a client has sent.
 * It throws VALIDATION_ERROR naming the first field that does not fit.
 */
export function createParse<S extends TSchema>(schema: S): Parse<S> {
  const validator = Compile(schema);
  return (value) => {
    const candidate = shaped(schema, value);
    if (validator.Check(candidate)) return candidate;
    const [problem] = validator.Errors(candidate);
    throw new BoxRunError('VALIDATION_ERROR', describe(schema, candidate, problem));
  };
}

/** Known fields only, with defaults where none is given. Whether the result fits is for the validator to say. */
function shaped(schema: TSchema, value: unknown): unknown {
  const { properties, items, anyOf } = schema as Shape;
  if (anyOf !== undefined) {
    const first = anyOf[0];
    return value === null || first === undefined ? value : shaped(first, value);
  }
  if (items !== undefined && Array.isArray(value)) return value.map((item) => shaped(items, item));
  if (properties === undefined || !isRecord(value)) return value;
  const fields: Record<string, unknown> = {};
  for (const [key, property] of Object.entries(properties)) {
    const given = Object.hasOwn(value, key) ? shaped(property, value[key]) : (property as Shape).default;
    if (given !== undefined) fields[key] = given;
  }
  return fields;
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
  // The innermost name that we know: the entries of `env` and `cmd` are explained by the field that they stand in.
  const depth = path.findLastIndex((name) => Object.hasOwn(requirements, name));
  if (depth >= 0) {
    return { field: path.slice(0, depth + 1).join('.'), requirement: requirements[path[depth] ?? ''] ?? '' };
  }
  const field = path.join('.');
  const property = (schema as Shape).properties?.[path[0] ?? ''] as Shape | undefined;
  const number = property?.anyOf === undefined ? property : (property.anyOf[0] as Shape);
  if (number?.type !== 'integer') return { field, requirement: 'as the API describes it' };
  const range = number.maximum === undefined ? '' : ` to ${number.maximum}`;
  return { field, requirement: `a whole number from ${number.minimum ?? 0}${range}` };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A whole number in a query, where everything is text. */
export function numberInQuery(name: string, text: string | undefined): number | undefined {
  if (text === undefined || text === '') return undefined;
  const value = Number(text);
  if (/^-?\d{1,15}$/.test(text)) return value;
  throw new BoxRunError('VALIDATION_ERROR', `'${name}' must be a whole number`);
}

export const BoxesQuery = Type.Object({
  status: Type.Optional(Type.Enum(['creating', 'running', 'stopped', 'error', 'all'])),
});
export const RemoveQuery = Type.Object({ force: Type.Optional(Type.Enum(['true', 'false', '1', '0', ''])) });
export const EventsQuery = Type.Object({
  after: Type.Optional(Type.String()),
  encoding: Type.Optional(Type.Enum(['text', 'base64'])),
});
