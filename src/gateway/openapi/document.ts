// Makes the OpenAPI 3.1 document from operations. It contains the paths, the parameters, and for each status the error
// codes that it can have. A test checks real answers of the server against this document.
import type { TSchema } from 'typebox';
import * as api from '../../shared/api.ts';
import { errorCatalogue, type ErrorCode } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';
import { pathParameters, type AnswerOffer, type HeaderName, type Operation, type Operations } from './operation.ts';

type Json = string | number | boolean | null | readonly Json[] | { readonly [name: string]: Json };
type JsonObject = Readonly<Record<string, Json>>;

/** The status and error code pairs that every operation can answer with. */
const commonErrors: readonly (readonly [number, ErrorCode])[] = [
  [400, 'VALIDATION_ERROR'],
  [400, 'TIMEOUT'],
  [400, 'RUNTIME_ERROR'],
  [400, 'CANCELED'],
  [401, 'UNAUTHORIZED'],
  [403, 'FORBIDDEN'],
  [413, 'VALIDATION_ERROR'],
  [414, 'VALIDATION_ERROR'],
  [415, 'UNSUPPORTED_MEDIA_TYPE'],
  [422, 'VALIDATION_ERROR'],
  [429, 'TOO_MANY_REQUESTS'],
  [500, 'RUNTIME_ERROR'],
  [503, 'UNAVAILABLE'],
];

const headerDescriptions: Readonly<Record<HeaderName, JsonObject>> = {
  'Idempotency-Key': {
    description: 'A key of your choice: sent again within 24 hours with the same body, the request makes nothing twice',
    schema: { type: 'string', minLength: 1, maxLength: limits.keyLengthMax, pattern: '^[\\x21-\\x7e]+$' },
  },
  Prefer: {
    description: 'handling=strict refuses unknown fields in the body (RFC 7240)',
    schema: { type: 'string' },
  },
  'Preference-Applied': { description: 'handling=strict, if the request preferred it', schema: { type: 'string' } },
  'X-BoxRun-Warnings': {
    description: 'The unknown fields of the body, which the server ignored',
    schema: { type: 'string' },
  },
  'X-BoxRun-Mode': { description: 'The permission bits of the file, in octal', schema: { type: 'string' } },
  'X-BoxRun-Left-Out': {
    description: 'After the body: files that could not be read, as a list of texts in JSON',
    schema: { type: 'string' },
  },
  'X-BoxRun-Changed': {
    description: 'After the body: files that changed while they were read, as a list of texts in JSON',
    schema: { type: 'string' },
  },
  Range: { description: 'One range of bytes, such as bytes=0-99 or bytes=-100', schema: { type: 'string' } },
  'Content-Range': { description: 'Which bytes of the file these are', schema: { type: 'string' } },
  'Last-Modified': { description: 'When the file was last changed', schema: { type: 'string' } },
  'Last-Event-ID': { description: 'The id of the last event that you have', schema: { type: 'string' } },
  'Server-Timing': { description: 'Milliseconds by stage', schema: { type: 'string' } },
  Link: { description: 'The next page, as rel="next"; absent on the last one', schema: { type: 'string' } },
  'X-Next-Cursor': { description: 'The cursor of the next page; absent on the last one', schema: { type: 'string' } },
  'Set-Cookie': { description: 'A cookie that replaces the token', schema: { type: 'string' } },
  Location: { description: 'The path to go to', schema: { type: 'string' } },
};

/** The schemas that have a name in the document. All others are written out where they are used. */
const namedSchemas: Readonly<Record<string, TSchema>> = {
  Box: api.Box,
  Exec: api.Exec,
  BoxStats: api.BoxStats,
  BoxProcess: api.BoxProcess,
  BoxState: api.BoxStateData,
  ExecState: api.ExecStateData,
  RunResult: api.RunResult,
  GcResult: api.GcResult,
  Info: api.Info,
  CreateBoxBody: api.CreateBoxBody,
  UpdateBoxBody: api.UpdateBoxBody,
  ExecBody: api.ExecBody,
  RunBody: api.RunBody,
  GcBody: api.GcBody,
  Images: api.Images,
  PullBody: api.PullBody,
  PullResult: api.PullResult,
  UsageHistory: api.UsageHistory,
  UsageUpdate: api.UsageUpdate,
  Error: api.ErrorBody,
};

