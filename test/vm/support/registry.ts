// A read-only image registry on plain http, for tests of pulls. It serves OCI layout directories by name (only the pull
// category of the distribution-spec).
import { createReadStream, existsSync, readFileSync, statSync } from 'node:fs';
import { createServer, type Server, type ServerResponse } from 'node:http';
import { blobPath, manifestType } from '../../../src/shared/images/oci-layout.ts';

/** Every tag of a repository names the one image of its layout. */
export function serveRegistry(layouts: Readonly<Record<string, string>>): Server {
  return createServer((request, response) => {
    const match = /^\/v2\/(?:([^/]+)\/(manifests|blobs)\/(.+))?$/.exec(request.url ?? '');
    if (match === null) return fail(response, 'NAME_UNKNOWN');
    const [, name, kind, reference = ''] = match;
    if (name === undefined) return void response.end('{}');
    const layoutDir = layouts[name];
    if (layoutDir === undefined) return fail(response, 'MANIFEST_UNKNOWN');
    const digest = reference.startsWith('sha256:') ? reference : imageDigest(layoutDir);
    const file = blobPath(layoutDir, digest);
    if (!existsSync(file)) return fail(response, 'BLOB_UNKNOWN');
    response.setHeader('content-type', kind === 'manifests' ? manifestType : 'application/octet-stream');
    response.setHeader('docker-content-digest', digest);
    response.setHeader('content-length', statSync(file).size);
    if (request.method === 'HEAD') return void response.end();
    createReadStream(file).pipe(response);
  });
}

function imageDigest(layoutDir: string): string {
  const index = JSON.parse(readFileSync(`${layoutDir}/index.json`, 'utf8')) as { manifests: { digest: string }[] };
  return index.manifests[0]?.digest ?? '';
}

function fail(response: ServerResponse, code: string): void {
  response.statusCode = 404;
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify({ errors: [{ code, message: code.toLowerCase().replace('_', ' ') }] }));
}
