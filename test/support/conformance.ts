// Answers held against /openapi.json: the status is one that the operation names, the content type one of that status, and the
// body fits its schema. Used by the tests of the contract and of conformance.
import { Compile } from 'typebox/schema';
import type { Answer } from './server.ts';

export interface Schema {
  readonly [keyword: string]: unknown;
}

export interface DescribedOperation {
  readonly operationId: string;
  readonly parameters: readonly { readonly name: string; readonly in: 'path' | 'query' | 'header'; readonly schema: Schema }[];
  readonly requestBody?: { readonly required: boolean; readonly content: Readonly<Record<string, { readonly schema: Schema }>> };
  readonly responses: Readonly<Record<string, { readonly content?: Readonly<Record<string, { readonly schema: Schema }>> }>>;
}

export interface ApiDocument {
  readonly openapi: string;
  readonly paths: Readonly<Record<string, Readonly<Record<string, DescribedOperation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
}

export interface Conformance {
  readonly operations: readonly { readonly method: string; readonly path: string; readonly operation: DescribedOperation }[];
  /** What is wrong with an answer; null when nothing is. */
  complaint(method: string, path: string, answer: Pick<Answer, 'status' | 'headers' | 'text'>): string | null;
  /** A schema whose references are resolved. */
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

  /** The schema with everything that it refers to written into it. */
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

  return {
    resolve,
    operations: Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({ method: method.toUpperCase(), path, operation }))),
    complaint(method, path, { status, headers, text }) {
      const offered = document.paths[path]?.[method.toLowerCase()]?.responses[status];
      if (offered === undefined) return `status ${status} is not described: ${text.slice(0, 300)}`;
      if (offered.content === undefined) return text === '' ? null : `a body where none is described: ${text.slice(0, 300)}`;
      const type = (headers['content-type'] ?? '').split(';', 1)[0] ?? '';
      const content = offered.content[type];
      if (content === undefined) return `content type '${type}' is not described for ${status}`;
      if (type !== 'application/json') return null;
      return fits(content.schema, JSON.parse(text)) ? null : `the body of ${status} does not fit: ${text.slice(0, 300)}`;
    },
  };
}
