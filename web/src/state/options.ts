// What the user chose; empty means: as the fusion says.
import { effect, signal } from "@preact/signals";

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

function load(): Settings {
  try {
    const kept = JSON.parse(localStorage.getItem(NAME) ?? "{}");
    return { ...FIRST, ...kept, options: { ...PLAIN, ...kept.options } };
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

export function changedOptions(options: Options): number {
  return Object.values(options).filter((value) => value.length > 0).length;
}

effect(() => {
  const { theme } = settings.value;
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem(NAME, JSON.stringify(settings.value));
  } catch {
    // A full or forbidden store loses the settings at reload and nothing else.
  }
});
