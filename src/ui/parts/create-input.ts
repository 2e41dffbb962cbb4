// Turns the fields of the form for a new box into a request. It has no side effects. In fields with several lines, each
// line is one entry. It checks only the form of entries; the server checks the values.
import type { CreateBoxInput } from '../../sdk/browser.ts';

export interface CreateFields {
  readonly image: string;
  readonly name: string;
  readonly cpu: string;
  readonly memoryMb: string;
  readonly diskGb: string;
  readonly cpuLimit: string;
  readonly stopGraceS: string;
  readonly network: boolean;
  readonly env: string;
  readonly volumes: string;
  readonly labels: string;
}

export const emptyFields: CreateFields = {
  image: 'base',
  name: '',
  cpu: '2',
  memoryMb: '1024',
  diskGb: '8',
  cpuLimit: '',
  stopGraceS: '',
  network: false,
  env: '',
  volumes: '',
  labels: '',
};

/** @throws Error that names the wrong line */
export function createInputOf(fields: CreateFields): CreateBoxInput {
  const env = pairsOf(fields.env, 'Environment');
  const labels = pairsOf(fields.labels, 'Labels');
  const volumes = linesOf(fields.volumes).map(volumeOf);
  return {
    image: fields.image.trim(),
    ...(fields.name.trim() === '' ? {} : { name: fields.name.trim() }),
    cpu: Number(fields.cpu),
    memory_mb: Number(fields.memoryMb),
    disk_size_gb: Number(fields.diskGb),
    ...(fields.cpuLimit === '' ? {} : { cpu_limit: Number(fields.cpuLimit) }),
    ...(fields.stopGraceS === '' ? {} : { stop_grace_s: Number(fields.stopGraceS) }),
    network: fields.network,
    ...(Object.keys(env).length === 0 ? {} : { env }),
    ...(Object.keys(labels).length === 0 ? {} : { labels }),
    ...(volumes.length === 0 ? {} : { volumes }),
  };
}

function linesOf(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
}

function pairsOf(text: string, field: string): Record<string, string> {
  return Object.fromEntries(
    linesOf(text).map((line) => {
      const at = line.indexOf('=');
      if (at < 1) throw new Error(`${field}: "${line}" must be KEY=VALUE`);
      return [line.slice(0, at), line.slice(at + 1)];
    }),
  );
}

function volumeOf(line: string): { host_path: string; guest_path: string; readonly: boolean } {
  const [host = '', guest = '', mode = 'rw', ...rest] = line.split(':');
  if (host === '' || guest === '' || rest.length > 0 || !['ro', 'rw'].includes(mode)) {
    throw new Error(`Volumes: "${line}" must be HOST_PATH:PATH_IN_BOX or HOST_PATH:PATH_IN_BOX:ro`);
  }
  return { host_path: host, guest_path: guest, readonly: mode === 'ro' };
}
