"""Batches: prompts in a file to answers in a folder, every row exactly once, whatever dies. Knows no Ray, no vLLM."""
