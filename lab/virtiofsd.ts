import { messageOf, LabError } from './errors.ts';
import { type FetchOptions, fetchTools } from './assets.ts';
import { which } from './host.ts';
import { programOfTree } from './qemu-program.ts';

/** Where distributions have the Rust one. Not in PATH: a `virtiofsd` there may be this project's. */
const FOLDERS = '/usr/libexec:/usr/lib/virtiofsd:/usr/lib';

/** The command line of Rust virtiofsd, for DaemonOptions.command: this machine's, else Debian's, fetched. */
export async function findVirtiofsd(options: FetchOptions = {}): Promise<string[]> {
  const found = which('virtiofsd', FOLDERS);
  if (found !== undefined) return [found];
  try {
    const { tree } = await fetchTools(['virtiofsd'], options);
    return programOfTree(tree, 'usr/libexec/virtiofsd');
  } catch (error) {
    throw new LabError('NO_VIRTIOFSD', `no Rust virtiofsd: none is in ${FOLDERS}.\n${messageOf(error)}`, {
      cause: error,
    });
  }
}
