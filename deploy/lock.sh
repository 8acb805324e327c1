#!/usr/bin/env bash
# Writes the hash-locked requirement files from the .in files: names, versions and hashes, no addresses.
# Resolves by metadata alone, for Python 3.11 and later; torch-cpu.txt is kept by hand.
set -euo pipefail
cd "$(dirname "$0")/requirements"
uv=../../.venv/bin/uv

compile() {
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-header --no-annotate "$@"
}

compile uv.in --output-file uv.txt
compile cpu.in --overrides cpu-overrides.in --output-file cpu.txt
compile cuda.in --output-file cuda.txt
# One list of tools serves both runtimes, so what it shares with them must have their versions.
compile clients.in --output-file clients.txt
compile dev.in --constraints cpu.txt --constraints cuda.txt --output-file dev.txt