export function createOpenApiDocument(operations: Operations, version: string): JsonObject {
  const names = new Map(Object.entries(namedSchemas).map(([name, schema]) => [schema, name]));
  const paths: Record<string, Record<string, Json>> = {};
  for (const [id, operation] of Object.entries(operations)) {
    (paths[operation.path] ??= {})[operation.method] = describeOperation(id, operation, names);
  }
  const schemas = Object.entries(namedSchemas).map(([name, schema]) => [name, plain(schema, new Map())] as const);
  return {
    openapi: '3.1.0',
    info: {
      title: 'BoxRun',
      version,
      description: 'Isolated Linux boxes on one host. An added field may come with any version.',
    },
    paths,
    components: {
      schemas: Object.fromEntries(schemas),
      securitySchemes: {
        token: { type: 'http', scheme: 'bearer', description: 'Only if the server was started with a token' },
      },
    },
    security: [{}, { token: [] }],
  };
}

type Names = ReadonlyMap<TSchema, string>;

function describeOperation(id: string, operation: Operation, names: Names): JsonObject {
  const { summary, body } = operation;
  return {
    operationId: id,
    summary,
    parameters: parametersOf(operation, names),
    ...(body === undefined
      ? {}
      : {
          requestBody: {
            required: body.required,
            content: { [body.contentType ?? 'application/json']: { schema: plain(body.schema, names) } },
          },
        }),
    responses: { ...errorAnswers(operation), ...goodAnswers(operation, names) },
  };
}

function parametersOf({ path, query, headers = [], body }: Operation, names: Names): Json {
  const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name = '']) => ({
    name,
    in: 'path',
    required: true,
    description: descriptionOf(name),
    schema: { type: 'string', minLength: 1 },
  }));
  const inQuery = Object.entries(query?.properties ?? {}).map(([name, schema]) => ({
    name,
    in: 'query',
    required: false,
    schema: plain(schema, names),
  }));
  const ofBody: readonly HeaderName[] = isJson(body) ? ['Prefer'] : [];
  const inHeader = [...headers, ...ofBody].map((name) => ({
    name,
    in: 'header',
    required: false,
    ...headerDescriptions[name],
  }));
  return [...inPath, ...inQuery, ...inHeader];
}

function descriptionOf(pathParameter: string): string {
  const known = pathParameters[pathParameter];
  if (known === undefined) throw new Error(`pathParameters has no {${pathParameter}}`);
  return known.description;
}

function goodAnswers({ answers, body }: Operation, names: Names): JsonObject {
  const ofBody: readonly HeaderName[] = isJson(body) ? ['X-BoxRun-Warnings', 'Preference-Applied'] : [];
  return Object.fromEntries(
    Object.entries(answers).map(([status, { headers = [], ...answer }]) => [
      status,
      describeAnswer({ ...answer, headers: [...headers, ...ofBody] }, names),
    ]),
  );
}

function isJson(body: Operation['body']): boolean {
  return body !== undefined && body.contentType === undefined;
}

function describeAnswer({ description, content, headers = [] }: AnswerOffer, names: Names): Json {
  const types = Object.entries(content).map(([type, schema]) => [type, { schema: plain(schema, names) }] as const);
  return {
    description,
    ...(types.length === 0 ? {} : { content: Object.fromEntries(types) }),
    ...(headers.length === 0
      ? {}
      : { headers: Object.fromEntries(headers.map((name) => [name, headerDescriptions[name]])) }),
  };
}

/** One error answer for each status, with the codes that the status can have. */
function errorAnswers({ errors = [] }: Operation): JsonObject {
  const codes = new Map<number, Set<ErrorCode>>();
  for (const [status, code] of [
    ...commonErrors,
    ...errors.map((code) => [errorCatalogue[code].status, code] as const),
  ]) {
    codes.set(status, (codes.get(status) ?? new Set()).add(code));
  }
  return Object.fromEntries(
    [...codes].map(([status, known]) => {
      const schema = {
        allOf: [{ $ref: '#/components/schemas/Error' }, { properties: { code: { enum: [...known] } } }],
      };
      return [String(status), { description: [...known].join(', '), content: { 'application/json': { schema } } }];
    }),
  );
}

/** The schema as plain JSON. Schemas with a name become references. */
function plain(schema: TSchema, names: Names): Json {
  const name = names.get(schema);
  if (name !== undefined) return { $ref: `#/components/schemas/${name}` };
  const convert = (value: unknown): Json => {
    if (Array.isArray(value)) return value.map(convert);
    if (typeof value !== 'object' || value === null) return value as Json;
    const known = names.get(value);
    if (known !== undefined) return { $ref: `#/components/schemas/${known}` };
    return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, convert(member)]));
  };
  return convert(schema);
}
