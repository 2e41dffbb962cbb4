// The source of a box's image: a reference to a registry, or an OCI layout on this host. A source never contains an
// alias: the supervisor resolves aliases before, with the table in this file.
import { Type, type Static } from 'typebox';

export const ImageSource = Type.Union([
  Type.Object({ kind: Type.Literal('registry'), reference: Type.String() }),
  /** `layoutDir` is an OCI layout directory with one image; `digest` names its content (sha256:…). */
  Type.Object({
    kind: Type.Literal('layout'),
    name: Type.String(),
    layoutDir: Type.String(),
    digest: Type.String(),
  }),
]);
export type ImageSource = Static<typeof ImageSource>;

/** Short names, the same as in every edition of BoxRun. An imported image with such a name is preferred. */
export const imageAliases: Readonly<Record<string, string>> = {
  default: 'ubuntu:24.04',
  ubuntu: 'ubuntu:24.04',
  python: 'python:3.12-slim',
  node: 'node:22-slim',
  golang: 'golang:1.22',
  rust: 'rust:1.77-slim',
  alpine: 'alpine:3.20',
};
