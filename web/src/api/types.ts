// What the server says, as far as this page reads it.

export interface ModelEntry {
  id: string;
  context_length: number | null;
  local_fusion: {
    kind: "fusion" | "member";
    ready: boolean;
    context_length: number | null;
    default: boolean;
    mode?: string;
    panel?: string[];
    judge?: string;
    writer?: string | string[];
    alias_of?: string;
  };
}

export interface Stance {
  model: string;
  stance: string;
}

export interface Analysis {
  consensus: string[];
  contradictions: { topic: string; stances: Stance[] }[];
  partial_coverage: { models: string[]; point: string }[];
  unique_insights: { model: string; insight: string }[];
  blind_spots: string[];
}

export interface FailedModel {
  model: string;
  error: string;
  reason?: string;
  stage?: string;
  sample?: number;
}

export interface ReceiptCall {
  stage: string;
  model: string;
  sample: number;
  prompt_tokens: number;
  cached_tokens: number;
  completion_tokens: number;
  queued_s: number;
  total_s: number;
  gpu_s: number;
}

export interface ReceiptResponse {
  model: string;
  content?: string;
  sample?: number;
  round?: number;
  reasoning?: string;
  cut?: boolean;
  certainty?: number;
}

export interface Receipt {
  fusion: string;
  mode: string;
  why: string;
  writer: string;
  responses?: ReceiptResponse[];
  failed_models?: FailedModel[];
  degraded?: string[];
  notes?: string[];
  analysis?: Analysis;
  choice?: { stage: string; model: string; probabilities: number[]; winner: number; rotations: number; paired: boolean };
  verdict?: { kept: "written" | "answer"; margin: number; against: string; consistent: boolean };
  changed_minds?: string[];
  replaced?: boolean;
  early_exit?: boolean;
  aborted?: number;
  calls?: ReceiptCall[];
  seconds?: number;
  seed?: number;
}

export interface FleetEngine {
  model: string;
  replica: number;
  state: string;
  in_flight: number | null;
  waiting: number | null;
  running: number | null;
  restarts: number | null;
  last_probe_s: number | null;
  start_s: number | null;
  node: string | null;
  detail: string;
}

export interface Gpu {
  index: number;
  name: string;
  memory_used_bytes: number;
  memory_total_bytes: number;
  utilization: number | null;
}

export interface Fleet {
  ready: boolean;
  hosts: string;
  started: number;
  version: string;
  engines: FleetEngine[];
  turns: { swaps: number; swap_s: number } | null;
  gpus: Gpu[];
}
