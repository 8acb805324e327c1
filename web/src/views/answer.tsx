// One model's answer, while it comes and after.
import { useEffect, useRef, useState } from "preact/hooks";
import type { Answer } from "../state/turn";
import { Badge, CopyButton, number, percent, seconds, type Tone } from "./parts";
import { plain, Prose } from "./prose";

const STATES: Record<Answer["state"], [string, Tone]> = {
  waiting: ["waiting", "plain"],
  running: ["answering", "busy"],
  done: ["done", "good"],
  failed: ["failed", "bad"],
  stopped: ["stopped", "warn"],
};

interface Props {
  answer: Answer;
  /** The version of its turn: the answer itself is changed in place. */
  tick: number;
  hue: string;
  label: string;
  /** Its share of the judge's choice; what the judge found it: the answer itself, or the best beside what was written. */
  share?: number;
  chosen?: "chosen" | "best";
  tall?: boolean;
}

export function AnswerCard({ answer, tick, hue, label, share, chosen, tall }: Props) {
  const [open, setOpen] = useState(false);
  const body = useRef<HTMLDivElement>(null);
  const follow = useRef(true);
  const [long, setLong] = useState(false);
  useEffect(() => {
    const box = body.current;
    if (!box) return;
    if (answer.state === "running" && follow.current) box.scrollTop = box.scrollHeight;
    if (answer.state === "done" && !open) setLong(box.scrollHeight > box.clientHeight + 4);
  });
  useEffect(() => {
    if (answer.state === "done" && body.current && !open) body.current.scrollTop = 0;
  }, [answer.state]);
  const watch = () => {
    const box = body.current;
    if (!box) return;
    follow.current = box.scrollHeight - box.scrollTop - box.clientHeight < 30;
  };
  const [word, tone] = STATES[answer.state];
  const classes = ["card", "answer", hue, answer.state, open && "open", tall && "tall", chosen && "chosen"];
  return (
    <article class={classes.filter(Boolean).join(" ")} aria-label={`Answer of ${label}`}>
      <header>
        <span class="dot" aria-hidden="true" />
        <strong class="name" title={label}>{plain(label)}</strong>
        {share !== undefined && (
          <span class="share" title="The judge's probability for this answer">
            <meter min={0} max={1} value={share} aria-label={`Probability of ${label}`} />
            {percent(share)}
          </span>
        )}
        {chosen ? <Badge tone="good">{chosen}</Badge> : share === undefined && <Badge tone={tone}>{word}</Badge>}
      </header>
      <div class="body" ref={body} onScroll={watch} tabIndex={long || tall ? 0 : undefined}>
        {answer.reasoning && (
          <details class="thinking">
            <summary>Thinking</summary>
            <Prose text={answer.reasoning} markdown={false} />
          </details>
        )}
        {answer.error && <p class={answer.state === "failed" ? "error" : "silence"}>{plain(answer.error)}</p>}
        {answer.text ? <Prose text={answer.text} /> : !answer.error && <Silence answer={answer} tick={tick} />}
      </div>
      <footer>
        <Figures answer={answer} tick={tick} />
        <span class="actions">
          {answer.text && answer.state !== "running" && <CopyButton text={answer.text} what={`answer of ${label}`} />}
          {(long || open) && (
            <button type="button" class="quiet small" aria-expanded={open} onClick={() => setOpen(!open)}>
              {open ? "Less" : "All"}
            </button>
          )}
        </span>
      </footer>
    </article>
  );
}

function Silence({ answer }: Pick<Props, "answer" | "tick">) {
  if (answer.state === "waiting" || answer.state === "running") {
    return <p class="silence"><span class="pulse" aria-hidden="true" /> {answer.reasoning ? "thinking" : "no word yet"}</p>;
  }
  return <p class="silence">{answer.state === "stopped" ? "Stopped before it said anything." : "It said nothing."}</p>;
}

function Figures({ answer }: Pick<Props, "answer" | "tick">) {
  const took = ((answer.ended ?? Date.now()) - answer.began) / 1000;
  const said = answer.tokens ?? answer.pieces;
  if (answer.state === "waiting" && !said) return <span class="figures">{seconds(took)}</span>;
  return (
    <span class="figures">
      {said > 0 && <span>{answer.tokens === undefined && "≈ "}{number(said)} tokens</span>}
      <span>{seconds(took)}</span>
      {answer.cut && <span class="warn-text" title="It was stopped by its token limit">cut off</span>}
      {answer.certainty !== undefined && <span title="exp of its mean token log-probability">certainty {percent(answer.certainty)}</span>}
    </span>
  );
}
