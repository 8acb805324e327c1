// The page at `/`: conversations at the side, turns in the middle, the question below.
import { useEffect, useRef, useState } from "preact/hooks";
import { running, spoken, stop, versionOf } from "../state/ask";
import { fusionNamed } from "../state/catalog";
import { draft } from "../state/draft";
import { current } from "../state/history";
import { settings } from "../state/options";
import { Composer } from "./composer";
import { History } from "./history";
import { plain } from "./prose";
import { TurnView } from "./turn";

export function AskPage() {
  const [side, setSide] = useState(false);
  useEffect(() => {
    const escape = (event: KeyboardEvent) => {
      if (event.key !== "Escape" || event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return;
      if (side) setSide(false);
      else if (running.value) stop();
    };
    addEventListener("keydown", escape);
    return () => removeEventListener("keydown", escape);
  }, [side]);
  return (
    <div class={side ? "ask side-open" : "ask"}>
      <button type="button" class="quiet small side-button" aria-expanded={side} aria-controls="side" onClick={() => setSide(!side)}>
        Conversations
      </button>
      <aside id="side"><History chosen={() => setSide(false)} /></aside>
      {side && <div class="veil" onClick={() => setSide(false)} />}
      <main id="main" tabIndex={-1}>
        <Turns />
        <Composer />
      </main>
      <p class="sr-only" role="status" aria-live="polite">{spoken.value}</p>
    </div>
  );
}

function Turns() {
  const box = useRef<HTMLDivElement>(null);
  const follow = useRef(true);
  const conversation = current.value;
  const last = conversation.turns.at(-1);
  void running.value;
  if (last) void versionOf(last).value;
  const left = useRef(0);
  useEffect(() => {
    follow.current = true;
  }, [conversation, conversation.turns.length]);
  useEffect(() => {
    if (!follow.current || !box.current) return;
    box.current.scrollTop = goal(box.current);
    left.current = box.current.scrollTop;
  });
  const watch = () => {
    const place = box.current;
    if (place && Math.abs(place.scrollTop - left.current) > 2) follow.current = Math.abs(place.scrollTop - goal(place)) < 80;
  };
  return (
    <div class="turns" ref={box} onScroll={watch} tabIndex={conversation.turns.length ? 0 : undefined} aria-label="Conversation" role="region">
      {conversation.turns.length > 0 && <h1 class="sr-only">{plain(conversation.title)}</h1>}
      {conversation.turns.length === 0 ? <Welcome /> : conversation.turns.map((turn) => <TurnView key={turn.id} turn={turn} />)}
    </div>
  );
}

/** As far down as there is anything, but no further than to where the last answer, or comparison, begins: it is read from its start. */
function goal(box: HTMLElement): number {
  const bottom = box.scrollHeight - box.clientHeight;
  const answer = box.querySelector(".turn:last-child > :is(.final, .compared)");
  if (!answer) return bottom;
  const start = answer.getBoundingClientRect().top - box.getBoundingClientRect().top + box.scrollTop;
  return Math.max(0, Math.min(bottom, start - 8));
}

const EXAMPLES = [
  "What are the trade-offs between optimistic and pessimistic locking?",
  "A bat and a ball cost 1.10 together; the bat costs 1.00 more than the ball. What does the ball cost?",
  "Write a short, friendly note that a meeting moves from Monday to Wednesday.",
];

function Welcome() {
  const fusion = fusionNamed(settings.value.fusion);
  const about = fusion?.local_fusion;
  return (
    <div class="welcome">
      <h1>One better answer out of several open models.</h1>
      {about && settings.value.kind === "fuse" && (
        <p>
          <b>{plain(fusion!.id)}</b> asks {plain([...new Set(about.panel)].join(", "))}; {plain(about.judge ?? "")} judges. Mode: {about.mode}.
          Nothing leaves your machines.
        </p>
      )}
      {settings.value.kind === "compare" && <p>Each member you choose answers on its own, side by side. Nothing leaves your machines.</p>}
      <ul class="examples">
        {EXAMPLES.map((text) => (
          <li key={text}><button type="button" class="quiet" onClick={() => draft.set(text)}>{text}</button></li>
        ))}
      </ul>
    </div>
  );
}
