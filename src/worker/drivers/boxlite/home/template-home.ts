// Homes that begin where an earlier box's home has come to: with the guest's root file system, which the engine else
// builds in each fresh home, and the image in its index, for which it else asks the registry. Kept by boot.ts after the
// first start of an image's first box, used by box-home.ts before the engine opens a home. Whatever does not fit is
// left out, and the engine makes its own.
import { createHash } from 'node:crypto';
import { chmod, copyFile, link, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { installedDirectory, moveInto, temporaryDirectory } from '../../../../shared/images/layouts.ts';
import type { ImageSource } from '../../../../shared/images/source.ts';
import { hasEngineRecords } from './host-files.ts';

/** The engine's tables of which a fresh home has no rows (version 0.10.0). */
const tablesOfBoxes = ['base_disk_ref', 'snapshot', 'box_state', 'box_config', 'alive'];
const databaseName = 'boxlite.db';

interface HomeOrigin {
  /** Of which the template was made: its database names files by it. */
  readonly homeDir: string;
}

/** For one image in one directory of images. */
export interface TemplateHome {
  /**
   * Fills a home that nobody has opened yet; false where there is no template for it. What fails leaves nothing there.
   */
  seed(homeDir: string): Promise<boolean>;
  /**
   * Keeps what `homeDir` has, where there is no template yet. Its engine is open and quiet: nothing is written to it
   * meanwhile.
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
      const madeOf = (await readFile(origin, 'utf8')
        .then(JSON.parse)
        .catch(() => null)) as HomeOrigin | null;
      if (madeOf === null) return false;
      try {
        await linkFiles(join(template, 'bases'), join(homeDir, 'bases'));
        await mkdir(join(homeDir, 'db'), { recursive: true });
        const database = join(homeDir, 'db', databaseName);
        await copyFile(join(template, databaseName), `${database}.new`);
        await chmod(`${database}.new`, 0o600);
        const { replaceText } = await import('../../../../shared/store/closed-database.ts');
        replaceText(`${database}.new`, `${madeOf.homeDir}/`, `${homeDir}/`);
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
        // Copies: to open the engine's own files in this process would end the engine's locks on them (fcntl(2)).
        const database = join(temporary, databaseName);
        for (const suffix of ['', '-wal'])
          await copyFile(join(homeDir, 'db', `${databaseName}${suffix}`), `${database}${suffix}`);
        const { takeRowsOut } = await import('../../../../shared/store/closed-database.ts');
        takeRowsOut(database, tablesOfBoxes);
        await linkFiles(join(homeDir, 'bases'), join(temporary, 'bases'));
        await writeFile(join(temporary, basename(origin)), JSON.stringify({ homeDir } satisfies HomeOrigin));
        await moveInto(temporary, template, false);
      } finally {
        await rm(temporary, { recursive: true, force: true });
      }
    },
  };
}

/** Links, not copies: the engine only reads these files, and removes its own name of them. */
async function linkFiles(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true });
  for (const name of await readdir(from)) await link(join(from, name), join(to, name));
}
