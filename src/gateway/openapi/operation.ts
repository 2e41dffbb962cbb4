// An operation: everything that BoxRun knows about one request of the API. The routes of the server and the OpenAPI
// document are both made from operations, so neither can have one that the other does not have.
import { Type, type Static, type TObject, type TSchema } from 'typebox';
import type { ErrorCode } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';

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

interface BodyOffer {
  readonly schema: TSchema;
  /** False: a request without a body counts as one with an empty object. */
  readonly required: boolean;
  /** For a body that is not JSON. The handler reads such a body itself, from `request.raw`. */
  readonly contentType?: string;
}

type QueryExample = Readonly<Record<string, string>>;

interface RequestWithBody {
  readonly body: BodyOffer;
  /** A request for people to read. Examples of path parameters are in `pathParameters`. */
  readonly example: { readonly body: object; readonly query?: QueryExample };
}

interface RequestWithoutBody {
  readonly body?: undefined;
  readonly example?: { readonly body?: undefined; readonly query: QueryExample };
}

export type Operation = (RequestWithBody | RequestWithoutBody) & {
  readonly method: 'get' | 'post' | 'patch' | 'delete';
  /** As in OpenAPI: `{box}` is a parameter. A path may end in an action, such as `:stop`. */
  readonly path: `/${string}`;
  readonly summary: string;
  readonly query?: TObject;
  /** Headers of the request that have a meaning here. */
  readonly headers?: readonly HeaderName[];
  /** By status. Answers to errors are not listed here. */
  readonly answers: Readonly<Record<number, AnswerOffer>>;
  /** Errors besides those that every operation can answer with. */
  readonly errors?: readonly ErrorCode[];
  /**
   * How HEAD is answered where GET is offered. When absent: as GET, without the body. `by-handler`: the handler gets
   * these requests too. `none`: HEAD is refused.
   */
  readonly head?: 'by-handler' | 'none';
  /** True: the handler serves a WebSocket. A plain GET is answered with 426. */
  readonly isWebSocket?: true;
  /**
   * True: the handler opens a connection, whose bytes the WebSocket carries. The request may also ask for the upgrade
   * to `tcp`. The answer 101 comes when the connection stands; before that, errors are answers of HTTP.
   */
  readonly isConnection?: true;
};

/** Operations by their ids. An id is the operationId of the document. */
export type Operations = Readonly<Record<string, Operation>>;

type ParameterIn<Path extends string> = Path extends `${string}{${infer Name}}${infer Rest}`
  ? Name | ParameterIn<Rest>
  : never;

/** The parameters in the path, by their names. */
export type PathOf<O extends Operation> = Readonly<Record<ParameterIn<O['path']>, string>>;
export type QueryOf<O extends Operation> = O extends { readonly query: infer Schema extends TSchema }
  ? Static<Schema>
  : never;
/** The JSON body of a request. */
export type BodyOf<O extends Operation> = O extends { readonly body: { readonly contentType: string } }
  ? never
  : O extends { readonly body: { readonly schema: infer Schema extends TSchema } }
    ? Static<Schema>
    : never;
type JsonIn<Answer> = Answer extends { readonly content: { readonly 'application/json': infer Schema extends TSchema } }
  ? Static<Schema>
  : never;
/** The JSON body of an answer that is no error. */
export type AnswerOf<O extends Operation> = JsonIn<O['answers'][keyof O['answers']]>;

interface PathParameter {
  readonly description: string;
  readonly example: string;
  /** True: an id or a name. It contains no colon, so what follows a colon in the path is an action. */
  readonly isKey: boolean;
}

/** The parameters of paths. A parameter means the same in every path. */
export const pathParameters: Readonly<Record<string, PathParameter>> = {
  box: { description: 'Id or name of a box', example: 'web', isKey: true },
  exec: { description: 'Id of a command of that box', example: 'exec_2f9k3v7m1q8x', isKey: true },
  port: { description: 'A TCP port in that box', example: '8080', isKey: true },
  pid: { description: 'Number of a process in that box', example: '12', isKey: true },
  image: { description: 'Name of an imported image, percent-encoded', example: 'my-image', isKey: false },
  file: {
    description: 'Name of the file, as the page of the dashboard names it',
    example: 'index.js',
    isKey: false,
  },
};

export const Ok = Type.Object({ ok: Type.Literal(true) });
export const text = Type.String();
/** The part of the query of every list that says which page the client wants. */
export const pageQuery = {
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: limits.pageRowsMax })),
  cursor: Type.Optional(Type.String()),
};
export const pageHeaders = ['Link', 'X-Next-Cursor'] as const;

interface JsonAnswer<Schema extends TSchema> extends AnswerOffer {
  readonly content: { readonly 'application/json': Schema };
}

export const json = <Schema extends TSchema>(
  description: string,
  schema: Schema,
  ...headers: HeaderName[]
): JsonAnswer<Schema> => ({ description, content: { 'application/json': schema }, headers });
export const html = (description: string): AnswerOffer => ({ description, content: { 'text/html': text } });
export const eventStream = (description: string): AnswerOffer => ({
  description,
  content: { 'text/event-stream': text },
});
export const unchanged: AnswerOffer = { description: 'The client has the current version already', content: {} };

export const boxErrors = ['BOX_NOT_FOUND'] as const;
export const execErrors = ['BOX_NOT_FOUND', 'EXEC_NOT_FOUND'] as const;
export const createErrors = ['RESOURCE_EXCEEDED', 'IMAGE_PULL_FAILED'] as const;
