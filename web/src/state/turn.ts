// A question and all that became of it. Plain data, kept in the browser as it is.
import type { Analysis, FailedModel, Receipt } from "../api/types";
import type { Options } from "./options";

export type State = "waiting" | "running" | "done" | "failed" | "stopped";
export type Stage = "panel" | "analysis" | "writing" | "done";

/** One model's answer. Times are milliseconds of this browser's clock. */
export interface Answer {
  model: string;
  sample: number;
  round: number;
  text: string;
  reasoning: string;
  state: State;
  error?: string;
  reason?: string;
  began: number;
  first?: number;
  ended?: number;
  pieces: number;
  tokens?: number;
  cut?: boolean;
  certainty?: number;
}

export interface Turn {
  id: string;
  kind: "fuse" | "compare";
  question: string;
  model: string;
  options: Options;
  state: State;
  stage: Stage;
  began: number;
  ended?: number;
  answers: Answer[];
  judge?: string;
  analysis?: Analysis | null;
  text: string;
  reasoning: string;
  replaced?: boolean;
  receipt?: Receipt;
  failed?: FailedModel[];
  tokens?: { input: number; output: number; cached: number };
  responseId?: string;
  rating?: "up" | "down";
  error?: string;
}

export interface Conversation {
  id: string;
  title: string;
  changed: number;
  turns: Turn[];
}

export function newAnswer(model: string, sample = 0, round = 0): Answer {
  return { model, sample, round, text: "", reasoning: "", state: "waiting", began: Date.now(), pieces: 0 };
}

export function newTurn(kind: Turn["kind"], question: string, model: string, options: Options): Turn {
  return {
    id: newId(),
    kind,
    question,
    model,
    options,
    state: "running",
    stage: "panel",
    began: Date.now(),
    answers: [],
    text: "",
    reasoning: "",
  };
}

export function newId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(9)), (byte) => byte.toString(36).padStart(2, "0")).join("");
}

export function hear(answer: Answer, text: string, reasoning = "") {
  if (!text && !reasoning) return;
  answer.state = "running";
  answer.first ??= Date.now();
  answer.pieces++;
  answer.text += text;
  answer.reasoning += reasoning;
}

/** End whatever has not ended. */
export function settle(turn: Turn, state: "failed" | "stopped", error?: string) {
  for (const answer of turn.answers) {
    if (answer.state === "waiting" || answer.state === "running") {
      answer.state = "stopped";
      answer.ended = Date.now();
    }
  }
  turn.state = state;
  turn.ended = Date.now();
  turn.error = error;
}
