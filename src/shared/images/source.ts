// Where a box's image comes from, as the supervisor resolved it: a registry reference, or an OCI layout on this host.
// Passed to drivers; also the one place for aliases.
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

/** Short names, as in every edition of BoxRun; an imported image of the same name goes first. */
export const imageAliases: Readonly<Record<string, string>> = {
  default: 'ubuntu:24.04',
  ubuntu: 'ubuntu:24.04',
  python: 'python:3.12-slim',
  node: 'node:22-slim',
  golang: 'golang:1.22',
  rust: 'rust:1.77-slim',
  alpine: 'alpine:3.20',
};
