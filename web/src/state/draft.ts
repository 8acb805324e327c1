// The question being written, and how to put another in its place.
import { signal } from "@preact/signals";

const text = signal("");

export const draft = {
  text,
  /** Put a text into the field and go there. */
  set(value: string) {
    text.value = value;
    document.getElementById("question")?.focus();
  },
};
