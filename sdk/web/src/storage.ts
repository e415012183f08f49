/** Text by key, in localStorage, and in memory where localStorage is denied or full. */
export interface TextStore {
  get(key: string): string | null;
  set(key: string, value: string): void;
  remove(key: string): void;
  /** The keys that begin with `prefix`, in order. */
  keys(prefix: string): string[];
}

export function openStore(): TextStore {
  const memory = new Map<string, string>();
  const disk = localStorageOrNothing();
  return {
    get: (key) => memory.get(key) ?? disk?.getItem(key) ?? null,
    set(key, value) {
      try {
        (disk as Storage).setItem(key, value);
        memory.delete(key);
      } catch {
        // What an earlier call wrote would otherwise come back when the page is loaded again.
        disk?.removeItem(key);
        memory.set(key, value);
      }
    },
    remove(key) {
      memory.delete(key);
      disk?.removeItem(key);
    },
    keys: (prefix) => [...memory.keys(), ...Object.keys(disk ?? {})].filter((key) => key.startsWith(prefix)).sort(),
  };
}

/** Where storage is denied, reading the property throws. */
function localStorageOrNothing(): Storage | undefined {
  try {
    return window.localStorage;
  } catch {
    return undefined;
  }
}
