// What the handler of an operation gets, and what it may answer. The types come from the operation: a handler cannot
// read a parameter that the operation does not describe, and each operation needs exactly one handler.
import type { Duplex } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { AnswerOf, BodyOf, Operation, Operations, PathOf, QueryOf } from '../openapi/operation.ts';
import type { ClientSocket } from '../live/web-socket.ts';

export interface Parameters<O extends Operation> {
  readonly path: PathOf<O>;
  /** The query, checked. @throws VALIDATION_ERROR */
  readonly query: () => QueryOf<O>;
}

export interface Call<O extends Operation> extends Parameters<O> {
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  /** The JSON body, checked; see http/body.ts. @throws VALIDATION_ERROR */
  readonly body: () => BodyOf<O>;
}

export interface SocketCall<O extends Operation> extends Parameters<O> {
  readonly client: ClientSocket;
  readonly url: URL;
}

/** The value becomes the body of the answer. A handler that has answered itself gives the reply. */
type HttpHandler<O extends Operation> = (call: Call<O>) => Promise<AnswerOf<O> | FastifyReply>;
type SocketHandler<O extends Operation> = (call: SocketCall<O>) => Promise<void>;
/** Opens the connection whose bytes the client gets. */
type ConnectionHandler<O extends Operation> = (call: Parameters<O>) => Promise<Duplex>;

type Handler<O extends Operation> = O extends { readonly isConnection: true }
  ? ConnectionHandler<O>
  : O extends { readonly isWebSocket: true }
    ? SocketHandler<O>
    : HttpHandler<O>;

export type HandlersOf<All extends Operations> = { readonly [Id in keyof All]: Handler<All[Id]> };
