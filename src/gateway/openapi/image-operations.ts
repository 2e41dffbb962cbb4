// The operations of the API for images: list, pull and remove.
// They use the same schemas as the validation.
import { Images, PullBody, PullResult } from '../../shared/api.ts';
import { json, Ok, text, type Operation } from './operation.ts';

export const imageOperations: readonly Operation[] = [
  {
    method: 'get',
    path: '/v1/images',
    id: 'images',
    summary: 'Images that this host knows by name',
    answers: { 200: json('Images', Images) },
  },
  {
    method: 'post',
    path: '/v1/images',
    id: 'pullImage',
    summary: 'Pull an image, so that the next box does not wait for it',
    body: { schema: PullBody, required: true },
    answers: {
      200: {
        description: 'The image is ready. With Accept: text/event-stream, its progress, then the event image, or error',
        content: { 'application/json': PullResult, 'text/event-stream': text },
      },
    },
    errors: ['IMAGE_PULL_FAILED', 'RESOURCE_EXCEEDED'],
  },
  {
    method: 'delete',
    path: '/v1/images/{image}',
    id: 'removeImage',
    summary: 'Remove an imported image; boxes made from it keep their disks',
    answers: { 200: json('The image is removed', Ok) },
    errors: ['NOT_FOUND'],
  },
];
