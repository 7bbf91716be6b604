export { Counters, COUNTERS_BYTES, formatStatistics, type OpcodeStatistics } from './counters.ts';
export { Gate, type GateOptions } from './gate.ts';
export { type Listening, listen, unlisten } from './listening.ts';
export { createLog, limited, LOG_LEVELS, type Log, type LogLevel, writeLine } from './log.ts';
export { initOffer, type OfferedIdentity, type OfferedPolicy } from './offer.ts';
export { POOL_THREADS_MAX } from './pool.ts';
export { type ServeOptions, Server } from './server.ts';
export { SESSION_WORDS } from './session-state.ts';
