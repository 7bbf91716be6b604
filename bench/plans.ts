/** Who can be measured. */
import type { ContestantInfo } from './results.ts';

/** A contestant before it is there. */
export type Plan = Omit<ContestantInfo, 'version'>;

const DAX_WINDOW = '512M';

function nineP(cache: string): Plan {
  return { id: `9p-${cache}`, label: `9p ${cache}`, kind: '9p', cache, writeback: false };
}

function daemon(kind: 'virtiofsd' | 'virtiofs', cache: string, more: Partial<Plan> = {}): Plan {
  const { writeback = false, daxWindow, queues } = more;
  const words = [
    cache,
    ...(writeback ? ['writeback'] : []),
    ...(daxWindow === undefined ? [] : ['dax']),
    ...(queues === undefined ? [] : [`${queues}q`]),
  ];
  const name = kind === 'virtiofsd' ? 'Rust virtiofsd' : 'virtiofs';
  return { ...more, id: [kind, ...words].join('-'), label: [name, ...words].join(' '), kind, cache, writeback };
}

/** All, in the order in which reports show them. */
export const PLANS: readonly Plan[] = [
  nineP('none'),
  nineP('mmap'),
  nineP('loose'),
  daemon('virtiofsd', 'never'),
  daemon('virtiofsd', 'auto'),
  daemon('virtiofsd', 'always'),
  daemon('virtiofsd', 'always', { writeback: true }),
  daemon('virtiofs', 'never'),
  daemon('virtiofs', 'metadata'),
  daemon('virtiofs', 'auto'),
  daemon('virtiofs', 'auto', { queues: 4 }),
  daemon('virtiofs', 'always'),
  daemon('virtiofs', 'always', { writeback: true }),
  daemon('virtiofs', 'never', { daxWindow: DAX_WINDOW }),
  daemon('virtiofs', 'always', { daxWindow: DAX_WINDOW }),
];

/** Those that tell most in little time. */
export const QUICK_IDS: readonly string[] = [
  '9p-none',
  '9p-loose',
  'virtiofsd-auto',
  'virtiofs-never',
  'virtiofs-auto',
  'virtiofs-always',
  'virtiofs-never-dax',
];
