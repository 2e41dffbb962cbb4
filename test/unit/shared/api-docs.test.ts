// Compares docs/api.md with the schemas that validate requests and answers. Every field of every operation is on the
// page, and so is every frame of the WebSockets.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TSchema } from 'typebox';
import { describe, expect, it } from 'vitest';
import type { Operation } from '../../../src/gateway/openapi/operation.ts';
import { operations } from '../../../src/gateway/routes/all-operations.ts';
import { AttachInput, AttachOutput } from '../../../src/shared/api.ts';

const page = readFileSync(join(import.meta.dirname, '../../../docs/api.md'), 'utf8');
/** The sections of the page by their headings. */
const sections = new Map(
  page.split(/^(?=##)/m).map((text) => [text.slice(0, text.indexOf('\n')).replace(/^#+ /, ''), text]),
);

interface Shape {
  readonly properties?: Readonly<Record<string, TSchema>>;
  readonly anyOf?: readonly TSchema[];
  readonly items?: TSchema;
  readonly const?: unknown;
}

/** The names of fields at every depth. */
function fieldsOf(schema: TSchema): string[] {
  const { properties = {}, anyOf = [], items } = schema as Shape;
  const inside = [...Object.values(properties), ...anyOf, ...(items === undefined ? [] : [items])];
  return [...new Set([...Object.keys(properties), ...inside.flatMap(fieldsOf)])];
}

/** Whether the field is a word in code, or in the first column of a table. */
function isNamed(field: string, text: string): boolean {
  const code = [...text.matchAll(/`[^`]*`|```[\s\S]*?```|^\| [^|]* \|/gm)].map(([piece]) => piece).join('\n');
  return new RegExp(`(?<![A-Za-z_])${field}(?![A-Za-z_])`).test(code);
}

describe('docs/api.md', () => {
  const described: readonly Operation[] = Object.values(operations).filter(({ path }) => path.startsWith('/v1/'));

  // A body that is bytes has no fields.
  it.each(described.filter(({ body }) => body !== undefined && body.contentType !== 'application/octet-stream'))(
    'names each field that $method $path takes, in its own section',
    ({ method, path, body }) => {
      const section = sections.get(`${method.toUpperCase()} ${path}`);
      expect(section, 'its section').toBeDefined();
      const fields = fieldsOf(body?.schema as TSchema);
      expect(fields.length).toBeGreaterThan(0);
      expect(fields.filter((field) => !isNamed(field, section ?? ''))).toEqual([]);
    },
  );

  it.each(described.filter(({ query }) => query !== undefined))(
    'names each parameter of $method $path',
    ({ query }) => {
      expect(fieldsOf(query as TSchema).filter((field) => !isNamed(field, page))).toEqual([]);
    },
  );

  it.each(described)('names each field in the answers of $method $path', ({ answers }) => {
    const schemas = Object.values(answers).flatMap(({ content }) => Object.values(content));
    expect(schemas.flatMap(fieldsOf).filter((field) => !isNamed(field, page))).toEqual([]);
  });

  it('describes every frame of a WebSocket with its fields', () => {
    const section = sections.get('GET /v1/boxes/{box}/exec/{exec}/attach') ?? '';
    for (const frame of [AttachInput, AttachOutput].flatMap((schema) => (schema as Shape).anyOf ?? [])) {
      const type = String(((frame as Shape).properties?.['type'] as Shape).const);
      expect(section).toContain(`"type": "${type}"`);
      expect(
        fieldsOf(frame).filter((field) => !isNamed(field, section)),
        type,
      ).toEqual([]);
    }
  });
});
