// Where the time and the tokens went: a bar for each call, and sums by stage.
import type { Receipt, ReceiptCall } from "../api/types";
import { number, seconds } from "./parts";
import { plain } from "./prose";

const WORDS: Record<string, string> = {
  panel: "panel",
  revise: "revision",
  layer: "layer",
  pick: "choice",
  pair: "choice of two",
  analyse: "analysis",
  repair: "repair",
  write: "writing",
  guard: "guard",
  fold: "folding",
};

interface Bar extends ReceiptCall {
  start: number;
}

/** The calls of one stage run together, the stages one after another: what the receipt says, drawn to scale. */
export function barsOf(calls: ReceiptCall[]): Bar[] {
  const starts = new Map<string, number>();
  let end = 0;
  for (const stage of new Set(calls.map((one) => one.stage))) {
    starts.set(stage, end);
    end += Math.max(...calls.filter((one) => one.stage === stage).map((one) => one.total_s));
  }
  return calls.map((one) => ({ ...one, start: starts.get(one.stage)! }));
}

export function Timeline({ receipt, hueOf }: { receipt: Receipt; hueOf: (model: string) => string }) {
  const bars = barsOf(receipt.calls ?? []);
  if (!bars.length) return null;
  const whole = Math.max(receipt.seconds ?? 0, ...bars.map((one) => one.start + one.total_s), 1e-6);
  const share = (value: number) => `${(100 * value) / whole}%`;
  return (
    <figure class="timeline">
      <figcaption class="sr-only">Time of each call</figcaption>
      <ol>
        {bars.map((bar, index) => (
          <li key={index} class={hueOf(bar.model)}>
            <span class="who"><b>{WORDS[bar.stage] ?? bar.stage}</b> {plain(bar.model)}</span>
            <span class="track">
              <span class="bar" style={{ left: share(bar.start), width: share(bar.total_s) }} />
              {bar.queued_s > 0 && <span class="queue" style={{ left: share(bar.start), width: share(Math.min(bar.queued_s, bar.total_s)) }} />}
            </span>
            <span class="took">{seconds(bar.total_s)}</span>
          </li>
        ))}
      </ol>
    </figure>
  );
}

export function StageTable({ receipt }: { receipt: Receipt }) {
  const calls = receipt.calls ?? [];
  if (!calls.length) return null;
  const stages = [...new Set(calls.map((one) => one.stage))];
  const sum = (of: ReceiptCall[], key: keyof ReceiptCall) => of.reduce((total, one) => total + Number(one[key]), 0);
  const gpus = calls.some((one) => one.gpu_s > 0);
  const row = (name: string, of: ReceiptCall[]) => (
    <tr key={name}>
      <th scope="row">{name}</th>
      <td>{of.length}</td>
      <td>{number(sum(of, "prompt_tokens"))}</td>
      <td>{number(sum(of, "cached_tokens"))}</td>
      <td>{number(sum(of, "completion_tokens"))}</td>
      <td>{seconds(sum(of, "total_s"))}</td>
      {gpus && <td>{seconds(sum(of, "gpu_s"))}</td>}
    </tr>
  );
  return (
    <div class="scroll-x" tabIndex={0} role="region" aria-label="Tokens and seconds by stage">
      <table class="figures-table">
        <thead>
          <tr>
            <th scope="col">stage</th><th scope="col">calls</th><th scope="col">prompt</th><th scope="col">cached</th>
            <th scope="col">written</th><th scope="col">seconds</th>{gpus && <th scope="col">GPU</th>}
          </tr>
        </thead>
        <tbody>{stages.map((stage) => row(WORDS[stage] ?? stage, calls.filter((one) => one.stage === stage)))}</tbody>
        <tfoot>{row("all", calls)}</tfoot>
      </table>
    </div>
  );
}
