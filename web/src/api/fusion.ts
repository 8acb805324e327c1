// Asks a fusion through /v1/responses and writes into a turn what is heard.
import { newAnswer, hear, type Answer, type Turn } from "../state/turn";
import { call, events, problemOf } from "./http";
import type { Receipt, ReceiptCall } from "./types";

export interface Said {
  role: "user" | "assistant";
  content: string;
}

const count = (text: string) => (text === "" ? undefined : Number(text));
const EMPTY = (value: unknown) => value === undefined || value === "" || (Array.isArray(value) && value.length === 0);
const given = (fields: Record<string, unknown>) =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => !EMPTY(value)));

export function requestOf(turn: Turn, said: Said[]): Record<string, unknown> {
  const { options } = turn;
  return given({
    model: turn.model,
    input: said.map((one) => ({ type: "message", role: one.role, content: one.content })),
    instructions: options.instructions,
    max_output_tokens: count(options.maxTokens),
    stream: true,
    store: false,
    fusion: given({
      mode: options.mode,
      panel: options.panel,
      judge: options.judge,
      writer: options.writer,
      samples: count(options.samples),
      quorum: count(options.quorum),
      deadline_s: count(options.deadline),
      criteria: options.criteria,
      stream: options.stream,
      include: ["panel", "analysis", "usage", "receipt"],
    }),
  });
}

export async function askFusion(turn: Turn, said: Said[], changed: () => void, signal: AbortSignal) {
  const answer = await call("/v1/responses", requestOf(turn, said), signal);
  for await (const event of events(answer, signal)) {
    take(turn, event);
    changed();
  }
  if (turn.state === "running") throw problemOf({ message: "The stream ended before the answer was complete." }, 0);
}

function take(turn: Turn, event: any) {
  const kind = String(event.type ?? "");
  if (kind.startsWith("response.fusion_call.")) return takeFusion(turn, kind.slice("response.fusion_call.".length), event);
  switch (kind) {
    case "response.created":
      turn.responseId = event.response?.id;
      return;
    case "response.output_text.delta":
      turn.stage = "writing";
      turn.text += event.delta;
      return;
    case "response.reasoning_text.delta":
    case "response.reasoning_summary_text.delta":
      turn.stage = "writing";
      turn.reasoning += event.delta;
      return;
    case "response.completed":
    case "response.incomplete":
      return complete(turn, event.response);
    case "response.failed":
      throw problemOf(event.response?.error, 0);
    case "error":
      throw problemOf(event.error ?? event, 0);
  }
}

function takeFusion(turn: Turn, kind: string, event: any) {
  switch (kind) {
    case "panel.added":
      turn.stage = "panel";
      answerOf(turn, event);
      return;
    case "panel.delta":
      return hear(answerOf(turn, event), event.delta);
    case "panel.reasoning.delta":
      return hear(answerOf(turn, event), "", event.delta);
    case "panel.completed":
      Object.assign(answerOf(turn, event), { text: event.content, state: "done", ended: Date.now() });
      return;
    case "panel.failed": {
      const answer = answerOf(turn, event);
      answer.ended = Date.now();
      answer.state = event.reason === "not_needed" ? "stopped" : "failed";
      answer.error = event.error;
      return;
    }
    case "analysis.in_progress":
      turn.stage = "analysis";
      turn.judge = event.analyst_model ?? event.judge_model;
      return;
    case "analysis.completed":
      turn.stage = "writing";
      turn.analysis = event.analysis ?? null;
      return;
    case "completed":
      turn.stage = "writing";
  }
}

/** Whose event this is. A model asked several times is called `model#0`, `model#1`, …; rounds have their number. */
function answerOf(turn: Turn, event: { model: string; sample?: number; round?: number }): Answer {
  const [, model = event.model, number] = /^(.*)#(\d+)$/.exec(event.model) ?? [];
  const sample = event.sample ?? Number(number ?? 0);
  const round = event.round ?? 0;
  const known = turn.answers.find((one) => one.model === model && one.sample === sample && one.round === round);
  if (known) return known;
  const added = newAnswer(model, sample, round);
  turn.answers.push(added);
  return added;
}

function complete(turn: Turn, response: any) {
  const written = (response.output ?? [])
    .filter((item: any) => item.type === "message")
    .flatMap((item: any) => item.content ?? [])
    .map((part: any) => part.text ?? "")
    .join("");
  if (written) {
    turn.replaced = turn.text !== "" && !written.startsWith(turn.text);
    turn.text = written;
  }
  const usage = response.usage;
  if (usage) {
    const cached = usage.input_tokens_details?.cached_tokens ?? 0;
    turn.tokens = { input: usage.input_tokens ?? 0, output: usage.output_tokens ?? 0, cached };
  }
  if (response.fusion) takeReceipt(turn, response.fusion);
  for (const answer of turn.answers) {
    if (answer.state === "waiting" || answer.state === "running") answer.state = "stopped";
    answer.ended ??= Date.now();
  }
  turn.state = "done";
  turn.stage = "done";
  turn.ended = Date.now();
}

/** The receipt has the last word on every answer; its order is the order of the choice's probabilities. */
function takeReceipt(turn: Turn, receipt: Receipt) {
  turn.receipt = receipt;
  turn.replaced ||= receipt.replaced;
  turn.analysis = receipt.analysis ?? turn.analysis;
  turn.failed = receipt.failed_models;
  for (const one of receipt.responses ?? []) {
    const answer = answerOf(turn, one);
    const text = one.content ?? answer.text;
    Object.assign(answer, { text, state: "done", error: undefined, cut: one.cut, certainty: one.certainty });
    answer.reasoning = one.reasoning ?? answer.reasoning;
    answer.tokens = callOf(receipt, answer)?.completion_tokens;
  }
}

const PANEL_STAGES = ["panel", "revise", "layer"];

/** The call in which an answer was given: the rounds of one seat follow each other. */
export function callOf(receipt: Receipt, answer: Answer): ReceiptCall | undefined {
  const calls = (receipt.calls ?? []).filter(
    (one) => PANEL_STAGES.includes(one.stage) && one.model === answer.model && one.sample === answer.sample,
  );
  return calls[answer.round] ?? calls.at(-1);
}
