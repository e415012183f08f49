// UUIDv7 (RFC 9562): 48 bits of milliseconds, a 12-bit counter, 62 random bits. The ids of one tab rise, so sorting
// events by their id is sorting them by the time at which they were tracked.
let lastMs = 0;
let count = 0;

export function uuid7(): string {
  const now = Date.now();
  count = now > lastMs ? 0 : count + 1;
  lastMs = Math.max(now, lastMs) + (count >> 12);
  count &= 0xfff;
  const random = crypto.getRandomValues(new Uint8Array(8));
  random[0] = (random[0] & 0x3f) | 0x80;
  const tail = Array.from(random, (byte) => hex(byte, 2)).join("");
  const head = hex(lastMs, 12);
  return `${head.slice(0, 8)}-${head.slice(8)}-7${hex(count, 3)}-${tail.slice(0, 4)}-${tail.slice(4)}`;
}

function hex(number: number, digits: number): string {
  return number.toString(16).padStart(digits, "0");
}
