// What may be changed about a fusion for the next question.
import type { ModelEntry } from "../api/types";
import { members } from "../state/catalog";
import { PLAIN, set, setOption, settings, changedOptions } from "../state/options";
import { Chip, Choice, Count, Field } from "./fields";

const MODES = [
  ["best-of", "best-of: the judge picks one"],
  ["vote", "vote: answers are counted"],
  ["merge", "merge: analysed, then written anew"],
  ["debate", "debate: members may revise"],
  ["layered", "layered: answers over answers"],
  ["auto", "auto: as the question needs"],
] as const;

const STREAMS = [
  ["checked", "after the guard has spoken"],
  ["live", "live, as it is written"],
] as const;

const PANEL_AT_MOST = 8;

export function OptionsPanel({ fusion }: { fusion?: ModelEntry }) {
  const { options, kind } = settings.value;
  const names = members.value.map((entry) => entry.id);
  const fused = kind === "fuse" && fusion !== undefined;
  return (
    <section class="options" aria-label="Options">
      {fused && <PanelField fusion={fusion} names={names} />}
      <div class="grid">
        {fused && <FusionFields fusion={fusion} names={names} />}
        <Count label="Length" hint="tokens at most" value={options.maxTokens} none="no limit" most={1_000_000} onChange={(maxTokens) => setOption({ maxTokens })} />
        {fused && (
          <Field label="Criteria" hint="what the judge must weigh" wide>
            <textarea rows={2} value={options.criteria} maxLength={8000} onInput={(event) => setOption({ criteria: event.currentTarget.value })} />
          </Field>
        )}
        <Field label="Instructions" hint="to the models" wide>
          <textarea rows={2} value={options.instructions} maxLength={20_000} onInput={(event) => setOption({ instructions: event.currentTarget.value })} />
        </Field>
      </div>
      <button type="button" class="quiet small" disabled={changedOptions(options) === 0} onClick={() => set({ options: PLAIN })}>
        Back to the fusion's own settings
      </button>
    </section>
  );
}

interface FusionProps {
  fusion: ModelEntry;
  names: string[];
}

function PanelField({ fusion, names }: FusionProps) {
  const chosen = settings.value.options.panel.filter((name) => names.includes(name));
  const seated = chosen.length ? chosen : [...new Set(fusion.local_fusion.panel ?? [])];
  const toggle = (name: string) => {
    const next = seated.includes(name) ? seated.filter((one) => one !== name) : [...seated, name];
    if (next.length > 0 && next.length <= PANEL_AT_MOST) setOption({ panel: next });
  };
  return (
    <fieldset class="chips">
      <legend>Panel <small>1 to {PANEL_AT_MOST} members</small></legend>
      {names.map((name) => <Chip key={name} label={name} checked={seated.includes(name)} onChange={() => toggle(name)} />)}
    </fieldset>
  );
}

function FusionFields({ fusion, names }: FusionProps) {
  const { options } = settings.value;
  const own = fusion.local_fusion;
  const writer = typeof own.writer === "string" ? own.writer : own.writer?.[0];
  return (
    <>
      <Choice label="Mode" value={options.mode} none={`${own.mode ?? "auto"} (its own)`} entries={MODES} onChange={(mode) => setOption({ mode })} />
      <Choice label="Judge" value={options.judge} none={`${own.judge ?? "its own"} (its own)`} entries={names} onChange={(judge) => setOption({ judge })} />
      <Choice label="Writer" value={options.writer} none={`${writer ?? "the judge"} (its own)`} entries={names} onChange={(value) => setOption({ writer: value })} />
      <Choice label="The answer comes" value={options.stream} none="as the server says" entries={STREAMS} onChange={(stream) => setOption({ stream: stream as typeof options.stream })} />
      <Count label="Samples" hint="per member" value={options.samples} none="its own" most={26} onChange={(samples) => setOption({ samples })} />
      <Count label="Quorum" hint="answers needed" value={options.quorum} none="its own" most={26} onChange={(quorum) => setOption({ quorum })} />
      <Count label="Deadline" hint="seconds" value={options.deadline} none="none" most={604_800} onChange={(deadline) => setOption({ deadline })} />
    </>
  );
}
