// Which fusions and members this server has.
import { computed, signal } from "@preact/signals";
import { ApiError, read } from "../api/http";
import type { ModelEntry } from "../api/types";

export const catalog = signal<ModelEntry[] | null>(null);
export const catalogProblem = signal("");

export const fusions = computed(() =>
  (catalog.value ?? []).filter((entry) => entry.local_fusion?.kind === "fusion" && !entry.local_fusion.alias_of),
);
export const members = computed(() => (catalog.value ?? []).filter((entry) => entry.local_fusion?.kind === "member"));
export const allReady = computed(() => (catalog.value ?? []).every((entry) => entry.local_fusion?.ready !== false));

export function fusionNamed(name: string): ModelEntry | undefined {
  return (
    fusions.value.find((entry) => entry.id === name) ??
    fusions.value.find((entry) => entry.local_fusion.default) ??
    fusions.value[0]
  );
}

/** Read the list; while engines start or the server is away, again in a moment. */
export async function readCatalog(): Promise<void> {
  let again = false;
  try {
    catalog.value = (await read("/v1/models")).data;
    catalogProblem.value = "";
    again = !allReady.value;
  } catch (problem) {
    if (!(problem instanceof ApiError)) throw problem;
    catalogProblem.value = problem.message;
    again = problem.status === 0 || problem.status >= 500 || problem.status === 429;
  }
  if (again) setTimeout(readCatalog, 3000);
}
