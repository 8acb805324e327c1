// One question and what became of it: the panel, the answer, and what is behind the answer.
import type { Receipt } from "../api/types";
import { statusOf, versionOf } from "../state/ask";
import { draft } from "../state/draft";
import { settings } from "../state/options";
import type { Answer, Turn } from "../state/turn";
import { AnalysisView, analysisSize } from "./analysis";
import { AnswerCard } from "./answer";
import { Badge, CopyButton, hue, Notice, number, seconds, several } from "./parts";
import { plain, Prose } from "./prose";
import { RatingButtons } from "./rating";
import { StageTable, Timeline } from "./receipt";

export function TurnView({ turn }: { turn: Turn }) {
  watch(turn);
  return (
    <section class="turn" data-state={turn.state} aria-label={`Question: ${turn.question.slice(0, 60)}`}>
      <div class="question" dir="auto">{plain(turn.question)}</div>
      {turn.kind === "fuse" ? <FusedTurn turn={turn} /> : <ComparedTurn turn={turn} />}
    </section>
  );
}

/** A turn is changed in place: whoever draws a part of it looks at its version. */
const watch = (turn: Turn) => versionOf(turn).value;

const hues = (turn: Turn) => {
  const names = [...new Set(turn.answers.map((one) => one.model))];
  return (model: string) => (names.includes(model) ? hue(names.indexOf(model)) : "hue-judge");
};

const labelOf = (turn: Turn, answer: Answer) => {
  const several = turn.answers.some((one) => one.model === answer.model && one.sample !== answer.sample);
  return several ? `${answer.model} · ${answer.sample + 1}` : answer.model;
};

function ComparedTurn({ turn }: { turn: Turn }) {
  const tick = watch(turn);
  const hueOf = hues(turn);
  return (
    <>
      <Status turn={turn} />
      {turn.error && <Notice tone="bad">{plain(turn.error)}</Notice>}
      <div class={`cards compared count-${Math.min(turn.answers.length, 4)}`}>
        {turn.answers.map((one, index) => <AnswerCard key={index} tick={tick} answer={one} hue={hueOf(one.model)} label={one.model} tall />)}
      </div>
    </>
  );
}

function FusedTurn({ turn }: { turn: Turn }) {
  watch(turn);
  const hueOf = hues(turn);
  return (
    <>
      <Status turn={turn} />
      {turn.answers.length > 0 && (
        <details class="panel" open>
          <summary>Panel <small>{panelWords(turn)}</small></summary>
          <Panel turn={turn} hueOf={hueOf} />
        </details>
      )}
      {turn.error && <Failed turn={turn} />}
      <Final turn={turn} />
      <Behind turn={turn} hueOf={hueOf} />
    </>
  );
}

function panelWords(turn: Turn) {
  const done = turn.answers.filter((one) => one.state === "done").length;
  const failed = turn.answers.filter((one) => one.state === "failed").length;
  const words = several(done, "answer");
  return failed ? `${words}, ${failed} failed` : words;
}

/** The answers, round by round; where there are several rounds, each under its number. */
function Panel({ turn, hueOf }: { turn: Turn; hueOf: (model: string) => string }) {
  watch(turn);
  const rounds = [...new Set(turn.answers.map((one) => one.round))].sort((one, other) => one - other);
  if (rounds.length < 2) return <Round turn={turn} hueOf={hueOf} round={rounds[0] ?? 0} last />;
  return (
    <>
      {rounds.map((round) => (
        <section key={round} class="round">
          <h4>Round {round + 1}</h4>
          <Round turn={turn} hueOf={hueOf} round={round} last={round === rounds.at(-1)} />
        </section>
      ))}
    </>
  );
}

interface RoundProps {
  turn: Turn;
  hueOf: (model: string) => string;
  round: number;
  last: boolean;
}

function Round({ turn, hueOf, round, last }: RoundProps) {
  const tick = watch(turn);
  const receipt = turn.receipt;
  const choice = receipt?.choice;
  const answers = turn.answers.filter((one) => one.round === round);
  const place = (answer: Answer) =>
    (receipt?.responses ?? []).findIndex(
      (one) => one.model === answer.model && (one.sample ?? 0) === answer.sample && (one.round ?? 0) === answer.round,
    );
  return (
    <div class={`cards count-${Math.min(answers.length, 4)}`}>
      {answers.map((one, index) => {
        const at = choice ? place(one) : -1;
        const share = at < 0 ? undefined : choice!.probabilities[at];
        const won = at >= 0 && choice!.winner === at;
        return (
          <AnswerCard
            key={index}
            tick={tick}
            answer={one}
            hue={hueOf(one.model)}
            label={labelOf(turn, one)}
            share={last || share ? share : undefined}
            chosen={won ? (written(receipt!) ? "best" : "chosen") : undefined}
          />
        );
      })}
    </div>
  );
}

function Status({ turn }: { turn: Turn }) {
  watch(turn);
  const busy = turn.state === "running";
  const receipt = turn.receipt;
  const took = ((turn.ended ?? Date.now()) - turn.began) / 1000;
  return (
    <p class="status">
      {busy && <span class="pulse" aria-hidden="true" />}
      <span>{turn.kind === "fuse" ? plain(turn.model) : "side by side"}</span>
      {receipt && <Badge>{receipt.mode}</Badge>}
      <span class="quiet-text">{busy ? statusOf(turn) : turn.state === "stopped" ? "stopped" : null}</span>
      <span class="quiet-text">{seconds(took)}</span>
      {turn.tokens && <span class="quiet-text">{several(turn.tokens.input + turn.tokens.output, "token")}</span>}
      {!busy && <button type="button" class="quiet small again" onClick={() => draft.set(turn.question)}>Edit and ask again</button>}
    </p>
  );
}

