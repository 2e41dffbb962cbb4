// Reads the JSON body of a request against a public schema. The server ignores fields that it does not know, because
// older and newer clients may send them. The answer then names these fields in a header. If the client prefers strict
// handling (RFC 7240), the server refuses them.
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Static, TSchema } from 'typebox';
import { BoxRunError } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';
import { createParse, fieldNames, unknownFields } from './validation.ts';

const warningsHeader = 'X-BoxRun-Warnings';
const strictPreference = 'handling=strict';

type ReadBody<S extends TSchema> = (request: FastifyRequest, reply: FastifyReply) => Static<S>;

/**
 * Makes a function that reads the body of a request. It sets headers of the answer.
 * The function throws VALIDATION_ERROR when a field does not fit, or when a strict client sends an unknown field.
 * @param when `optional`: a request without a body counts as one with an empty object
 */
export function createBodyParse<S extends TSchema>(schema: S, when: 'required' | 'optional' = 'required'): ReadBody<S> {
  const parse = createParse(schema);
  return ({ body: given, headers }, { raw }) => {
    const body: unknown = when === 'optional' ? (given ?? {}) : given;
    const isStrict = prefersStrict(headers['prefer']);
    // `raw`, because an answer that is a stream sends the headers of `raw` only.
    if (isStrict) raw.setHeader('Preference-Applied', strictPreference);
    const unknown = unknownFields(schema, body);
    if (unknown.length === 0) return parse(body);
    const warning = `unknown ${unknown.length === 1 ? 'field' : 'fields'}: ${named(unknown)}`;
    if (isStrict) {
      throw new BoxRunError('VALIDATION_ERROR', warning, { hint: `the fields are ${fieldNames(schema).join(', ')}` });
    }
    raw.setHeader(warningsHeader, warning);
    return parse(body);
  };
}

/** True for the preference `handling=strict`, with or without others and with or without parameters. */
export function prefersStrict(prefer: string | readonly string[] | undefined): boolean {
  const preferences = [prefer ?? []].flat().flatMap((line) => line.split(','));
  const handling = preferences
    .map((preference) => (preference.split(';')[0] ?? '').replace(/[\s"]/g, '').toLowerCase())
    .find((preference) => preference.startsWith('handling='));
  return handling === strictPreference;
}

/** The names as JSON texts of ASCII characters alone, because a header can hold no others. */
function named(fields: readonly string[]): string {
  const shown = fields.slice(0, limits.unknownFieldsNamed).map((field) => {
    const text = JSON.stringify(field.slice(0, limits.unknownFieldChars));
    return text.replace(/[^\x20-\x7e]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
  });
  const more = fields.length - shown.length;
  return `${shown.join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}
