#!/usr/bin/env bash
# Measures on a real GPU everything that the CUDA backend promises, and prints one table with a verdict per line.
#
#   tests/gpu/measure.sh [OUT]        # OUT: where files go, default reports/gpu; needs cargo, python3, an NVIDIA GPU
#
# VRAMPLAN_MODELS="flux1-dev qwen-image"  models or manifests; default: flux1-dev qwen-image wan2.2-t2v-a14b
# VRAMPLAN_WORKLOAD=FILE                  a workload instead of the models' own
# VRAMPLAN_SHARES="25 50 75"              budgets, in percent of the model's weights
# VRAMPLAN_PASSES=8                       passes per run
# VRAMPLAN_POLICIES="sync,vllm-omni"      policies to run beside ours; all of them with "all", which takes hours: every
#                                         run fills page-locked memory with the whole model
# VRAMPLAN_PIPELINES="wan2.2-t2v-a14b"    models whose components run one after the other (the denoisers; VRAMPLAN_COMPONENTS
#                                         names others); default: those of the above that have two denoisers
# VRAMPLAN_CHECKPOINT=FILE                what reads from disk are measured with; default: one of 40 blocks of 64 MiB is
#                                         written ("BLOCKS BYTES" in VRAMPLAN_CHECKPOINT_SIZE for another)
# VRAMPLAN_DISK=3GB/s                     what its disk reads
# VRAMPLAN_BIN=target/release/vramplan    a binary that is built already
# VRAMPLAN_TESTS, VRAMPLAN_BENCH          commands instead of `cargo test` and `cargo bench`
# CUBLAS=/path/to/lib                     folder of libcublasLt.so.12 or .13, where it is not on the loader's path
#
# VRAMPLAN_STANDIN_LIBRARY                the tests' stand-in for a driver: proves the commands, measures nothing
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-reports/gpu}
passes=${VRAMPLAN_PASSES:-8}
shares=${VRAMPLAN_SHARES:-25 50 75}
workload=(${VRAMPLAN_WORKLOAD:+--workload "$VRAMPLAN_WORKLOAD"})
mkdir -p "$out"
unset CUDARC_CUDA_VERSION
export REQUIRE_GPU=1
# Python wheels bring cuBLASLt to where no loader looks.
cublas=${CUBLAS:-$(python3 -c 'import nvidia.cublas, os; print(os.path.join(list(nvidia.cublas.__path__)[0], "lib"))' 2>/dev/null || true)}
[ -n "$cublas" ] && export LD_LIBRARY_PATH="$cublas${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
if [ -n "${VRAMPLAN_STANDIN_LIBRARY:-}" ]; then
  mkdir -p "$out/lib"
  for name in libcuda.so libcuda.so.1 libcublasLt.so.12; do
    ln -sf "$VRAMPLAN_STANDIN_LIBRARY" "$out/lib/$name"
  done
  export LD_LIBRARY_PATH="$(cd "$out/lib" && pwd)" VRAMPLAN_ALLOW_STANDIN=1
  unset REQUIRE_GPU
fi
vp=${VRAMPLAN_BIN:-target/release/vramplan}
[ -n "${VRAMPLAN_BIN:-}" ] || cargo build --locked --release
say() { printf '\n== %s\n' "$*" >&2; }
# Runs a command, its answer into a file; prints the seconds it took.
timed() {
  local file=$1 from to
  shift
  from=$(date +%s%N); "$@" >"$file"; to=$(date +%s%N)
  echo "$(((to - from) / 1000000))e-3"
}
# The stand-in counts the time of copies that it does not make; a GPU knows nothing of this.
copies_need_no_bytes() { VRAMPLAN_STANDIN="${VRAMPLAN_STANDIN:+$VRAMPLAN_STANDIN,}real_copies=0" "$@"; }
# Runs a command whose failure is a line of the table, not the end.
try() { "$@" || { say "FAILED: $*"; failed=$((failed + 1)); }; }
failed=0

