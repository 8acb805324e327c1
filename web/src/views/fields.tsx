// Form fields with their labels.
import type { ComponentChildren } from "preact";

export function Chip({ label, checked, onChange }: { label: string; checked: boolean; onChange: () => void }) {
  return (
    <label class="chip">
      <input type="checkbox" checked={checked} onChange={onChange} />
      <span>{label}</span>
    </label>
  );
}

interface FieldProps {
  label: string;
  hint?: string;
  wide?: boolean;
  children: ComponentChildren;
}

export function Field({ label, hint, wide, children }: FieldProps) {
  return (
    <label class={wide ? "field wide" : "field"}>
      <span>{label}{hint && <small> {hint}</small>}</span>
      {children}
    </label>
  );
}

interface ChoiceProps {
  label: string;
  hint?: string;
  value: string;
  none: string;
  entries: readonly (string | readonly [string, string])[];
  onChange: (value: string) => void;
}

export function Choice({ label, hint, value, none, entries, onChange }: ChoiceProps) {
  return (
    <Field label={label} hint={hint}>
      <select value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        <option value="">{none}</option>
        {entries.map((entry) => {
          const [name, words] = typeof entry === "string" ? [entry, entry] : entry;
          return <option key={name} value={name}>{words}</option>;
        })}
      </select>
    </Field>
  );
}

interface CountProps {
  label: string;
  hint?: string;
  value: string;
  none: string;
  most: number;
  onChange: (value: string) => void;
}

export function Count({ label, hint, value, none, most, onChange }: CountProps) {
  const changed = ({ currentTarget: field }: { currentTarget: HTMLInputElement }) => {
    if (field.reportValidity()) onChange(field.value);
  };
  return (
    <Field label={label} hint={hint}>
      <input type="number" inputMode="numeric" min={1} max={most} step={1} value={value} placeholder={none} onChange={changed} />
    </Field>
  );
}
