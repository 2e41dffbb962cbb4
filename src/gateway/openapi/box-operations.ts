// The operations of the API for boxes: create, list, read, change, start, stop, remove. They use the same schemas as
// the validation.
import { Type } from 'typebox';
import { Box, BoxStats, CreateBoxBody, GcBody, GcResult, StopBody, UpdateBoxBody } from '../../shared/api.ts';
import { BoxesQuery, RemoveQuery } from '../http/validation.ts';
import { boxErrors, createErrors, json, Ok, pageHeaders, text, type Operation } from './operation.ts';

export const boxOperations: readonly Operation[] = [
  {
    method: 'post',
    path: '/v1/boxes',
    id: 'createBox',
    summary: 'Create a box and start it',
    headers: ['Idempotency-Key'],
    body: { schema: CreateBoxBody, required: true },
    answers: {
      201: {
        description: 'The box, running',
        headers: ['Server-Timing'],
        content: { 'application/json': Box },
      },
      200: {
        description: 'With Accept: text/event-stream, its progress, then the events timing and box, or error',
        content: { 'text/event-stream': text },
      },
    },
    errors: [...createErrors, ...boxErrors, 'NAME_ALREADY_EXISTS'],
  },
  {
    method: 'get',
    path: '/v1/boxes',
    id: 'listBoxes',
    summary: 'List boxes, newest first',
    query: BoxesQuery,
    answers: { 200: json('Boxes', Type.Array(Box), ...pageHeaders) },
  },
  {
    method: 'get',
    path: '/v1/boxes/{box}',
    id: 'getBox',
    summary: 'One box, by id or name',
    answers: { 200: json('The box', Box) },
    errors: boxErrors,
  },
  {
    method: 'get',
    path: '/v1/boxes/{box}/stats',
    id: 'boxStats',
    summary: 'What a running box uses now',
    answers: { 200: json('Its use', BoxStats) },
    errors: [...boxErrors, 'BOX_NOT_RUNNING'],
  },
  {
    method: 'patch',
    path: '/v1/boxes/{box}',
    id: 'updateBox',
    summary: 'Change the name and the labels of a box',
    body: { schema: UpdateBoxBody, required: true },
    answers: { 200: json('The box', Box) },
    errors: [...boxErrors, 'NAME_ALREADY_EXISTS'],
  },
  {
    method: 'post',
    path: '/v1/boxes/{box}:start',
    id: 'startBox',
    summary: 'Start a stopped box',
    answers: { 200: json('The box, running', Box, 'Server-Timing') },
    errors: [...boxErrors, ...createErrors, 'BOX_ALREADY_RUNNING'],
  },
  {
    method: 'post',
    path: '/v1/boxes/{box}:stop',
    id: 'stopBox',
    summary: 'Stop a running box; its disk stays',
    body: { schema: StopBody, required: false },
    answers: { 200: json('The box, stopped', Box) },
    errors: [...boxErrors, 'BOX_NOT_RUNNING'],
  },
  {
    method: 'post',
    path: '/v1/boxes/{box}:restart',
    id: 'restartBox',
    summary: 'Stop a box if it runs, and start it',
    body: { schema: StopBody, required: false },
    answers: { 200: json('The box, running', Box, 'Server-Timing') },
    errors: [...boxErrors, ...createErrors, 'BOX_NOT_RUNNING', 'BOX_ALREADY_RUNNING'],
  },
  {
    method: 'delete',
    path: '/v1/boxes/{box}',
    id: 'removeBox',
    summary: 'Remove a box with its disk, its commands and their output',
    query: RemoveQuery,
    answers: { 200: json('The box is removed', Ok) },
    errors: [...boxErrors, 'BOX_ALREADY_RUNNING'],
  },
  {
    method: 'post',
    path: '/v1/gc',
    id: 'collectGarbage',
    summary: 'Remove boxes that are stopped or failed for long',
    body: { schema: GcBody, required: false },
    answers: { 200: json('How many were removed', GcResult) },
  },
];
