// Names of images: references to a registry, names of imported images, and file names for both. This file only works on
// texts; it never uses the disk or the network.
import { createHash } from 'node:crypto';
import { BoxRunError } from '../errors.ts';

const hostPattern = '(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\\[[0-9a-fA-F:]+\\])(?::[0-9]{1,5})?';
const componentPattern = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*';
const tagPattern = '[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}';
const referenceExpression = new RegExp(
  `^(?:(${hostPattern})/)?(${componentPattern}(?:/${componentPattern})*)(?::(${tagPattern}))?(?:@(sha256:[0-9a-f]{64}))?$`,
);
const localNameExpression = new RegExp(
  `^[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*(?::${tagPattern})?$`,
);
const localNameLengthMax = 200;
/** Characters of host and path together. Clients of registries have the same maximum. */
const referenceNameLengthMax = 255;
/** Bytes of a file name: NAME_MAX (255), less room for text before or after the name. */
const fileNameBytesMax = 220;

interface ImageReference {
  /** The registry as host or host:port. If the reference names none, docker.io. */
  readonly host: string;
  readonly path: string;
  readonly tag: string | null;
  readonly digest: string | null;
}

/**
 * Reads a reference in the same way as `docker pull`: the first component is a host if it contains a dot or a colon, or
 * is `localhost`.
 * @throws IMAGE_PULL_FAILED if `text` cannot be a reference
 */
export function parseReference(text: string): ImageReference {
  const slash = text.indexOf('/');
  const first = slash < 0 ? '' : text.slice(0, slash);
  const hasHost = first === 'localhost' || /[.:[]/.test(first);
  const match = referenceExpression.exec(hasHost ? text : `docker.io/${text}`);
  if (
    match?.[1] === undefined ||
    match[2] === undefined ||
    match[1].length + match[2].length >= referenceNameLengthMax
  ) {
    throw new BoxRunError('IMAGE_PULL_FAILED', `'${text.slice(0, 300)}' is not a valid image reference`, {
      hint: 'write it as NAME[:TAG], HOST[:PORT]/NAME[:TAG] or NAME@sha256:DIGEST, in lower case, with at most 255 characters',
    });
  }
  const path = !hasHost && !match[2].includes('/') ? `library/${match[2]}` : match[2];
  return { host: match[1], path, tag: match[3] ?? null, digest: match[4] ?? null };
}

/** The full form of a reference. It is the same for all ways to write the reference. */
export function canonicalReference(text: string): string {
  const { host, path, tag, digest } = parseReference(text);
  return digest === null ? `${host}/${path}:${tag ?? 'latest'}` : `${host}/${path}@${digest}`;
}

/**
 * The canonical name of an imported image: `tools` and `tools:latest` are the same.
 * @throws VALIDATION_ERROR if `text` cannot be a name
 */
export function localName(text: string): string {
  const name = tryLocalName(text);
  if (name !== null) return name;
  throw new BoxRunError('VALIDATION_ERROR', `'${text.slice(0, 300)}' cannot be the name of an image`, {
    hint: 'use letters, digits, dots, dashes and slashes, with a :tag if you like, and at most 200 characters',
  });
}

/** As `localName`, but null if `text` cannot be a name. */
export function tryLocalName(text: string): string | null {
  if (text.length > localNameLengthMax || !localNameExpression.test(text)) return null;
  const name = /:[^/]*$/.test(text) ? text : `${text}:latest`;
  return encodeURIComponent(name).length > fileNameBytesMax ? null : name;
}

/**
 * A file name for an image name or a reference. A long reference becomes a digest. Names of imported images are never
 * that long, so `decodeName` gives them back.
 */
export function encodeName(name: string): string {
  const encoded = encodeURIComponent(name);
  return encoded.length > fileNameBytesMax ? `sha256-${createHash('sha256').update(name).digest('hex')}` : encoded;
}

export function decodeName(fileName: string): string {
  return decodeURIComponent(fileName);
}
