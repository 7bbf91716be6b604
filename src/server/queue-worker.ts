/** The thread of one request queue: sleeps until the driver kicks or the session thread has a command. */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';

import { drainEventfd, Epoll } from '../sys/index.ts';
import { PoolClient } from './pool.ts';
import { QueueRunner } from './queue-runner.ts';
import { countAlive, park, startServing } from './serving.ts';
import {
  ANSWER_COUNT,
  ANSWER_FAILED,
  ANSWER_RESULT,
  ANSWER_STARTED,
  type QueueCommand,
  type QueueData,
  type ToMain,
} from './threads.ts';
import { QueueWaits, Waits, Wakers } from './waits.ts';

const KEY_COMMAND = 0;
const KEY_KICK = 1;

const data = workerData as QueueData;
const leave = countAlive(data.alive);
const { mirror, gate, warn } = await startServing(data);
const morePool: ToMain = { kind: 'spawn-pool' };
const pool = new PoolClient(data.pool, data.queue, data.commandFd, () => parentPort?.postMessage(morePool));
const runner = new QueueRunner(mirror.memory, data.queue, gate, warn, {
  pool,
  waits: new QueueWaits(new Waits(data.waits), data.queue, data.commandFd),
  wakers: new Wakers(data.wakers),
  wakeFd: data.commandFd,
});
const epoll = new Epoll();
const answers = new Int32Array(data.answers);

Atomics.store(answers, ANSWER_STARTED, 1);

function execute(command: QueueCommand): number {
  switch (command.kind) {
    case 'memory':
      mirror.set(command.regions);
      return 0;
    case 'start':
      epoll.add(command.ring.kickFd, KEY_KICK);
      try {
        runner.start(command.ring);
      } catch (error) {
        epoll.remove(command.ring.kickFd);
        throw error;
      }
      return 0;
    case 'stop':
      epoll.remove(runner.kickFd);
      return runner.stop();
    case 'quit':
      return 0;
  }
}

/** Does all commands that have come; false after `quit`. */
function obey(): boolean {
  drainEventfd(data.commandFd);
  for (let next = receiveMessageOnPort(data.commands); next !== undefined; next = receiveMessageOnPort(data.commands)) {
    const command = next.message as QueueCommand;
    try {
      answers[ANSWER_FAILED] = 0;
      answers[ANSWER_RESULT] = execute(command);
    } catch (error) {
      answers[ANSWER_FAILED] = 1;
      data.commands.postMessage((error as Error).message);
    }
    Atomics.add(answers, ANSWER_COUNT, 1);
    Atomics.notify(answers, ANSWER_COUNT);
    if (command.kind === 'quit') return false;
  }
  return true;
}

function run(): void {
  epoll.add(data.commandFd, KEY_COMMAND);
  let more = false;
  for (;;) {
    const ready = epoll.wait(more ? 0 : runner.patienceMs);
    let kicked: boolean = more;
    let woken = false;
    for (let i = 0; i < ready; i += 1) {
      // After a command too: a queue that was started again may have missed its kick.
      kicked = true;
      if (epoll.key(i) === KEY_KICK) {
        runner.acknowledge();
      } else {
        if (!obey()) return;
        woken = true;
      }
    }
    runner.attend(woken);
    more = kicked && runner.run();
  }
}

try {
  run();
} finally {
  runner.end();
  data.commands.close();
  leave();
  park();
}
