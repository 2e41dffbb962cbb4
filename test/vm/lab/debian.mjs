// The packages that the lab takes from Debian, through the machine's own apt sources: missing programs, the guest's
// kernel, and a newer QEMU. Packages that only the lab needs are unpacked and not installed. For them, apt uses package
// lists of its own, so the lists of the machine do not change.

import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { isInstalled, LabError, run } from './command.mjs';

const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';

/**
 * Makes sure that programs are installed. As root, it installs their packages. Otherwise it throws with their names.
 *
 * @param {Record<string, string>} programs program → package
 * @throws {LabError}
 */
export function requirePrograms(programs) {
  const missing = Object.keys(programs).filter((program) => !isInstalled(program));
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map((program) => programs[program] ?? program))];
  if (process.getuid?.() !== 0 || !isInstalled('apt-get')) {
    throw new LabError(`the VM lab needs these Debian packages: ${packages.join(' ')}`);
  }
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  run('apt-get', ['update', '-q'], { env });
  run('apt-get', ['install', '-q', '-y', '--no-install-recommends', ...packages], { env });
}

/** @returns {string} the code name of this machine's Debian release. The guest has the same release. */
function codename() {
  const release = readFileSync('/etc/os-release', 'utf8');
  const name = /^VERSION_CODENAME="?([a-z]+)"?$/m.exec(release)?.[1];
  if (!name || !/^ID=debian$/m.test(release))
    throw new LabError("the VM lab is built from Debian's packages and needs a Debian machine");
  return name;
}

/** @returns {{uri: string, suite: string, components: string}[]} Debian's own archives among the machine's sources. */
function configuredArchives() {
  const list = () =>
    run('apt-get', [
      'indextargets',
      '--format',
      '$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)',
      'Created-By: Packages',
    ])
      .split('\n')
      .map((line) => line.split(' '))
      .filter(([, , , origin]) => origin === 'Debian');
  let rows = list();
  if (rows.length === 0) {
    // The origin is only known once the lists have been fetched.
    run('apt-get', ['update', '-q']);
    rows = list();
  }
  const archives = rows.map(([uri = '', suite = '', components = '']) => ({ uri, suite, components }));
  return archives.filter(
    (a, i) => archives.findIndex((b) => b.uri === a.uri && b.suite === a.suite && b.components === a.components) === i,
  );
}

/**
 * Makes an apt with package lists and a download folder of its own, in `folder`.
 *
 * @param {string} folder
 */
export function openPrivateApt(folder) {
  const release = codename();
  const archives = configuredArchives();
  const mirror = archives.find((archive) => archive.suite === release)?.uri;
  if (!mirror) throw new LabError(`no apt source for Debian ${release} is configured on this machine`);

  const lists = path.join(folder, 'lists');
  const downloads = path.join(folder, 'downloads');
  mkdirSync(path.join(lists, 'partial'), { recursive: true });
  mkdirSync(path.join(downloads, 'archives', 'partial'), { recursive: true });
  const sources = path.join(folder, 'sources.list');
  const signed = existsSync(keyring) ? `[signed-by=${keyring}] ` : '';
  const settings = [
    `Dir::Etc::SourceList=${sources}`,
    'Dir::Etc::SourceParts=/dev/null',
    `Dir::State::Lists=${lists}`,
    `Dir::Cache=${downloads}`,
    'APT::Sandbox::User=root',
    'Acquire::Languages=none',
    'Acquire::Retries=2',
  ].flatMap((setting) => ['-o', setting]);
  /** @param {string[]} args @param {string} [cwd] */
  const apt = (args, cwd) => run('apt-get', [...settings, '-q', ...args], { cwd });
  /** @param {{uri: string, suite: string, components: string}[]} wanted */
  const use = (wanted) => {
    writeFileSync(
      sources,
      wanted.map(({ uri, suite, components }) => `deb ${signed}${uri} ${suite} ${components}\n`).join(''),
    );
    apt(['update']);
  };
  use(archives);

  return {
    release,
    mirror,

    /**
     * Unpacks the kernel on which a metapackage depends.
     * @param {string} metapackage @param {string} target
     */
    unpackKernel(metapackage, target) {
      const depends = run('apt-cache', [...settings, 'depends', metapackage]);
      const name = /Depends: (linux-image-\S+)/.exec(depends)?.[1];
      if (!name) throw new LabError(`${metapackage} names no kernel`);
      apt(['download', name], downloads);
      const file = readdirSync(downloads).find((entry) => entry.startsWith(`${name}_`));
      if (!file) throw new LabError(`${name} was not downloaded`);
      run('dpkg', ['-x', path.join(downloads, file), target]);
    },

    /**
     * Unpacks a package of the release's backports, and those of its dependencies that are not installed.
     * @param {string} name @param {string} target
     */
    unpackBackport(name, target) {
      use([...archives, { uri: mirror, suite: `${release}-backports`, components: 'main' }]);
      apt(['-t', `${release}-backports`, '--no-install-recommends', '--download-only', '-y', 'install', name]);
      const folder = path.join(downloads, 'archives');
      for (const entry of readdirSync(folder).filter((file) => file.endsWith('.deb'))) {
        run('dpkg', ['-x', path.join(folder, entry), target]);
      }
    },
  };
}
