export { formatStatistics, type OpcodeStatistics } from './counters.ts';
export { createLog, LOG_LEVELS, type Log, type LogLevel } from './log.ts';
export { initOffer } from './offer.ts';
export { type ServeOptions, Server } from './server.ts';
