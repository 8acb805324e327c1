// Runs one turn at a time: asks, writes into the turn, redraws at most once a frame, keeps the result.
import { effect, signal, untracked, type Signal } from "@preact/signals";
import { askFusion, type Said } from "../api/fusion";
import { ApiError } from "../api/http";
import { askMember } from "../api/member";
import { members as known } from "./catalog";
import { conversations, current, keep } from "./history";
import { among, settings } from "./options";
import { newAnswer, newTurn, settle, type Conversation, type Turn } from "./turn";

export const running = signal<Turn | null>(null);
/** What a screen reader is told while a turn runs. */
export const spoken = signal("");

let stopper: AbortController | null = null;
const versions = new Map<string, Signal<number>>();

/** Counts up when a turn has changed; read it where the turn is drawn. */
export function versionOf(turn: Turn) {
  let version = versions.get(turn.id);
  if (!version) versions.set(turn.id, (version = signal(0)));
  return version;
}

const CLOCK_MS = 250;
const REDRAW_MS = 40;
let redraw = 0;
function changed(turn: Turn) {
  if (redraw) return;
  redraw = setTimeout(() => {
    redraw = 0;
    versionOf(turn).value++;
    speak(turn);
  }, REDRAW_MS);
}

export function stop() {
  stopper?.abort();
}

export async function ask(question: string, model: string, members: string[]) {
  const { kind } = settings.value;
  const options = among(known.value.map((entry) => entry.id), settings.value.options);
  const conversation = current.value;
  const turn = newTurn(kind, question, model, options);
  if (kind === "compare") turn.answers = members.map((member) => newAnswer(member));
  const { signal: aborted } = (stopper = new AbortController());
  conversation.turns.push(turn);
  running.value = turn;
  keep(conversation);
  const deleted = () => !conversations.value.includes(conversation);
  const watch = effect(() => {
    if (deleted()) untracked(stop);
  });
  const leave = () => {
    settle(turn, "stopped"); // before the browser ends the connection, which would look like the server's fault
    keep(conversation);
    stop();
  };
  addEventListener("pagehide", leave);
  const clock = setInterval(() => changed(turn), CLOCK_MS);
  try {
    if (kind === "fuse") await askFusion(turn, before(conversation, turn), () => changed(turn), aborted);
    else await compare(conversation, turn, aborted);
  } catch (problem) {
    fail(turn, problem, aborted.aborted);
  } finally {
    clearInterval(clock);
    watch();
    removeEventListener("pagehide", leave);
    running.value = null;
    stopper = null;
    if (!deleted()) keep(conversation);
    versionOf(turn).value++;
    speak(turn);
  }
}

async function compare(conversation: Conversation, turn: Turn, aborted: AbortSignal) {
  await Promise.all(
    turn.answers.map((answer) =>
      askMember(turn, answer, before(conversation, turn, answer.model), () => changed(turn), aborted),
    ),
  );
  turn.stage = "done";
  turn.ended = Date.now();
  turn.state = aborted.aborted ? "stopped" : turn.answers.some((one) => one.state === "done") ? "done" : "failed";
}

function fail(turn: Turn, problem: unknown, stopped: boolean) {
  if (stopped) return settle(turn, "stopped");
  if (problem instanceof ApiError) {
    turn.failed = problem.failed.length ? problem.failed : turn.failed;
    return settle(turn, "failed", problem.message);
  }
  settle(turn, "failed", "The page could not read the server's answer.");
  throw problem;
}

/** The conversation so far, up to and with this question; for a comparison, as this member has heard it. */
function before(conversation: Conversation, turn: Turn, member?: string): Said[] {
  const said: Said[] = [];
  for (const past of conversation.turns.filter((one) => one !== turn)) {
    const own = past.answers.find((one) => one.model === member && one.state === "done")?.text;
    const text = past.kind === "fuse" ? past.text : (own ?? past.answers.find((one) => one.state === "done")?.text);
    if (text) said.push({ role: "user", content: past.question }, { role: "assistant", content: text });
  }
  return [...said, { role: "user", content: turn.question }];
}

function speak(turn: Turn) {
  spoken.value = statusOf(turn);
}

/** One sentence on where a turn stands. */
export function statusOf(turn: Turn): string {
  const ended = turn.answers.filter((one) => one.state === "done" || one.state === "failed").length;
  const total = turn.answers.length;
  if (turn.state === "stopped") return "Stopped.";
  if (turn.state === "failed") return "It failed.";
  if (turn.state === "done") return turn.kind === "fuse" ? "The answer is ready." : "All members have answered.";
  if (turn.stage === "analysis") return `${turn.judge ?? "The judge"} compares the answers.`;
  if (turn.stage === "writing") return turn.text ? "The answer is being written." : "The judge and the writer are at work.";
  if (total === 0) return "Waiting for the panel.";
  if (ended === total) return turn.kind === "fuse" ? "The judge is at work." : "Done.";
  return `${ended} of ${total} have answered.`;
}
