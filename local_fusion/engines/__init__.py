"""Things that generate: `scripted` (seeded, for faults and scale) and `vllm` (the only file that imports vllm)."""
