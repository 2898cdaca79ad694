#!/usr/bin/env bash
# What a machine with a CUDA card says of this project, in at most 8 minutes: session.sh OUT
#
# OUT gets at most 8 files under 16 MiB, each written as soon as its part ends; a part that fails or takes too long does
# not stop the others. Nothing is downloaded. WHEELS names a folder of wheels that this machine lacks (nibabel, pydantic,
# pydantic-core, ruamel.yaml, ...). DEVICE=cpu, PROFILE, CELLS, STEP and LIMITS make it small enough for a machine
# without a card, where it shows that the script works and nothing else.
set -u -o pipefail

: "${1:?where to, such as session.sh results}" # in a subshell it would end that alone
out=$(mkdir -p "$1" && cd "$1" && pwd) || exit 2
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-python3}
device=${DEVICE:-cuda}
profile=${PROFILE:-gpu}
read -r tests_s steps_s run_s <<<"${LIMITS:-110 110 240}"
read -r -a step_options <<<"${STEP:-}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} MPLBACKEND=agg VESSELGAN_TEST_DEVICE=$device
export CUBLAS_WORKSPACE_CONFIG=:4096:8 # what deterministic products on a card ask for
if [ -n "${WHEELS:-}" ]; then
  "$python" -m pip install --quiet --no-index --no-deps --target "$work/wheels" "$WHEELS"/*.whl
  export PYTHONPATH=$PYTHONPATH:$work/wheels # behind what the machine has
fi
cd "$work" || exit 2

status=0
part() { # NAME SECONDS COMMAND...
  local name=$1 limit=$2 started=$SECONDS
  shift 2
  timeout --signal=TERM --kill-after=10 "$limit" "$@"
  local code=$?
  echo "$name: exit status $code after $((SECONDS - started)) s" | tee -a "$out/session.txt"
  [ "$code" = 0 ] || status=1
}

date -u '+%F %H:%M UTC' >"$out/session.txt"
"$python" - "$device" >>"$out/session.txt" <<'PY'
import json
import sys

from benchmark.environment import environment

print(json.dumps(environment(sys.argv[1]), indent=1))
PY
[ "$device" = cpu ] || nvidia-smi --query-gpu=name,driver_version,memory.total,power.limit --format=csv >>"$out/session.txt"

part "tests" "$tests_s" "$python" -m pytest -m cuda "$root/tests/cuda" -c "$root/pyproject.toml" --rootdir "$root" \
  -p no:cacheprovider -o filterwarnings=default -q -rA --junitxml "$out/tests.xml" >"$out/tests.txt" 2>&1
tail -1 "$out/tests.txt" >>"$out/session.txt"

part "steps" "$steps_s" "$python" "$root/tests/cuda/paper_step.py" --out "$out/steps.jsonl" --device "$device" \
  --seconds "$((steps_s - 10))" "${step_options[@]}" >"$out/steps.txt" 2>&1

"$python" -m benchmark ls paper --profile "$profile" >/dev/null 2>&1 || profile=workstation
part "run" "$run_s" "$python" -m benchmark run paper --profile "$profile" --seeds 0 --device "$device" \
  ${CELLS:+-k "$CELLS"} >"$work/run.txt" 2>&1
part "report" 60 "$python" -m benchmark report "paper-$profile" >"$work/report.txt" 2>&1
cat "$work/run.txt" "$work/report.txt" >"$out/run.txt"
for file in results.json index.html; do
  [ ! -f "reports/paper-$profile/$file" ] || cp "reports/paper-$profile/$file" "$out/"
done
find "$out" -type f -size +4M -exec sh -c 'head -c 4194304 "$1" >"$1.cut" && mv "$1.cut" "$1"' _ {} \;
cat "$out/session.txt"
exit "$status"
