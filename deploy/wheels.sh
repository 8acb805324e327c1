#!/usr/bin/env bash
# Fills a folder with every wheel that a set-up needs, for a machine that reaches no index: deploy/wheels.sh FOLDER
# There: LOCAL_FUSION_OFFLINE=1 UV_FIND_LINKS=FOLDER make test. Same kind of machine and Python on both sides;
# LOCAL_FUSION_ENGINE=cuda fills it for GPU machines from one that has none.
set -euo pipefail
mkdir -p "${1:?name the folder to fill}"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")/requirements"
engine=${LOCAL_FUSION_ENGINE:-$(sed -n '1s/ .*//p' ../../.venv/local-fusion-set-up)}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
../../.venv/bin/python -m venv "$scratch/venv" || {
    echo "wheels: pip is needed to download wheels; install it with: sudo apt-get install python3-venv" >&2
    exit 1
}
download() { "$scratch/venv/bin/pip" download --quiet --no-deps --require-hashes --only-binary :all: --dest "$folder" "$@"; }

if [ "$engine" = cpu ]; then
    download -r torch-cpu.txt 2>/dev/null ||
        download --index-url "${TORCH_CPU_INDEX:?set it to the index of PyTorch for CPU builds}" -r torch-cpu.txt
fi
download -r uv.txt -r "$engine.txt" -r dev.txt
download -r clients.txt || echo "wheels: not every client of the tests has a wheel; those tests will be skipped"
echo "wheels: $(find "$folder" -name '*.whl' | wc -l) wheels for $engine in $folder"
