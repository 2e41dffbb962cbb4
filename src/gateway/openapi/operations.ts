// The list of all operations of the API: parameters, bodies and answers. It uses the same schemas as the validation.
// A test checks that the list and the routes match. Errors that every operation can answer with are not listed here.
import { Type, type TSchema } from 'typebox';
import {
  Box,
  BoxStateData,
  BoxStats,
  CreateBoxBody,
  DownloadBody,
  ErrorBody,
  Exec,
  ExecBody,
  ExecStateData,
  GcBody,
  GcResult,
  Images,
  Info,
  PullBody,
  PullResult,
  RunBody,
  RunResult,
  SignalBody,
  UiLink,
  UpdateBoxBody,
  UploadResult,
  UsageHistory,
  UsageUpdate,
} from '../../shared/api.ts';
import { boxOperations } from './box-operations.ts';
import { imageOperations } from './image-operations.ts';
import {
  boxErrors,
  createErrors,
  execErrors,
  html,
  json,
  Ok,
  pageHeaders,
  text,
  unchanged,
  type AnswerOffer,
  type Operation,
} from './operation.ts';
import { Health } from '../figures/health.ts';
import { EventsQuery, ExecQuery, ExecsQuery, LoginQuery, RunQuery, StatesQuery } from '../http/validation.ts';

/** The schemas that have a name in the document. */
export const namedSchemas: Readonly<Record<string, TSchema>> = {
  Box,
  Exec,
  BoxStats,
  BoxState: BoxStateData,
  ExecState: ExecStateData,
  RunResult,
  GcResult,
  Info,
  CreateBoxBody,
  UpdateBoxBody,
  ExecBody,
  RunBody,
  GcBody,
  Images,
  PullBody,
  PullResult,
  UsageHistory,
  UsageUpdate,
  Error: ErrorBody,
};

const execOperations: readonly Operation[] = [
  {
    method: 'post',
    path: '/v1/boxes/{box}/exec',
    id: 'startExec',
    summary: 'Start a command in a box',
    headers: ['Idempotency-Key'],
    body: { schema: ExecBody, required: true },
    answers: { 201: json('The command; a short one has ended already', Exec, 'Server-Timing') },
    errors: [...execErrors, 'BOX_NOT_RUNNING', 'RESOURCE_EXCEEDED'],
  },
  {
    method: 'get',
    path: '/v1/boxes/{box}/execs',
    id: 'listExecs',
    summary: 'The commands of a box, newest first',
    query: ExecsQuery,
    answers: { 200: json('Commands', Type.Array(Exec), ...pageHeaders) },
    errors: boxErrors,
  },
  {
    method: 'get',
    path: '/v1/boxes/{box}/exec/{exec}',
    id: 'getExec',
    summary: 'One command; with wait, when it has ended',
    query: ExecQuery,
    answers: { 200: json('The command', Exec) },
    errors: execErrors,
  },
  {
    method: 'post',
    path: '/v1/boxes/{box}/exec/{exec}:cancel',
    id: 'cancelExec',
    summary: 'Kill a command and everything that it has started',
    answers: { 200: json('The command, canceled', Exec) },
    errors: [...execErrors, 'BOX_NOT_RUNNING', 'EXEC_ALREADY_FINISHED'],
  },
  {
    method: 'post',
    path: '/v1/boxes/{box}/exec/{exec}:signal',
    id: 'signalExec',
    summary: 'Send a signal to a command, such as INT or 2',
    body: { schema: SignalBody, required: true },
    answers: { 200: json('The command', Exec) },
    errors: [...execErrors, 'BOX_NOT_RUNNING', 'EXEC_ALREADY_FINISHED'],
  },
  {
    method: 'get',
    path: '/v1/boxes/{box}/exec/{exec}/events',
    id: 'followExec',
    summary: 'The output and the exit of a command, as server-sent events',
    query: EventsQuery,
    headers: ['Last-Event-ID'],
    answers: {
      200: {
        description:
          'The events log, then exit; with follow=false, the events that exist now, then end; only end, if the exit came ' +
          'before the event to resume after',
        content: { 'text/event-stream': text },
      },
    },
    errors: execErrors,
  },
  {
    method: 'post',
    path: '/v1/run',
    id: 'run',
    summary: 'Run one command in a box of its own, which is removed afterwards',
    headers: ['Idempotency-Key'],
    query: RunQuery,
    body: { schema: RunBody, required: true },
    answers: {
      200: {
        description:
          'How the command ended, and its output. With Accept: text/event-stream, its progress, then the events log ' +
          'and exit, or error',
        content: { 'application/json': RunResult, 'text/event-stream': text },
      },
    },
    errors: [...createErrors, ...execErrors, 'BOX_NOT_RUNNING'],
  },
];

const upgrade: AnswerOffer = { description: 'A WebSocket', content: {} };
const noUpgrade = {
  description: 'The request does not ask for a WebSocket',
  content: { 'application/json': ErrorBody },
};
/** Columns or rows of a terminal. */
const cells = Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535 }));

