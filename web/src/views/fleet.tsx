// The page at `/fleet`: which engines there are, what they do, how full the GPUs are. Looks again every two seconds.
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { ApiError, read } from "../api/http";
import type { Fleet, FleetEngine, Gpu } from "../api/types";
import { keyVersion, locked } from "../state/key";
import { KeyButton } from "./key";
import { Badge, Notice, number, percent, seconds, several, type Tone } from "./parts";
import { plain } from "./prose";

const EVERY_MS = 2000;
const fleet = signal<Fleet | null>(null);
/** When it was as shown, by the clock of this browser. */
const seen = signal(0);
const problem = signal("");

async function look() {
  try {
    fleet.value = await read("/fleet.json");
    seen.value = Date.now();
    problem.value = "";
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    problem.value = error.message;
  }
}

export function FleetPage() {
  useEffect(() => {
    let timer = 0;
    let gone = false;
    const again = async () => {
      if (!document.hidden && !locked.peek()) await look();
      if (!gone) timer = setTimeout(again, EVERY_MS);
    };
    void again();
    return () => {
      gone = true;
      clearTimeout(timer);
    };
  }, [keyVersion.value]);
  const now = fleet.value;
  return (
    <main id="main" class="fleet" tabIndex={-1}>
      <header><h1>Fleet</h1>{now && <Summary fleet={now} />}</header>
      {problem.value && (
        <Notice tone="warn">
          {locked.value ? "This server wants a key." : plain(problem.value)} {now && `Shown is how it stood at ${new Date(seen.value).toLocaleTimeString()}. `}
          {locked.value && <KeyButton />}
        </Notice>
      )}
      {now && !now.ready && <Notice tone="warn">The engines are still starting.</Notice>}
      {now && now.engines.length > 0 && <Engines engines={now.engines} />}
      {now && now.gpus.length > 0 && <Gpus gpus={now.gpus} />}
    </main>
  );
}

function Summary({ fleet: now }: { fleet: Fleet }) {
  const ready = now.engines.filter((one) => one.state === "ready").length;
  const up = Math.max(0, seen.value / 1000 - now.started);
  const sum = (key: "in_flight" | "waiting" | "running") => {
    const known = now.engines.map((one) => one[key]).filter((value) => value !== null);
    return known.length ? number(known.reduce((total, value) => total + value, 0)) : "";
  };
  return (
    <dl class="summary">
      <Fact name="engines ready" value={`${ready} of ${now.engines.length}`} />
      <Fact name="calls in flight" value={sum("in_flight") || sum("running")} />
      <Fact name="calls waiting" value={sum("waiting")} />
      {now.turns && <Fact name="turns taken" value={number(now.turns.swaps)} more={now.turns.swaps ? `${seconds(now.turns.swap_s / now.turns.swaps)} each` : undefined} />}
      <Fact name="up for" value={up < 3600 ? seconds(Math.round(up)) : `${(up / 3600).toFixed(1)} h`} />
      <Fact name="version" value={now.version} />
    </dl>
  );
}

function Fact({ name, value, more }: { name: string; value: string; more?: string }) {
  if (!value) return null;
  return <div><dt>{name}</dt><dd>{value}{more && <small> {more}</small>}</dd></div>;
}

const TONES: Record<string, Tone> = {
  ready: "good",
  starting: "busy",
  restarting: "warn",
  not_ready: "warn",
  asleep: "plain",
  failed: "bad",
  closed: "bad",
};

const COLUMNS: [string, (one: FleetEngine) => string | null][] = [
  ["in flight", (one) => known(one.in_flight, number)],
  ["waiting", (one) => known(one.waiting, number)],
  ["running", (one) => known(one.running, number)],
  ["restarts", (one) => known(one.restarts, number)],
  ["last probe", (one) => known(one.last_probe_s, seconds)],
  ["start", (one) => known(one.start_s, seconds)],
  ["node", (one) => one.node?.slice(0, 8) ?? null],
];
const known = (value: number | null, words: (value: number) => string) => (value === null ? null : words(value));

/** Columns in which something is known; engines of the server's own process tell little. */
function Engines({ engines }: { engines: FleetEngine[] }) {
  const replicated = new Set(engines.filter((one) => one.replica > 0).map((one) => one.model));
  const columns = COLUMNS.filter(([, read]) => engines.some((one) => read(one) !== null));
  return (
    <section aria-labelledby="engines">
      <h2 id="engines">Engines</h2>
      <table class="engines">
        <thead>
          <tr>
            <th scope="col">model</th>
            <th scope="col">state</th>
            {columns.map(([name]) => <th key={name} scope="col">{name}</th>)}
          </tr>
        </thead>
        <tbody>
          {engines.map((one) => (
            <tr key={`${one.model} ${one.replica}`}>
              <th scope="row">{plain(one.model)}{replicated.has(one.model) && <small> · {one.replica + 1}</small>}</th>
              <td data-name="state">
                <Badge tone={TONES[one.state] ?? "plain"}>{one.state.replaceAll("_", " ")}</Badge>
                {one.detail && one.state !== "ready" && <small class="detail">{plain(one.detail)}</small>}
              </td>
              {columns.map(([name, read]) => <td key={name} data-name={name}>{read(one) ?? "–"}</td>)}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

const gib = (bytes: number) => `${(bytes / 2 ** 30).toFixed(1)} GiB`;

function Gpus({ gpus }: { gpus: Gpu[] }) {
  return (
    <section aria-labelledby="gpus">
      <h2 id="gpus">GPUs <small>{several(gpus.length, "device")} of the server's machine</small></h2>
      <ul class="gpus">
        {gpus.map((one) => (
          <li key={one.index} class="card">
            <header><strong>{one.index} · {plain(one.name)}</strong>{one.utilization !== null && <Badge>{percent(one.utilization)} busy</Badge>}</header>
            <meter min={0} max={one.memory_total_bytes} high={one.memory_total_bytes * 0.97} value={one.memory_used_bytes} aria-label={`Memory of GPU ${one.index}`} />
            <small>{gib(one.memory_used_bytes)} of {gib(one.memory_total_bytes)}</small>
          </li>
        ))}
      </ul>
    </section>
  );
}
