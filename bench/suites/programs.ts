/** The programs of every day for a guest, from Debian: only they and what they load, of packages that bring 130 MB. */
import { type CpioEntry, type FetchOptions, fetchTools } from '../../lab/index.ts';
import { treeEntries } from '../../lab/guest-root.ts';

const PACKAGES = ['coreutils', 'findutils', 'git', 'grep', 'sqlite3', 'tar'];
const PROGRAMS = /^usr\/bin\/(find|git|grep|rm|sqlite3|tar)$/;
/** What git starts by a name of its own, and what it puts into each new repository. */
const PARTS_OF_GIT = /^usr\/(bin\/git-upload-pack|lib\/git-core\/git(-upload-pack)?|share\/git-core\/templates\/.*)$/;
const LIBRARY_NAMES = 'ld-linux-x86-64|libacl|libc|libm|libpcre2-8|libreadline|libselinux|libsqlite3|libtinfo|libz';
const LIBRARIES = new RegExp(`^usr/lib(64)?/(x86_64-linux-gnu/)?(${LIBRARY_NAMES})\\.so[^/]*$`);

const GIT_CONFIG = `[user]
	name = Somebody
	email = somebody@example.org
[safe]
	directory = *
`;

/** Files for a guest's root. */
export async function everydayPrograms(fetching: FetchOptions = {}): Promise<CpioEntry[]> {
  const { tree } = await fetchTools(PACKAGES, fetching);
  const all = [...treeEntries(tree)];
  const wanted = all.filter(({ kind, path }) => {
    if (kind === 'folder') return false;
    return PROGRAMS.test(path) || PARTS_OF_GIT.test(path) || LIBRARIES.test(path);
  });
  const folders = all.filter(
    ({ kind, path }) => kind === 'folder' && wanted.some((each) => each.path.startsWith(`${path}/`)),
  );
  const bytes = new TextEncoder().encode(GIT_CONFIG);
  return [...folders, ...wanted, { kind: 'file', path: 'root/.gitconfig', bytes }];
}
