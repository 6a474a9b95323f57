#!/usr/bin/env bash
# Measures on a real GPU everything that the CUDA backend promises, and prints one table.
#
#   tests/gpu/measure.sh [OUT]        # OUT: where files go, default reports/gpu; needs cargo, python3, an NVIDIA GPU
#
# VRAMPLAN_MODELS="flux1-dev qwen-image"  models, default: flux1-dev qwen-image wan2.2-t2v-a14b (those that exist)
# VRAMPLAN_PASSES=8                       passes per run
# VRAMPLAN_POLICIES="sync vllm-omni"      policies to run beside ours; all of them with "all", which takes hours: every
#                                         run fills page-locked memory with the whole model
# VRAMPLAN_BIN=target/release/vramplan    a binary that is built already
# CUBLAS=/path/to/lib                     folder of libcublasLt.so.12 or .13, where it is not on the loader's path
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-reports/gpu}
passes=${VRAMPLAN_PASSES:-8}
mkdir -p "$out"
unset CUDARC_CUDA_VERSION
# Python wheels bring cuBLASLt to where no loader looks.
cublas=${CUBLAS:-$(python3 -c 'import nvidia.cublas, os; print(os.path.join(list(nvidia.cublas.__path__)[0], "lib"))' 2>/dev/null || true)}
[ -n "$cublas" ] && export LD_LIBRARY_PATH="$cublas${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
vp=${VRAMPLAN_BIN:-target/release/vramplan}
[ -n "${VRAMPLAN_BIN:-}" ] || cargo build --locked --release
say() { printf '\n== %s\n' "$*" >&2; }

say "conformance tests on this GPU"
if REQUIRE_GPU=1 cargo test --locked --test cuda; then tests=pass; else tests=FAIL; fi

say "probe, quick then full, timed"
quick=$( { /usr/bin/time -f %e "$vp" probe --quick -o "$out/quick.yaml" >/dev/null; } 2>&1 | tail -1)
full=$( { /usr/bin/time -f %e "$vp" probe -o "$out/gpu.yaml" --format json >"$out/probe.json"; } 2>&1 | tail -1)
"$vp" probe -o "$out/gpu.yaml" | tee "$out/probe.txt" >&2
bandwidth=""
if command -v nvbandwidth >/dev/null; then
  nvbandwidth -t host_to_device_memcpy_ce -j >"$out/nvbandwidth.json" && bandwidth="$out/nvbandwidth.json"
fi

vram=$(python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["free_bytes"])' "$out/probe.json")
models=${VRAMPLAN_MODELS:-$("$vp" models --format json | python3 -c '
import json, sys
names = [m["name"] for m in json.load(sys.stdin)["models"]]
print(*[n for n in names if n.startswith(("flux1-dev", "qwen-image", "wan2.2"))][:3])')}

policies=${VRAMPLAN_POLICIES:-sync sglang-layerwise sglang-strided vllm-omni diffusers-stream musubi-ring}
[ "$policies" = all ] && policies=$("$vp" policies --format json | python3 -c '
import json, sys
print(*[p["policy"] for p in json.load(sys.stdin)["policies"]])')

# By share of the model's weights that the budget leaves: copy-bound, balanced, compute-bound.
for model in $models; do
  total=$("$vp" models --format json | python3 -c '
import json, sys
m = next(m for m in json.load(sys.stdin)["models"] if m["name"] == sys.argv[1])
print(next(c["total_bytes"] for c in m["components"] if c["name"] == m["main_component"]))' "$model")
  for share in 25 50 75; do
    base="$out/$model-$share"
    # The reserve comes on top; ask for it from a plan that surely fits.
    reserve=$("$vp" plan "$model" --device "$out/gpu.yaml" --vram 4TiB -o "$base.all.yaml" --format json 2>/dev/null | python3 -c '
import json, sys; p = json.load(sys.stdin); print(p["budget_bytes"] - p["weights_budget_bytes"])')
    budget=$((total * share / 100 + reserve))
    if [ "$budget" -gt "$vram" ]; then say "$model at $share %: $budget bytes are not free"; continue; fi
    say "$model at $share %: $budget bytes"
    "$vp" plan "$model" --device "$out/gpu.yaml" --vram "$budget" --passes "$passes" -o "$base.hybrid.yaml" >/dev/null
    # Times: compute as predicted (spin), so that the plan is what is measured; then with real products.
    "$vp" run "$base.hybrid.yaml" --backend cuda --compute spin --overhead -o "$base.hybrid.json.gz" || true
    "$vp" run "$base.hybrid.yaml" --backend cuda --model "$model" --compute gemm -o "$base.gemm.json.gz" || true
    # Bytes: every one of them compared on the device.
    "$vp" run "$base.hybrid.yaml" --backend cuda --model "$model" --compute spin --verify -o "$base.verify.json.gz" || true
    for policy in $policies; do
      [ "$policy" = hybrid ] && continue
      "$vp" plan "$model" --device "$out/gpu.yaml" --vram "$budget" --passes "$passes" --policy "$policy" -o "$base.$policy.yaml" >/dev/null 2>&1 || continue
      "$vp" run "$base.$policy.yaml" --backend cuda --model "$model" --compute spin --verify -o "$base.$policy.verify.json.gz" >/dev/null || true
      "$vp" run "$base.$policy.yaml" --backend cuda --compute spin -o "$base.$policy.json.gz" >/dev/null || true
    done
  done
done

sanitizer="not installed"
if command -v compute-sanitizer >/dev/null; then
  sanitizer=""
  small=$(ls "$out"/*.hybrid.yaml 2>/dev/null | head -1)
  for tool in memcheck racecheck initcheck; do
    if compute-sanitizer --tool "$tool" --error-exitcode 9 "$vp" run "$small" --backend cuda --compute touch --verify \
      --passes 1 >"$out/$tool.txt" 2>&1; then sanitizer+="$tool clean; "; else sanitizer+="$tool FAILED ($out/$tool.txt); "; fi
  done
fi
say "host time to issue"
REQUIRE_GPU=1 cargo bench --locked --bench cuda | tee "$out/issue.txt" >&2

python3 tests/gpu/table.py "$out" --quick "$quick" --full "$full" --tests "$tests" --sanitizer "$sanitizer" --nvbandwidth "$bandwidth" | tee "$out/table.md"