say "conformance tests on this GPU"
if ${VRAMPLAN_TESTS:-cargo test --locked --test cuda} >&2; then tests=pass; else tests=FAIL; fi

say "probe, quick then full, timed; a plain loop of copies; nvbandwidth where it is installed"
quick=$(copies_need_no_bytes timed /dev/null "$vp" probe --quick -o "$out/quick.yaml")
full=$(copies_need_no_bytes timed "$out/probe.json" "$vp" probe -o "$out/gpu.yaml" --format json)
loop=$(copies_need_no_bytes python3 tests/gpu/loop.py)
bandwidth=""
if command -v nvbandwidth >/dev/null; then
  nvbandwidth -t host_to_device_memcpy_ce -j >"$out/nvbandwidth.json" && bandwidth="$out/nvbandwidth.json"
fi

vram=$(python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["free_bytes"])' "$out/probe.json")
models=${VRAMPLAN_MODELS:-$("$vp" models --format json | python3 -c '
import json, sys
names = [m["name"] for m in json.load(sys.stdin)["models"]]
print(*[n for n in names if n.startswith(("flux1-dev", "qwen-image", "wan2.2"))][:3])')}
policies=(--policies "${VRAMPLAN_POLICIES:-sync,sglang-layerwise,sglang-strided,vllm-omni,diffusers-stream,musubi-ring}")
[ "${VRAMPLAN_POLICIES:-}" = all ] && policies=()

# By share of the model's weights that the budget leaves: copy-bound, balanced, compute-bound.
for model in $models; do
  name=$(basename "$model" .yaml)
  on=(--device "$out/gpu.yaml" --passes "$passes" ${workload[@]+"${workload[@]}"})
  # What the reserve is, and all weights, from a plan that surely fits.
  read -r total reserve < <("$vp" plan "$model" "${on[@]}" --vram 4TiB -o "$out/$name.all.yaml" --format json 2>/dev/null | python3 -c '
import json, sys
p = json.load(sys.stdin)
reserve = p["budget_bytes"] - p["weights_budget_bytes"]
print(p["peak_bytes"] - reserve, reserve)')
  for share in $shares; do
    folder="$out/$name-$share"
    budget=$((total * share / 100 + reserve))
    if [ "$budget" -gt "$vram" ]; then say "$name at $share %: $budget bytes are not free"; continue; fi
    say "$name at $share %: $budget bytes"
    mkdir -p "$folder"
    if ! "$vp" plan "$model" "${on[@]}" --vram "$budget" -o "$folder/plan.yaml" >/dev/null; then
      say "$name at $share %: no plan fits"; continue
    fi
    run=("$vp" run "$folder/plan.yaml" --backend cuda ${workload[@]+"${workload[@]}"})
    # Times: compute as predicted (spin), so that the plan is what is measured; then with real products.
    try "${run[@]}" --compute spin --graph off --overhead -o "$folder/spin.json.gz" >&2
    try "${run[@]}" --compute spin --graph auto -o "$folder/graph.json.gz" >&2
    try "${run[@]}" --model "$model" --compute gemm -o "$folder/gemm.json.gz" >&2
    # Bytes: every one of every pass compared on the device.
    try "${run[@]}" --model "$model" --compute spin --verify -o "$folder/verify.json.gz" >&2
    # Policies: each at its best setting, as its engine would run it.
    try "$vp" compare "$model" "${on[@]}" --vram "$budget" ${policies[@]+"${policies[@]}"} \
      --backend cuda --compute spin --graph off -o "$folder/compare" >&2
    try "$vp" report "$folder/spin.json.gz" -o "$folder/report" >&2
  done
done

# Components one after the other, twice: what the plan hides at their boundaries.
for model in ${VRAMPLAN_PIPELINES-$models}; do
  name=$(basename "$model" .yaml)
  on=(--device "$out/gpu.yaml" --components "${VRAMPLAN_COMPONENTS:-dit}" --generations 2 --passes "$passes")
  # All weights of these components and their largest reserve, from plans of each that surely fit.
  read -r count total reserve < <("$vp" plan "$model" "${on[@]}" ${workload[@]+"${workload[@]}"} --vram 4TiB --format json 2>/dev/null | python3 -c '
import json, sys
p = json.load(sys.stdin)
reserve = p["budget_bytes"] - p["weights_budget_bytes"]
print(len(p["components"]), p["peak_bytes"] - reserve, reserve)' || echo 0 0 0)
  if [ "${count:-0}" -lt 2 ]; then say "$name: no two components to run one after the other"; continue; fi
  for share in $shares; do
    folder="$out/$name-boundary-$share"
    budget=$((total * share / 100 + reserve))
    if [ "$budget" -gt "$vram" ]; then say "$name in turn at $share %: $budget bytes are not free"; continue; fi
    say "$name, components in turn, at $share %: $budget bytes"
    mkdir -p "$folder"
    if ! "$vp" plan "$model" "${on[@]}" ${workload[@]+"${workload[@]}"} --vram "$budget" -o "$folder/pipeline.yaml" >/dev/null; then
      say "$name in turn at $share %: no plan fits"; continue
    fi
    run=("$vp" run "$folder/pipeline.yaml" --backend cuda)
    try "${run[@]}" --compute spin --graph off -o "$folder/spin.json.gz" >&2
    try "${run[@]}" --compute spin --graph auto -o "$folder/graph.json.gz" >&2
    try "${run[@]}" --model "$model" --compute spin --graph off --verify -o "$folder/verify.json.gz" >&2
    try "${run[@]}" --model "$model" --compute spin --graph auto --verify -o "$folder/verify-graph.json.gz" >&2
    try "$vp" report "$folder/spin.json.gz" -o "$folder/report" >&2
  done
done

# Pieces from disk, through the plan's ring.
checkpoint=${VRAMPLAN_CHECKPOINT:-}
if [ -z "$checkpoint" ]; then
  checkpoint="$out/checkpoint.safetensors"
  [ -e "$checkpoint" ] || python3 tests/gpu/checkpoint.py "$checkpoint" ${VRAMPLAN_CHECKPOINT_SIZE:-40 67108864}
fi
size=$(stat -c %s "$checkpoint")
for share in $shares; do
  folder="$out/disk-$share"
  say "$checkpoint with room for $share % of it in VRAM, and for half of what is left on the host"
  mkdir -p "$folder"
  host=$((size * (100 - share) / 200))
  if ! "$vp" plan "$checkpoint" --device "$out/gpu.yaml" --tokens 4096 --passes "$passes" --reserve 64MiB \
    --vram "$((size * share / 100 + (64 << 20)))" --host "$host" --disk "${VRAMPLAN_DISK:-3GB/s}" \
    -o "$folder/disk.yaml" >/dev/null; then
    say "no plan fits"; continue
  fi
  run=("$vp" run "$folder/disk.yaml" --backend cuda --model "$checkpoint" --tokens 4096 --write-combined off)
  try "${run[@]}" --compute spin -o "$folder/spin.json.gz" >&2
  try "${run[@]}" --compute spin --verify -o "$folder/verify.json.gz" >&2
done

sanitizer="not installed"
small=$(ls "$out"/*/plan.yaml 2>/dev/null | head -1)
if command -v compute-sanitizer >/dev/null && [ -n "$small" ]; then
  sanitizer=""
  for tool in memcheck racecheck initcheck; do
    if compute-sanitizer --tool "$tool" --error-exitcode 9 "$vp" run "$small" --backend cuda --compute touch --verify \
      --passes 1 >"$out/$tool.txt" 2>&1; then sanitizer+="$tool clean; "; else sanitizer+="$tool FAILED ($out/$tool.txt); "; fi
  done
fi
say "host time to issue"
${VRAMPLAN_BENCH:-cargo bench --locked --bench cuda} | tee "$out/issue.txt" >&2

python3 tests/gpu/table.py "$out" --quick "$quick" --full "$full" --tests "$tests" --sanitizer "$sanitizer" \
  --loop "$loop" --nvbandwidth "$bandwidth" --failed "$failed" | tee "$out/table.md"
