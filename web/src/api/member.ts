// Asks one member through /v1/chat/completions: one column of a comparison.
import { hear, type Answer, type Turn } from "../state/turn";
import type { Said } from "./fusion";
import { ApiError, call, events } from "./http";

export async function askMember(
  turn: Turn,
  answer: Answer,
  said: Said[],
  changed: () => void,
  signal: AbortSignal,
) {
  const { instructions, maxTokens } = turn.options;
  const messages = instructions ? [{ role: "system", content: instructions }, ...said] : said;
  try {
    const reply = await call(
      "/v1/chat/completions",
      {
        model: answer.model,
        messages,
        stream: true,
        stream_options: { include_usage: true },
        ...(maxTokens && { max_completion_tokens: Number(maxTokens) }),
      },
      signal,
    );
    answer.state = "running";
    let complete = false;
    for await (const chunk of events(reply, signal)) {
      complete = take(answer, chunk) || complete;
      changed();
    }
    if (!complete) throw new ApiError(0, "The stream ended before the answer was complete.");
    answer.state = "done";
  } catch (problem) {
    if (signal.aborted) answer.state = "stopped";
    else if (problem instanceof ApiError) Object.assign(answer, { state: "failed", error: problem.message });
    else throw problem;
  } finally {
    answer.ended = Date.now();
    changed();
  }
}

/** Whether it was the last of the answer. */
function take(answer: Answer, chunk: any): boolean {
  for (const choice of chunk.choices ?? []) {
    const delta = choice.delta ?? {};
    hear(answer, delta.content ?? "", delta.reasoning ?? delta.reasoning_content ?? "");
    if (choice.finish_reason === "length") answer.cut = true;
  }
  if (chunk.usage) answer.tokens = chunk.usage.completion_tokens;
  return (chunk.choices ?? []).some((choice: any) => choice.finish_reason);
}
