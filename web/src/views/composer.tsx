// Where a question is written, and to whom it goes.
import { useEffect, useRef, useState } from "preact/hooks";
import { ask, running, stop } from "../state/ask";
import { catalog, catalogProblem, fusionNamed, fusions, members } from "../state/catalog";
import { draft } from "../state/draft";
import { current } from "../state/history";
import { locked } from "../state/key";
import { among, changedOptions, set, settings } from "../state/options";
import { Chip } from "./fields";
import { KeyButton } from "./key";
import { OptionsPanel } from "./options";
import { Notice } from "./parts";
import { plain } from "./prose";

export function Composer() {
  const text = draft.text.value;
  const [open, setOpen] = useState(false);
  const field = useRef<HTMLTextAreaElement>(null);
  const { kind, fusion, options } = settings.value;
  const busy = running.value !== null;
  const chosen = chosenMembers();
  const named = fusionNamed(fusion);
  const asked = kind === "fuse" ? [named] : members.value.filter((entry) => chosen.includes(entry.id));
  const waits = asked.some((entry) => entry?.local_fusion.ready === false);
  const able = !busy && text.trim() !== "" && (kind === "fuse" ? named !== undefined : chosen.length > 0);
  useEffect(() => field.current?.focus({ preventScroll: true }), [current.value]);
  useEffect(() => {
    // The button that was pressed has gone, and the focus with it.
    if (document.activeElement === document.body && !matchMedia("(pointer: coarse)").matches) field.current?.focus({ preventScroll: true });
  }, [busy]);
  useEffect(() => {
    const box = field.current!;
    box.style.height = "auto";
    box.style.height = `${Math.min(box.scrollHeight + 2, window.innerHeight * 0.4)}px`;
  }, [text]);
  const send = () => {
    if (!able) return;
    draft.text.value = "";
    setOpen(false);
    void ask(text.trim(), named?.id ?? "", chosen);
  };
  const keys = (event: KeyboardEvent) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      field.current!.form!.requestSubmit();
    }
  };
  const changes = changedOptions(among(members.value.map((entry) => entry.id), options));
  return (
    <form class="composer" onSubmit={(event) => { event.preventDefault(); send(); }} aria-label="Ask">
      {catalogProblem.value && <Notice tone="warn">{locked.value ? <>This server wants a key. <KeyButton /></> : plain(catalogProblem.value)}</Notice>}
      {waits && !catalogProblem.value && <Notice tone="warn">The engines are not ready yet; this goes away once they are.</Notice>}
      {open && <OptionsPanel fusion={named} />}
      {kind === "compare" && <Members chosen={chosen} />}
      <label class="sr-only" for="question">Question</label>
      <textarea
        id="question"
        ref={field}
        rows={2}
        dir="auto"
        value={text}
        placeholder={current.value.turns.length ? "Ask further …" : "Ask a question …"}
        onInput={(event) => (draft.text.value = event.currentTarget.value)}
        onKeyDown={keys}
        aria-keyshortcuts="Control+Enter"
      />
      <div class="bar">
        <fieldset class="switch">
          <legend class="sr-only">Way to ask</legend>
          {(["fuse", "compare"] as const).map((one) => (
            <label key={one}>
              <input type="radio" name="kind" checked={kind === one} onChange={() => set({ kind: one })} />
              <span>{one === "fuse" ? "Fuse" : "Compare"}</span>
            </label>
          ))}
        </fieldset>
        {kind === "fuse" && (
          <select aria-label="Fusion" value={named?.id ?? ""} onChange={(event) => set({ fusion: event.currentTarget.value })} disabled={!catalog.value}>
            {fusions.value.map((entry) => (
              <option key={entry.id} value={entry.id}>{entry.id}</option>
            ))}
          </select>
        )}
        <button type="button" class="quiet" aria-expanded={open} onClick={() => setOpen(!open)}>
          Options{changes > 0 && <span class="count" aria-label={`${changes} changed`}>{changes}</span>}
        </button>
        <span class="hint" aria-hidden="true">Ctrl + Enter</span>
        {busy ? ( // the second click of two on Ask is not meant for it
          <button key="stop" type="button" class="stop" onClick={(event) => event.detail < 2 && stop()} aria-keyshortcuts="Escape">Stop</button>
        ) : (
          <button key="ask" type="submit" disabled={!able}>Ask</button>
        )}
      </div>
    </form>
  );
}

function chosenMembers(): string[] {
  const known = members.value.map((entry) => entry.id);
  const kept = settings.value.members.filter((name) => known.includes(name));
  const panel = fusionNamed(settings.value.fusion)?.local_fusion.panel ?? known;
  return kept.length ? kept : [...new Set(panel)].slice(0, 6);
}

function Members({ chosen }: { chosen: string[] }) {
  const toggle = (name: string) => {
    const next = chosen.includes(name) ? chosen.filter((one) => one !== name) : [...chosen, name];
    if (next.length) set({ members: next });
  };
  return (
    <fieldset class="chips">
      <legend class="sr-only">Members to compare</legend>
      {members.value.map((entry) => (
        <Chip key={entry.id} label={entry.id} checked={chosen.includes(entry.id)} onChange={() => toggle(entry.id)} />
      ))}
    </fieldset>
  );
}
