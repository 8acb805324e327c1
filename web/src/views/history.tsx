// Earlier conversations of this browser.
import { useState } from "preact/hooks";
import { begin, clear, conversations, current, drop, KEPT_AT_MOST, open, storeProblem, storeSwitched } from "../state/history";
import { set, settings } from "../state/options";
import { ForgetKeyButton } from "./key";
import { Notice } from "./parts";
import { plain } from "./prose";

/** A button that goes takes the focus with it: give it to the one of the next entry. */
function focusBeside(button: HTMLElement) {
  const entry = button.closest("li")!;
  const next = entry.nextElementSibling ?? entry.previousElementSibling;
  (next ?? entry.closest("nav")!).querySelector<HTMLElement>(next ? ".drop" : ".new")!.focus();
}

export function History({ chosen }: { chosen: () => void }) {
  const [sure, setSure] = useState(false);
  const list = conversations.value;
  return (
    <nav class="history" aria-label="Conversations">
      <button type="button" class="secondary new" onClick={() => { begin(); chosen(); }}>New conversation</button>
      {storeProblem.value && <Notice tone="warn">{storeProblem.value}</Notice>}
      <ul>
        {list.map((one) => (
          <li key={one.id} class={one === current.value ? "current" : undefined}>
            <button type="button" class="quiet title" title={one.title} aria-current={one === current.value ? "true" : undefined} onClick={() => { open(one); chosen(); }}>
              {plain(one.title) || "Untitled"}
            </button>
            <button type="button" class="quiet small drop" aria-label={`Delete “${one.title}”`} title="Delete" onClick={(event) => { focusBeside(event.currentTarget); drop(one); }}>×</button>
          </li>
        ))}
      </ul>
      <footer>
        <label class="keep" title={`The newest ${KEPT_AT_MOST}, as far as the browser's store reaches`}>
          <input
            type="checkbox"
            role="switch"
            checked={settings.value.keep}
            onChange={(event) => { set({ keep: event.currentTarget.checked }); storeSwitched(event.currentTarget.checked); }}
          />
          Keep in this browser
        </label>
        {list.length > 0 && (
          <button
            type="button"
            class="quiet small"
            onClick={() => { if (sure) clear(); setSure(!sure); }}
            onBlur={() => setSure(false)}
          >
            {sure ? "Really delete all?" : "Delete all"}
          </button>
        )}
        <ForgetKeyButton />
      </footer>
    </nav>
  );
}
