// Whether an answer was good: told to the server, which learns from it when it is calibrated.
import { useState } from "preact/hooks";
import { rate, type Rating } from "../api/feedback";
import { ApiError } from "../api/http";
import { conversations, keep } from "../state/history";
import type { Turn } from "../state/turn";

const WORDS: Record<Rating, [string, string]> = { up: ["▲", "Good answer"], down: ["▼", "Bad answer"] };

export function RatingButtons({ turn }: { turn: Turn }) {
  const [given, setGiven] = useState(turn.rating);
  const [problem, setProblem] = useState("");
  const choose = async (rating: Rating) => {
    try {
      await rate(turn.responseId!, rating);
      turn.rating = rating;
      setGiven(rating);
      setProblem("");
      const conversation = conversations.value.find((one) => one.turns.includes(turn));
      if (conversation) keep(conversation);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setProblem(error.message);
    }
  };
  return (
    <>
      {(["up", "down"] as const).map((rating) => (
        <button key={rating} type="button" class="quiet small" aria-pressed={given === rating} aria-label={WORDS[rating][1]} title={WORDS[rating][1]} onClick={() => choose(rating)}>
          <span aria-hidden="true">{WORDS[rating][0]}</span>
        </button>
      ))}
      {problem && <span class="warn-text" role="alert">{problem}</span>}
    </>
  );
}
