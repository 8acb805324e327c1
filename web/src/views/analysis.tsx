// The judge's analysis: five lists.
import type { ComponentChildren } from "preact";
import type { Analysis } from "../api/types";
import { plain } from "./prose";

export const analysisSize = (analysis: Analysis) =>
  analysis.consensus.length +
  analysis.contradictions.length +
  analysis.partial_coverage.length +
  analysis.unique_insights.length +
  analysis.blind_spots.length;

export function AnalysisView({ analysis, hueOf }: { analysis: Analysis; hueOf: (model: string) => string }) {
  const Model = ({ name }: { name: string }) => (
    <span class={`model ${hueOf(name)}`}><span class="dot" aria-hidden="true" />{plain(name)}</span>
  );
  return (
    <div class="analysis">
      <Part title="Consensus" about="what most agree on" entries={analysis.consensus.map(plain)} />
      <Part
        title="Contradictions"
        about="where they differ"
        entries={analysis.contradictions.map((one) => (
          <>
            <strong>{plain(one.topic)}</strong>
            <dl>
              {one.stances.map((stance, index) => (
                <div key={index}><dt><Model name={stance.model} /></dt><dd dir="auto">{plain(stance.stance)}</dd></div>
              ))}
            </dl>
          </>
        ))}
      />
      <Part
        title="Partial coverage"
        about="said by some only"
        entries={analysis.partial_coverage.map((one) => (
          <>{plain(one.point)} <span class="models">{one.models.map((name) => <Model key={name} name={name} />)}</span></>
        ))}
      />
      <Part
        title="Unique insights"
        about="said by one"
        entries={analysis.unique_insights.map((one) => (<>{plain(one.insight)} <Model name={one.model} /></>))}
      />
      <Part title="Blind spots" about="what nobody said" entries={analysis.blind_spots.map(plain)} />
    </div>
  );
}

function Part({ title, about, entries }: { title: string; about: string; entries: ComponentChildren[] }) {
  return (
    <section class={entries.length ? "part" : "part empty"}>
      <h4>{title} <small>{about}</small></h4>
      {entries.length ? <ul>{entries.map((entry, index) => <li key={index} dir="auto">{entry}</li>)}</ul> : <p class="silence">none</p>}
    </section>
  );
}
