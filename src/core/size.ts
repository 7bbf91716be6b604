const UNITS: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };

/** `512M` in bytes; undefined for what is no size. */
export function bytesOfSize(text: string): number | undefined {
  const match = /^(\d{1,12})([KMG]?)$/i.exec(text);
  return match === null ? undefined : Number(match[1]) * UNITS[match[2].toUpperCase()];
}
