// Compares answers with /openapi.json: the operation must have the status, the status must have the content type, and
// the body must fit the schema.
import { Compile } from 'typebox/schema';
import { errorCatalogue } from '../../../src/shared/errors.ts';
import type { Answer } from '../servers/server.ts';

export interface Schema {
  readonly [keyword: string]: unknown;
}

interface DescribedParameter {
  readonly name: string;
  readonly in: 'path' | 'query' | 'header';
  readonly required: boolean;
  readonly schema: Schema;
}

interface DescribedAnswer {
  readonly content?: Readonly<Record<string, { readonly schema: Schema }>>;
  readonly headers?: Readonly<Record<string, unknown>>;
}

export interface DescribedOperation {
  readonly operationId: string;
  readonly parameters: readonly DescribedParameter[];
  readonly requestBody?: {
    readonly required: boolean;
    readonly content: Readonly<Record<string, { readonly schema: Schema }>>;
  };
  readonly responses: Readonly<Record<string, DescribedAnswer>>;
}

export interface ApiDocument {
  readonly openapi: string;
  readonly paths: Readonly<Record<string, Readonly<Record<string, DescribedOperation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
  readonly security?: readonly unknown[];
}

type CheckedAnswer = Pick<Answer, 'status' | 'headers' | 'text'>;

export interface Conformance {
  readonly operations: readonly {
    readonly method: string;
    readonly path: string;
    readonly operation: DescribedOperation;
  }[];
  /** Returns what is wrong with an answer, or null. `path` is the path as it is described. */
  complaint(method: string, path: string, answer: CheckedAnswer): string | null;
  /** Like `complaint`, for a path as it was sent. A request that is not described must get an Error body. */
  complaintAt(method: string, url: string, answer: CheckedAnswer): string | null;
  fits(schema: Schema, value: unknown): boolean;
  /** Resolves the reference of a schema. */
  resolve(schema: Schema): Schema;
}

export function createConformance(document: ApiDocument): Conformance {
  const checks = new Map<string, (value: unknown) => boolean>();

  function resolve(schema: Schema): Schema {
    const reference = schema['$ref'];
    if (typeof reference !== 'string') return schema;
    const found = document.components.schemas[reference.slice('#/components/schemas/'.length)];
    if (found === undefined) throw new Error(`there is no ${reference}`);
    return found;
  }

  /** Returns the schema with all references resolved, also nested ones. */
  function whole(value: unknown): unknown {
    if (Array.isArray(value)) return value.map(whole);
    if (typeof value !== 'object' || value === null) return value;
    const resolved = resolve(value as Schema);
    return Object.fromEntries(Object.entries(resolved).map(([key, member]) => [key, whole(member)]));
  }

  function fits(schema: Schema, value: unknown): boolean {
    const text = JSON.stringify(schema);
    let check = checks.get(text);
    if (check === undefined) {
      const validator = Compile(whole(schema) as Parameters<typeof Compile>[0]);
      check = (candidate) => validator.Check(candidate);
      checks.set(text, check);
    }
    return check(value);
  }

  function complaint(method: string, path: string, { status, headers, text }: CheckedAnswer): string | null {
    const offered = document.paths[path]?.[method.toLowerCase()]?.responses[status];
    if (offered === undefined) return `status ${status} is not described: ${text.slice(0, 300)}`;
    if (offered.content === undefined)
      return text === '' ? null : `a body where none is described: ${text.slice(0, 300)}`;
    const type = (headers['content-type'] ?? '').split(';', 1)[0] ?? '';
    const content = offered.content[type];
    if (content === undefined) return `content type '${type}' is not described for ${status}`;
    if (type !== 'application/json') return null;
    return fits(content.schema, JSON.parse(text)) ? null : `the body of ${status} does not fit: ${text.slice(0, 300)}`;
  }

  /** A colon begins an action, so a parameter in a path never contains a raw colon. */
  const patterns = Object.keys(document.paths).map((path) => ({
    path,
    pattern: new RegExp(`^${path.replaceAll('.', '\\.').replaceAll(/\{\w+\}/g, '[^/:]+')}/?$`),
  }));

  function refusalComplaint({ status, headers, text }: CheckedAnswer): string | null {
    if (status < 400 || status >= 500) return `status ${status} where nothing is described: ${text.slice(0, 300)}`;
    if (!(headers['content-type'] ?? '').startsWith('application/json'))
      return `content type '${headers['content-type'] ?? ''}' for an error`;
    const body = JSON.parse(text) as { readonly code?: string };
    if (!fits({ $ref: '#/components/schemas/Error' }, body)) return `an error in another form: ${text.slice(0, 300)}`;
    return Object.hasOwn(errorCatalogue, body.code ?? '') ? null : `an unknown code: ${text.slice(0, 300)}`;
  }

  return {
    fits,
    resolve,
    complaint,
    operations: Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({ method: method.toUpperCase(), path, operation })),
    ),
    complaintAt(method, url, answer) {
      const bare = url.split('?', 1)[0] ?? '';
      const pathOf = (text: string) => patterns.find(({ pattern }) => pattern.test(text))?.path ?? '';
      const offers = (path: string) =>
        (method === 'HEAD' ? 'get' : method.toLowerCase()) in (document.paths[path] ?? {});
      // The server ignores an action in a path that cannot have one.
      const found = [bare, bare.replace(/:[^/:]*$/, '')].map(pathOf).find(offers) ?? pathOf(bare);
      const methods = document.paths[found] ?? {};
      // The server answers HEAD and OPTIONS on every path, but the description does not mention them.
      if (method === 'HEAD' && 'get' in methods) {
        if (answer.text !== '') return 'a body in the answer to HEAD';
        return String(answer.status) in methods['get'].responses ? null : `status ${answer.status} is not described`;
      }
      if (method === 'OPTIONS' && found !== '' && answer.status === 204)
        return answer.text === '' ? null : 'a body with 204';
      return offers(found) ? complaint(method, found, answer) : refusalComplaint(answer);
    },
  };
}
