/** What went by, as lines: described, filtered, counted. */
import { type Description, describe, describeLine, type Fields, opcodes } from '../../fuse/index.ts';
import { describeMessage, type Message, type Sender } from '../../vhost/index.ts';
import type { Exchange } from '../../virtio/index.ts';
import { Summary } from './summary.ts';

export interface RecorderOptions {
  readonly json: boolean;
  /** vhost-user messages as well. */
  readonly vhost: boolean;
  /** Only these opcodes; absent: all. */
  readonly opcodes?: readonly string[];
  /** Only messages about this node. */
  readonly nodeid?: string;
  /** Only those that failed. */
  readonly errors: boolean;
  /** Only those that took so long at least. */
  readonly slowMs?: number;
  /** The machine is an arm64 one, and so is the guest. */
  readonly arm64: boolean;
  /** performance.timeOrigin: when the clock of the exchanges was 0, in milliseconds since 1970. */
  readonly timeOriginMs: number;
  readonly line: (text: string) => void;
}

/** Enough for the longest names of a request: a symlink with its target, and a label. */
export const REQUEST_BYTES = 5120;
const REPLY_BYTES = 4096;
/** The largest list of a directory: all of its entries are counted. */
const LISTING_BYTES = 1024 * 1024;
const LISTINGS = new Set<number>([opcodes.READDIR.code, opcodes.READDIRPLUS.code, opcodes.LISTXATTR.code]);

/** How much of the reply to a request is of interest. */
export function replyBytesOf(request: Uint8Array): number {
  if (request.length < 8) return REPLY_BYTES;
  const code = new DataView(request.buffer, request.byteOffset).getUint32(4, true);
  return LISTINGS.has(code) ? LISTING_BYTES : REPLY_BYTES;
}

export class Recorder {
  readonly summary = new Summary();
  readonly #options: RecorderOptions;
  #setxattrExt = false;

  constructor(options: RecorderOptions) {
    this.#options = options;
  }

  /** A new connection: nothing is agreed on. */
  connected(): void {
    this.#setxattrExt = false;
  }

  exchanged(queue: number, exchange: Exchange): void {
    const { setxattrExt, description } = this.#describe(exchange);
    this.#setxattrExt = setxattrExt;
    const { offeredMs, usedMs, late } = exchange;
    const latencyUs = usedMs === undefined || late ? undefined : Math.round((usedMs - offeredMs) * 1000);
    if (!this.#isWanted(description, exchange, latencyUs)) return;
    this.summary.add({
      opcode: description.opcode,
      failed: isFailed(description),
      bytesIn: exchange.requestBytes,
      bytesOut: exchange.replyBytes,
      latencyUs,
    });
    const { json, line } = this.#options;
    if (json) {
      const time = this.#time(offeredMs);
      line(JSON.stringify({ time, queue, ...description, ...(latencyUs !== undefined && { latencyUs }) }));
      return;
    }
    const took = latencyUs === undefined ? 'not timed' : `${latencyUs} us`;
    line(`${describeLine(description)}${usedMs === undefined ? '' : ` (${took})`}`);
  }

  #describe(exchange: Exchange): { description: Description; setxattrExt: boolean } {
    const { request, requestBytes, reply, replyBytes, roomBytes, usedMs, error } = exchange;
    const isAnswered = usedMs !== undefined && roomBytes > 0;
    const described = describe(
      { bytes: request, length: requestBytes },
      isAnswered ? { bytes: reply, length: replyBytes } : undefined,
      { setxattrExt: this.#setxattrExt, arm64: this.#options.arm64 },
    );
    const problems = [...described.problems];
    if (error !== '') problems.push(error);
    if (usedMs === undefined) problems.push('not answered');
    else if (isAnswered && replyBytes === 0) problems.push('given back without a reply');
    const { code, reply: told } = described;
    const isInit = code === opcodes.INIT.code && told?.error === '';
    const setxattrExt = isInit ? hasFlag(told.fields, 'SETXATTR_EXT') : this.#setxattrExt;
    return { description: { ...described, problems }, setxattrExt };
  }

  #isWanted(description: Description, exchange: Exchange, latencyUs: number | undefined): boolean {
    const { opcodes: wanted, nodeid, errors, slowMs } = this.#options;
    if (wanted !== undefined && !wanted.includes(description.opcode)) return false;
    if (nodeid !== undefined && !nodesOf(description).includes(nodeid)) return false;
    if (errors && !isFailed(description)) return false;
    // What was never answered took longer than anything.
    const tookUs = latencyUs ?? (exchange.usedMs === undefined ? Number.POSITIVE_INFINITY : 0);
    return slowMs === undefined || tookUs >= slowMs * 1000;
  }

  missed(queue: number, count: number): void {
    this.summary.missed += count;
    const { json, line } = this.#options;
    if (json) line(JSON.stringify({ time: this.#time(performance.now()), queue, missed: count }));
    else line(`... ${count} messages of queue ${queue} went by unseen`);
  }

  message(sender: Sender, message: Message): void {
    const { vhost, json, line } = this.#options;
    if (!vhost) return;
    const { name, reply, needsReply, fds, says } = describeMessage(message);
    if (json) {
      line(JSON.stringify({ time: this.#time(performance.now()), vhost: name, sender, reply, needsReply, fds, says }));
      return;
    }
    const parts = ['vhost', sender === 'front-end' ? '>' : '<', reply ? `${name} reply` : name, says];
    if (fds > 0) parts.push(`+${fds} descriptors`);
    line(parts.filter((part) => part !== '').join(' '));
  }

  #time(ms: number): string {
    return new Date(this.#options.timeOriginMs + ms).toISOString();
  }
}

function hasFlag(fields: Fields, flag: string): boolean {
  return typeof fields.flags === 'string' && fields.flags.split('|').includes(flag);
}

function isFailed({ reply, problems }: Description): boolean {
  return (reply !== undefined && reply.error !== '') || problems.includes('not answered');
}

/** The nodes that a message is about. */
function nodesOf({ nodeid, fields, reply }: Description): string[] {
  const { newdir, oldnodeid, nodeidOut } = fields;
  const entry = reply?.fields.entry as Fields | undefined;
  const ids = [nodeid, newdir, oldnodeid, nodeidOut, reply?.fields.nodeid, entry?.nodeid];
  return ids.filter((id) => id !== undefined).map((id) => `${id as string | number}`);
}
