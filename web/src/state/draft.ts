// The question being written, and how to put another in its place. A reload keeps it; it ends with the tab.
import { effect, signal } from "@preact/signals";
import { tab } from "./store";

const NAME = "local-fusion/draft";
const text = signal(tab.getItem(NAME) ?? "");
effect(() => {
  try {
    tab.setItem(NAME, text.value);
  } catch {
    // Too long for the store: a reload loses it.
  }
});

export const draft = {
  text,
  /** Put a text into the field and go there. */
  set(value: string) {
    text.value = value;
    document.getElementById("question")?.focus();
  },
};
