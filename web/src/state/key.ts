// The API key: asked for only when the server wants one, kept for this tab, or on this device if the user says so.
import { signal } from "@preact/signals";
import { device, tab } from "./store";

const NAME = "local-fusion/key";

export const apiKey = signal<string>(tab.getItem(NAME) ?? device.getItem(NAME) ?? "");
/** The question for a key is open. */
export const keyWanted = signal(false);
/** The server has refused what it was last asked, for want of a key. */
export const locked = signal(false);
/** Counts up when another key is used: what was refused is tried again. */
export const keyVersion = signal(0);

export const keyIsKept = () => device.getItem(NAME) !== null;

export function askForKey() {
  locked.value = true;
  keyWanted.value = true;
}

export function useKey(key: string, keep: boolean) {
  forgetKey();
  apiKey.value = key;
  if (key) (keep ? device : tab).setItem(NAME, key);
  keyWanted.value = false;
  locked.value = false;
  keyVersion.value++;
}

export function forgetKey() {
  apiKey.value = "";
  tab.removeItem(NAME);
  device.removeItem(NAME);
}
