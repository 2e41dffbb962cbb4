// The disks with the project for the guest. One has the working tree and is made for every run. One has node_modules
// and is kept until an install changes it. The working tree itself is only read.

import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { LabError, run } from './command.mjs';
import { makeDisk } from './host-image.mjs';
import { limits } from './recipe.mjs';

/** The guest does not get these. node_modules has a disk of its own. */
const leftOut = new Set(['node_modules', '.git', 'coverage', 'test-results', 'playwright-report']);

/**
 * @param {string} project the project's root
 * @param {string} work an empty folder for this run
 * @param {string | undefined} script a file outside the tree to put at the project's root
 * @returns {string} the image
 */
export function makeProjectDisk(project, work, script) {
  const tree = path.join(work, 'tree');
  mkdirSync(tree);
  for (const entry of readdirSync(project).filter((name) => !leftOut.has(name))) {
    cpSync(path.join(project, entry), path.join(tree, entry), {
      recursive: true,
      preserveTimestamps: true,
      verbatimSymlinks: true,
      filter: isOrdinary,
    });
  }
  if (script) cpSync(script, path.join(tree, path.basename(script)));
  mkdirSync(path.join(tree, 'node_modules'));
  const image = path.join(work, 'project.img');
  makeDisk(tree, image, sizeMiB(tree) + limits.projectDiskSpareMiB);
  rmSync(tree, { recursive: true });
  return image;
}

/** @param {string} file @returns {boolean} false for sockets and pipes, which a running server may have in the tree. */
function isOrdinary(file) {
  const stats = statSync(file, { throwIfNoEntry: false });
  return !stats || stats.isFile() || stats.isDirectory();
}

/**
 * @param {string} project @param {string} cacheFolder
 * @returns {string} the image; it comes from the cache if nothing was installed since it was made
 */
export function openModulesDisk(project, cacheFolder) {
  const folder = path.join(project, 'node_modules');
  if (!existsSync(folder)) throw new LabError('node_modules is missing: run npm install first');
  const installed = path.join(folder, '.package-lock.json');
  const hash = createHash('sha256').update(`${folder} ${statSync(folder).mtimeMs}`);
  if (existsSync(installed)) hash.update(readFileSync(installed)).update(String(statSync(installed).mtimeMs));
  const name = `modules-${hash.digest('hex').slice(0, 12)}.img`;
  const image = path.join(cacheFolder, name);
  if (existsSync(image)) return image;

  for (const old of readdirSync(cacheFolder).filter((entry) => entry.startsWith('modules-')))
    rmSync(path.join(cacheFolder, old));
  const building = path.join(cacheFolder, 'modules-building.img');
  makeDisk(folder, building, sizeMiB(folder) + limits.projectDiskSpareMiB);
  renameSync(building, image);
  return image;
}

/** @param {string} folder @returns {number} the size of its files, and what ext4 adds for many small files. */
function sizeMiB(folder) {
  return Math.ceil(Number.parseInt(run('du', ['-sm', folder]), 10) * 1.25);
}
