// Templates of homes, one for each image. A template has files of the first box of its image: the root file system of
// the guest, which the engine would build again in each new home, and the image's entry in the engine's database, for
// which it would ask the registry. A home that cannot use a template starts empty, and the engine makes all of it.
import { createHash } from 'node:crypto';
import { chmod, copyFile, link, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { installedDirectory, moveInto, temporaryDirectory } from '../../../../shared/images/layouts.ts';
import type { ImageSource } from '../../../../shared/images/source.ts';
import { hasEngineRecords } from './host-files.ts';

/** The tables of the engine's database that have no rows in a new home (engine version 0.10.0). */
const tablesOfBoxes = ['base_disk_ref', 'snapshot', 'box_state', 'box_config', 'alive'];
const databaseName = 'boxlite.db';

interface HomeOrigin {
  /** The home from which the template was made. The paths in the template's database begin with it. */
  readonly homeDir: string;
}

/** The template of one image in one images directory. */
export interface TemplateHome {
  /**
   * Fills a home that the engine has not opened yet. Returns false when there is no template, or when the engine has a
   * database in the home already. If it fails, it removes what it had put there.
   */
  seed(homeDir: string): Promise<boolean>;
  /**
   * Makes the template from `homeDir` if there is none yet. Call it while the engine writes nothing into this home.
   */
  keep(homeDir: string): Promise<void>;
}

export function createTemplateHome(imagesDir: string, image: ImageSource): TemplateHome {
  const key = createHash('sha256').update(JSON.stringify(image)).digest('hex').slice(0, 16);
  const template = join(imagesDir, 'boxlite-homes', key);
  const origin = join(template, 'origin.json');
  return {
    async seed(homeDir) {
      if (await hasEngineRecords(homeDir)) return false;
      const homeOrigin = (await readFile(origin, 'utf8')
        .then(JSON.parse)
        .catch(() => null)) as HomeOrigin | null;
      if (homeOrigin === null) return false;
      try {
        await linkFiles(join(template, 'bases'), join(homeDir, 'bases'));
        await mkdir(join(homeDir, 'db'), { recursive: true });
        const database = join(homeDir, 'db', databaseName);
        await copyFile(join(template, databaseName), `${database}.new`);
        await chmod(`${database}.new`, 0o600);
        const { replaceText } = await import('../../../../shared/store/closed-database.ts');
        replaceText(`${database}.new`, `${homeOrigin.homeDir}/`, `${homeDir}/`);
        await rename(`${database}.new`, database);
        return true;
      } catch (error) {
        for (const name of ['bases', 'db']) await rm(join(homeDir, name), { recursive: true, force: true });
        throw error;
      }
    },
    async keep(homeDir) {
      if (await installedDirectory(template)) return;
      const temporary = await temporaryDirectory(imagesDir, template);
      try {
        // The database is changed in a copy. If this process opened and closed the engine's own file, the engine would
        // lose its locks on it (fcntl(2)).
        const database = join(temporary, databaseName);
        for (const suffix of ['', '-wal'])
          await copyFile(join(homeDir, 'db', `${databaseName}${suffix}`), `${database}${suffix}`);
        const { deleteRows } = await import('../../../../shared/store/closed-database.ts');
        deleteRows(database, tablesOfBoxes);
        await linkFiles(join(homeDir, 'bases'), join(temporary, 'bases'));
        await writeFile(join(temporary, basename(origin)), JSON.stringify({ homeDir } satisfies HomeOrigin));
        await moveInto(temporary, template, false);
      } finally {
        await rm(temporary, { recursive: true, force: true });
      }
    },
  };
}

/** Makes hard links instead of copies. This is safe: the engine only reads these files, or removes its own link. */
async function linkFiles(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true });
  for (const name of await readdir(from)) await link(join(from, name), join(to, name));
}
