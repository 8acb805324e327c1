// The browser's two stores; where it forbids them, the memory of this tab, so that the page works and forgets.
class Memory {
  private readonly entries = new Map<string, string>();
  get length() {
    return this.entries.size;
  }
  key(index: number) {
    return [...this.entries.keys()][index] ?? null;
  }
  getItem(name: string) {
    return this.entries.get(name) ?? null;
  }
  setItem(name: string, value: string) {
    this.entries.set(name, value);
  }
  removeItem(name: string) {
    this.entries.delete(name);
  }
}

type Store = Pick<Storage, "length" | "key" | "getItem" | "setItem" | "removeItem">;

function usable(pick: () => Storage): Store {
  try {
    const store = pick();
    store.getItem("");
    return store;
  } catch {
    return new Memory();
  }
}

/** Lasts on this device. */
export const device = usable(() => localStorage);
/** Lasts as long as the tab. */
export const tab = usable(() => sessionStorage);

export const namesIn = (store: Store) => Array.from({ length: store.length }, (_, index) => store.key(index) ?? "");
