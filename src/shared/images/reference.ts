// Image names: which strings are references to a registry, which may name an imported image, and how a name becomes a
// file name. Used by the image store, the importer and both drivers. Nothing here touches the disk or the network.
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
/** As the registry clients have it: host and path together. */
const referenceNameLengthMax = 255;
/** Of a file (NAME_MAX), less what is written before or after a name. */
const fileNameBytesMax = 220;

interface ImageReference {
  /** Registry as host or host:port; the public default where the reference names none. */
  readonly host: string;
  readonly path: string;
  readonly tag: string | null;
  readonly digest: string | null;
}

/**
 * Reads a reference as `docker pull` would: the first component is a host when it has a dot, a colon, or is
 * `localhost`.
 * @throws IMAGE_PULL_FAILED when `text` cannot be a reference
 */
export function parseReference(text: string): ImageReference {
  const slash = text.indexOf('/');
  const first = slash < 0 ? '' : text.slice(0, slash);
  const named = first === 'localhost' || /[.:[]/.test(first);
  const match = referenceExpression.exec(named ? text : `docker.io/${text}`);
  if (
    match?.[1] === undefined ||
    match[2] === undefined ||
    match[1].length + match[2].length >= referenceNameLengthMax
  ) {
    throw new BoxRunError('IMAGE_PULL_FAILED', `'${text.slice(0, 300)}' is not a valid image reference`, {
      hint: 'write it as NAME[:TAG], HOST[:PORT]/NAME[:TAG] or NAME@sha256:DIGEST, in lower case, with at most 255 characters',
    });
  }
  const path = !named && !match[2].includes('/') ? `library/${match[2]}` : match[2];
  return { host: match[1], path, tag: match[3] ?? null, digest: match[4] ?? null };
}

/** The full form of a reference, equal for all ways of writing it. */
export function canonicalReference(text: string): string {
  const { host, path, tag, digest } = parseReference(text);
  return digest === null ? `${host}/${path}:${tag ?? 'latest'}` : `${host}/${path}@${digest}`;
}

/**
 * The canonical name of an imported image: `tools` and `tools:latest` are one.
 * @throws VALIDATION_ERROR when it cannot be a name
 */
export function localName(text: string): string {
  const name = tryLocalName(text);
  if (name !== null) return name;
  throw new BoxRunError('VALIDATION_ERROR', `'${text.slice(0, 300)}' cannot be the name of an image`, {
    hint: 'use letters, digits, dots, dashes and slashes, with a :tag if you like, and at most 200 characters',
  });
}

/** As `localName`, or null. */
export function tryLocalName(text: string): string | null {
  if (text.length > localNameLengthMax || !localNameExpression.test(text)) return null;
  const name = /:[^/]*$/.test(text) ? text : `${text}:latest`;
  return encodeURIComponent(name).length > fileNameBytesMax ? null : name;
}

/**
 * A file name for any image name or reference. `decodeName` undoes it for names of imported images; a longer one
 * becomes a digest.
 */
export function encodeName(name: string): string {
  const encoded = encodeURIComponent(name);
  return encoded.length > fileNameBytesMax ? `sha256-${createHash('sha256').update(name).digest('hex')}` : encoded;
}

export function decodeName(fileName: string): string {
  return decodeURIComponent(fileName);
}