const streamOperations: readonly Operation[] = [
  {
    method: 'post',
    path: '/v1/boxes/{box}/files/upload',
    id: 'upload',
    summary: 'Upload a file into a box',
    body: {
      schema: Type.Object({
        file: Type.Unsafe({ type: 'string', contentMediaType: 'application/octet-stream' }),
        dest: Type.String({ minLength: 1 }),
      }),
      required: true,
      contentType: 'multipart/form-data',
    },
    answers: { 200: json('The file is in the box', UploadResult) },
    errors: [...boxErrors, 'BOX_NOT_RUNNING'],
  },
  {
    method: 'post',
    path: '/v1/boxes/{box}/files/download',
    id: 'download',
    summary: 'Download a file from a box',
    body: { schema: DownloadBody, required: true },
    answers: { 200: { description: 'The bytes of the file', content: { 'application/octet-stream': text } } },
    errors: [...boxErrors, 'BOX_NOT_RUNNING'],
  },
  {
    method: 'get',
    path: '/v1/boxes/{box}/attach',
    id: 'attach',
    summary: 'A shell with a terminal, over a WebSocket',
    query: Type.Object({ shell: Type.Optional(text), cols: cells, rows: cells, term: Type.Optional(text) }),
    answers: { 101: upgrade, 426: noUpgrade },
    errors: boxErrors,
  },
  {
    method: 'get',
    path: '/v1/boxes/{box}/exec/{exec}/attach',
    id: 'attachExec',
    summary: 'Input and output of a command, over a WebSocket',
    query: Type.Object({ output: Type.Optional(Type.Enum(['true', 'false'])) }),
    answers: { 101: upgrade, 426: noUpgrade },
    errors: execErrors,
  },
];

const serverOperations: readonly Operation[] = [
  {
    method: 'get',
    path: '/v1/events',
    id: 'watch',
    summary: 'Changes of boxes and commands as they happen, as server-sent events',
    query: StatesQuery,
    headers: ['Last-Event-ID'],
    answers: {
      200: {
        description:
          'First ready, if the request names no id, or reset, if the id is too old: list everything again. Then ' +
          'box.created, box.changed and box.removed with a BoxState, exec.started and exec.finished with an ExecState',
        content: { 'text/event-stream': text },
      },
    },
  },
  {
    method: 'get',
    path: '/v1/usage',
    id: 'usage',
    summary: 'What boxes reserve and use, in the last hour and from now on, as server-sent events',
    answers: {
      200: {
        description: 'history with a UsageHistory, then a sample with a UsageUpdate every few seconds',
        content: { 'text/event-stream': text },
      },
    },
  },
  {
    method: 'get',
    path: '/v1/info',
    id: 'info',
    summary: 'Limits and driver of this server',
    answers: { 200: json('Facts', Info) },
  },
  {
    method: 'get',
    path: '/healthz',
    id: 'live',
    summary: 'Whether the server is alive',
    answers: { 200: json('The server is alive', Ok) },
  },
  {
    method: 'get',
    path: '/readyz',
    id: 'ready',
    summary: 'Whether every part of the server answers',
    answers: { 200: json('Every part works', Health), 503: json('A part does not work now', Health) },
  },
  {
    method: 'get',
    path: '/metrics',
    id: 'metrics',
    summary: 'Figures of every process, for Prometheus',
    answers: { 200: { description: 'The text format of Prometheus', content: { 'text/plain': Type.String() } } },
  },
  {
    method: 'get',
    path: '/',
    id: 'home',
    summary: 'Redirect to the dashboard',
    answers: { 302: { description: 'To /ui', content: {}, headers: ['Location'] } },
  },
  {
    method: 'post',
    path: '/v1/ui/link',
    id: 'uiLink',
    summary: 'A one-time link to the dashboard, for a browser',
    answers: { 200: json('The link', UiLink) },
  },
  {
    method: 'get',
    path: '/ui/login',
    id: 'uiLogin',
    summary: 'The target of the one-time link: sets a cookie',
    query: LoginQuery,
    answers: { 302: { description: 'To /ui', content: {}, headers: ['Location', 'Set-Cookie'] } },
  },
  { method: 'get', path: '/ui', id: 'ui', summary: 'The dashboard', answers: { 200: html('A page'), 304: unchanged } },
  {
    method: 'get',
    path: '/ui/assets/{file}',
    id: 'uiAsset',
    summary: 'A script or style sheet of the dashboard',
    answers: {
      200: { description: 'The file', content: { 'text/javascript': text, 'text/css': text, 'image/svg+xml': text } },
      304: unchanged,
    },
    errors: ['NOT_FOUND'],
  },
  {
    method: 'get',
    path: '/docs',
    id: 'docs',
    summary: 'This description, to be read by people',
    answers: { 200: html('A page') },
  },
  {
    method: 'get',
    path: '/openapi.json',
    id: 'openapi',
    summary: 'This description',
    answers: { 200: json('OpenAPI 3.1', Type.Object({ openapi: text })) },
  },
];

export const operations: readonly Operation[] = [
  ...boxOperations,
  ...execOperations,
  ...streamOperations,
  ...imageOperations,
  ...serverOperations,
];
