// The form of one operation in the list of operations, and the parts that many operations share. The list itself is in
// operations.ts and box-operations.ts.
import { Type, type TObject, type TSchema } from 'typebox';
import type { ErrorCode } from '../../shared/errors.ts';

export type HeaderName =
  | 'Prefer'
  | 'Preference-Applied'
  | 'X-BoxRun-Warnings'
  | 'X-BoxRun-Mode'
  | 'Last-Modified'
  | 'Idempotency-Key'
  | 'Last-Event-ID'
  | 'Server-Timing'
  | 'Link'
  | 'X-Next-Cursor'
  | 'Location'
  | 'Set-Cookie';

export interface AnswerOffer {
  readonly description: string;
  /** By content type; empty for an answer without a body. */
  readonly content: Readonly<Record<string, TSchema>>;
  readonly headers?: readonly HeaderName[];
}

export interface Operation {
  readonly method: 'get' | 'post' | 'patch' | 'delete';
  readonly path: string;
  readonly id: string;
  readonly summary: string;
  readonly query?: TObject;
  readonly headers?: readonly HeaderName[];
  readonly body?: { readonly schema: TSchema; readonly required: boolean; readonly contentType?: string };
  readonly answers: Readonly<Record<number, AnswerOffer>>;
  readonly errors?: readonly ErrorCode[];
}

export const Ok = Type.Object({ ok: Type.Literal(true) });
export const text = Type.String();

export const json = (description: string, schema: TSchema, ...headers: HeaderName[]): AnswerOffer => ({
  description,
  content: { 'application/json': schema },
  headers,
});
export const html = (description: string): AnswerOffer => ({ description, content: { 'text/html': text } });
export const unchanged: AnswerOffer = { description: 'The client has the current version already', content: {} };
export const pageHeaders = ['Link', 'X-Next-Cursor'] as const;
export const boxErrors = ['BOX_NOT_FOUND'] as const;
export const execErrors = ['BOX_NOT_FOUND', 'EXEC_NOT_FOUND'] as const;
export const createErrors = ['RESOURCE_EXCEEDED', 'IMAGE_PULL_FAILED'] as const;
