import type { MicroGroup } from './bench.ts';
import { openCallBenches } from './calls.ts';
import { openGateBenches } from './gate.ts';
import { openRingBenches } from './ring.ts';

/** One after another: what one has open is closed before the next is opened. */
export const GROUPS: readonly (() => MicroGroup)[] = [openRingBenches, openGateBenches, openCallBenches];
