// What the user chose; empty means: as the fusion says.
import { effect, signal } from "@preact/signals";
import { device } from "./store";

export interface Options {
  mode: string;
  panel: string[];
  judge: string;
  writer: string;
  samples: string;
  quorum: string;
  deadline: string;
  maxTokens: string;
  criteria: string;
  instructions: string;
  stream: "" | "checked" | "live";
}

export const PLAIN: Options = {
  mode: "",
  panel: [],
  judge: "",
  writer: "",
  samples: "",
  quorum: "",
  deadline: "",
  maxTokens: "",
  criteria: "",
  instructions: "",
  stream: "",
};

export type Theme = "system" | "light" | "dark";

interface Settings {
  kind: "fuse" | "compare";
  fusion: string;
  members: string[];
  options: Options;
  theme: Theme;
  keep: boolean;
  markdown: boolean;
}

const NAME = "local-fusion/settings";
const FIRST: Settings = {
  kind: "fuse",
  fusion: "",
  members: [],
  options: PLAIN,
  theme: "system",
  keep: true,
  markdown: true,
};

/** `first` with what was kept, where that is of the same form: another version of the page may have kept it. */
function like<T extends object>(first: T, kept: object): T {
  const form = (value: unknown) => (Array.isArray(value) ? "list" : typeof value);
  const known = Object.entries(kept).filter(([name, value]) => name in first && form(value) === form(first[name as keyof T]));
  return { ...first, ...Object.fromEntries(known) };
}

function load(): Settings {
  try {
    const kept = JSON.parse(device.getItem(NAME) ?? "{}") ?? {};
    return { ...like(FIRST, kept), options: like(PLAIN, kept.options ?? {}) };
  } catch {
    return FIRST;
  }
}

export const settings = signal<Settings>(load());

export function set(changes: Partial<Settings>) {
  settings.value = { ...settings.value, ...changes };
}

export function setOption(changes: Partial<Options>) {
  set({ options: { ...settings.value.options, ...changes } });
}

/** The options without the members that this server does not have, or no longer. */
export function among(names: string[], options: Options): Options {
  const known = (name: string) => (names.includes(name) ? name : "");
  const panel = options.panel.filter((name) => names.includes(name));
  return { ...options, panel, judge: known(options.judge), writer: known(options.writer) };
}

export function changedOptions(options: Options): number {
  return Object.values(options).filter((value) => value.length > 0).length;
}

effect(() => {
  const { theme } = settings.value;
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    device.setItem(NAME, JSON.stringify(settings.value));
  } catch {
    // A full or forbidden store loses the settings at reload and nothing else.
  }
});
