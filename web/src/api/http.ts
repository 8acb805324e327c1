// Requests to this server and no other: the key, errors in OpenAI's form, server-sent events.
import { EventSourceParserStream } from "eventsource-parser/stream";
import { apiKey, askForKey } from "../state/key";
import type { FailedModel } from "./types";

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly code: string | null = null,
    readonly failed: FailedModel[] = [],
  ) {
    super(message);
  }
}

/** A request that succeeded. Throws ApiError; a 401 also opens the question for a key. */
export async function call(path: string, body?: unknown, signal?: AbortSignal): Promise<Response> {
  const headers: Record<string, string> = {};
  if (body !== undefined) headers["content-type"] = "application/json";
  if (apiKey.value) headers["authorization"] = `Bearer ${apiKey.value}`;
  let answer: Response;
  try {
    answer = await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
    });
  } catch (problem) {
    if (signal?.aborted) throw problem;
    throw new ApiError(0, "The server cannot be reached. Is local-fusion serve still running?");
  }
  if (answer.ok) return answer;
  if (answer.status === 401) askForKey();
  throw await errorOf(answer);
}

/** The JSON at an address; where it breaks off half way, an ApiError as well. */
export async function read(path: string): Promise<any> {
  const answer = await call(path);
  try {
    return await answer.json();
  } catch {
    throw new ApiError(0, "The connection to the server broke before the answer was complete.");
  }
}

/** The data of each event until `[DONE]`, parsed; throws where the server says `error` inside the stream. */
export async function* events(answer: Response, signal: AbortSignal): AsyncGenerator<any> {
  if (!answer.body) return;
  const stream = answer.body.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream());
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((problem) => {
        if (signal.aborted) throw problem;
        throw new ApiError(0, "The connection to the server broke before the answer was complete.");
      });
      if (done || value.data === "[DONE]") return;
      const data = JSON.parse(value.data);
      if (data.error && !data.type?.startsWith("response.")) throw problemOf(data.error, 0);
      yield data;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

export function problemOf(error: any, status: number): ApiError {
  const message = typeof error?.message === "string" ? error.message : "The server gave no reason.";
  return new ApiError(status, message, error?.code ?? null, error?.failed_models ?? []);
}

async function errorOf(answer: Response): Promise<ApiError> {
  try {
    return problemOf((await answer.json()).error, answer.status);
  } catch {
    return new ApiError(answer.status, `The server answered ${answer.status}.`);
  }
}
