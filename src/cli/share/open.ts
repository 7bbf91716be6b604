/** Connects the commands to a daemon, by the client. */
import { ConnectionError, connect } from '../../client/index.ts';
import { UserError } from '../../core/index.ts';
import type { Open } from './face.ts';

export const openShare: Open = async (socketPath, { cache, writeback, daxBytes, queues, timeoutMs }) => {
  try {
    return await connect(socketPath, { cache, writeback, queues, timeoutMs, dax: daxBytes });
  } catch (error) {
    if (error instanceof ConnectionError) throw new UserError(error.message, { cause: error });
    throw error;
  }
};
