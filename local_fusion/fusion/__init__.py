"""The rule: panel, judge, one file per mode. Knows only the `Engine` protocol: no Ray, no vLLM, no HTTP, no files."""