function Failed({ turn }: { turn: Turn }) {
  return (
    <Notice tone="bad">
      {plain(turn.error ?? "")}
      {turn.failed && turn.failed.length > 0 && (
        <ul>{turn.failed.map((one, index) => <li key={index}><b>{plain(one.model)}</b>: {plain(one.error)}</li>)}</ul>
      )}
    </Notice>
  );
}

function Final({ turn }: { turn: Turn }) {
  watch(turn);
  if (!turn.text && !turn.reasoning) {
    const waits = turn.state === "running" && (turn.stage === "writing" || turn.stage === "analysis");
    return waits ? <article class="card final waits"><p class="silence"><span class="pulse" aria-hidden="true" /> {statusOf(turn)}</p></article> : null;
  }
  const receipt = turn.receipt;
  return (
    <article class="card final" aria-label="Final answer" aria-busy={turn.state === "running"}>
      <header>
        <h3>Answer</h3>
        {receipt && <span class="quiet-text">{written(receipt) ? "written by" : "in the words of"} <b>{plain(receipt.writer)}</b></span>}
        {receipt && <Guard receipt={receipt} />}
        {receipt?.early_exit && <Badge title={`${receipt.aborted} calls were stopped: they could no longer change the winner`}>early exit</Badge>}
        <span class="actions">
          <button type="button" class="quiet small" aria-pressed={!settings.value.markdown} onClick={() => (settings.value = { ...settings.value, markdown: !settings.value.markdown })}>
            Plain text
          </button>
          <CopyButton text={turn.text} what="answer" />
          {turn.state === "done" && turn.responseId && <RatingButtons turn={turn} />}
        </span>
      </header>
      {turn.reasoning && (
        <details class="thinking"><summary>Thinking</summary><Prose text={turn.reasoning} markdown={false} /></details>
      )}
      <Prose text={turn.text} />
      {turn.replaced && <p class="quiet-text">What was streamed before was replaced: the guard, or another writer, stepped in.</p>}
      {receipt && <p class="why">{plain(receipt.why)}</p>}
      {receipt && (receipt.degraded?.length ?? 0) > 0 && (
        <Notice tone="warn"><ul>{receipt.degraded!.map((one, index) => <li key={index}>{plain(one)}</li>)}</ul></Notice>
      )}
    </article>
  );
}

/** Whether the answer was written, not chosen: a writer was called and the guard kept what it wrote. */
const written = (receipt: Receipt) =>
  (receipt.calls ?? []).some((one) => one.stage === "write" && one.model === receipt.writer) && receipt.verdict?.kept !== "answer";

function Guard({ receipt }: { receipt: Receipt }) {
  const verdict = receipt.verdict;
  if (!verdict) return null;
  const margin = `log-odds ${verdict.margin >= 0 ? "+" : ""}${verdict.margin.toFixed(2)} against the answer of ${verdict.against}; the two orders ${verdict.consistent ? "agree" : "disagree"}`;
  return verdict.kept === "written" ? (
    <Badge tone="good" title={margin}>guard: kept what was written</Badge>
  ) : (
    <Badge tone="warn" title={margin}>guard: returned the answer of {plain(verdict.against)}</Badge>
  );
}

function Behind({ turn, hueOf }: { turn: Turn; hueOf: (model: string) => string }) {
  watch(turn);
  const { analysis, receipt } = turn;
  return (
    <div class="behind">
      {analysis && (
        <details open={turn.state === "running" || undefined}>
          <summary>Analysis <small>{several(analysisSize(analysis), "finding")}{analysis.contradictions.length > 0 && `, ${several(analysis.contradictions.length, "contradiction")}`}</small></summary>
          <AnalysisView analysis={analysis} hueOf={hueOf} />
        </details>
      )}
      {receipt && (
        <details>
          <summary>Time and tokens <small>{seconds(receipt.seconds ?? 0)}{turn.tokens && `, ${number(turn.tokens.cached)} of ${number(turn.tokens.input)} prompt tokens from the cache`}</small></summary>
          <Timeline receipt={receipt} hueOf={hueOf} />
          <StageTable receipt={receipt} />
        </details>
      )}
      {receipt && (
        <details>
          <summary>Receipt <small>{receiptWords(receipt)}</small></summary>
          <Notes turn={turn} />
        </details>
      )}
    </div>
  );
}

function receiptWords(receipt: Receipt) {
  const failures = receipt.failed_models?.length ?? 0;
  const notes = receipt.notes?.length ?? 0;
  return [failures && several(failures, "failure"), notes && several(notes, "note")].filter(Boolean).join(", ");
}

function Notes({ turn }: { turn: Turn }) {
  const receipt = turn.receipt!;
  return (
    <>
      {(receipt.failed_models?.length ?? 0) > 0 && (
        <ul class="failures">
          {receipt.failed_models!.map((one, index) => (
            <li key={index}><Badge tone="bad">{one.reason ?? "failed"}</Badge> <b>{plain(one.model)}</b>{one.stage && ` (${one.stage})`}: {plain(one.error)}</li>
          ))}
        </ul>
      )}
      {(receipt.notes?.length ?? 0) > 0 && <ul>{receipt.notes!.map((one, index) => <li key={index}>{plain(one)}</li>)}</ul>}
      {(receipt.changed_minds?.length ?? 0) > 0 && <p>Changed their mind: {receipt.changed_minds!.map(plain)}</p>}
      <p class="quiet-text">Fusion {plain(receipt.fusion)}, seed {receipt.seed}{turn.responseId && `, ${turn.responseId}`}</p>
      <CopyButton text={JSON.stringify(receipt, null, 2)} what="receipt as JSON" />
    </>
  );
}
