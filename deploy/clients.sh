#!/usr/bin/env bash
# Makes ./.venv-clients hold the programs that the tests let talk to the server: the OpenAI SDK, litellm, a browser's driver …
# Invariant: instant when nothing changed; where they cannot be had, one sentence says so and the tests that need them are
# skipped by name, for the server itself needs none of them.
set -euo pipefail
cd "$(dirname "$0")/.."
lock=deploy/requirements/clients.txt
stamp=.venv-clients/local-fusion-clients
digest=$(cat "$lock" deploy/clients.sh | sha256sum | cut -d' ' -f1)
[ "$(cat "$stamp" 2>/dev/null)" != "$digest" ] || exit 0

exec 9<deploy/clients.sh
flock 9
started=$SECONDS
only=()
[ "${LOCAL_FUSION_OFFLINE:-0}" != 1 ] || only=(--no-index)
links=()
while read -r folder; do links+=(--find-links "$folder"); done < <(.venv/bin/python deploy/sources.py links)
index=$(.venv/bin/python deploy/sources.py index)
[ -z "$index" ] || export UV_DEFAULT_INDEX=$index
certificates=$(.venv/bin/python deploy/sources.py cert)
[ -z "$certificates" ] || export SSL_CERT_FILE=${SSL_CERT_FILE:-$certificates}

log=.venv/clients.log
if .venv/bin/uv venv --quiet --clear --python .venv/bin/python .venv-clients >"$log" 2>&1 &&
    .venv/bin/uv pip install --python .venv-clients/bin/python --no-deps --require-hashes "${only[@]}" "${links[@]}" -r "$lock" >>"$log" 2>&1; then
    echo "$digest" >"$stamp"
    echo "clients: done in $((SECONDS - started)) s"
else
    rm -rf .venv-clients
    echo "clients: they cannot be had here ($log has the details); the tests that need them are skipped"
fi
