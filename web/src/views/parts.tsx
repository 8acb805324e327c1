// Small things used in many places.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";

export function CopyButton({ text, what }: { text: string; what: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      if (!copyTheOldWay(text)) return;
    }
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  return (
    <button type="button" class="quiet small" onClick={copy} aria-label={copied ? `${what} copied` : `Copy ${what}`}>
      {copied ? "Copied" : "Copy"}
    </button>
  );
}

/** The clipboard's own interface is only there over HTTPS and on this machine. */
function copyTheOldWay(text: string): boolean {
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "sr-only";
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  return done;
}

export type Tone = "plain" | "good" | "warn" | "bad" | "busy";

export function Badge({ tone = "plain", children, title }: { tone?: Tone; children: ComponentChildren; title?: string }) {
  return <span class={`badge ${tone}`} title={title}>{children}</span>;
}

export function Notice({ tone, children }: { tone: "warn" | "bad"; children: ComponentChildren }) {
  return <div class={`notice ${tone}`} role={tone === "bad" ? "alert" : undefined}>{children}</div>;
}

export const seconds = (value: number) =>
  value < 0.0995 ? `${Math.round(value * 1000)} ms` : value < 60 ? `${value.toFixed(1)} s` : minutes(value);
const minutes = (value: number) => `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
export const number = (value: number) => value.toLocaleString("en").replaceAll(",", "\u202f");
export const percent = (value: number) => `${Math.round(value * 100)} %`;
export const several = (count: number, one: string, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

/** One of eight colours, by the place of a model among all of its turn. */
export const hue = (index: number) => `hue-${((index % 8) + 8) % 8}`;
