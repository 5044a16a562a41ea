#!/usr/bin/env bash
# What one GPU is asked for, in minutes: milliseconds a step, the paper's Table 2 on Baby and as
# much more of the reproduction as SECONDS_TO_RUN allow, attacks a second.
#
#   DATA=data SECONDS_TO_RUN=480 WORKERS=4 OUT=runs/gpu bash experiments/gpu.sh
#
# Processes share the GPU: tracing and compiling, not the GPU, take the time. The same command goes
# on with what is in OUT; OUT/results has the report, which names the device.
set -euo pipefail
export UATMC_DATA=${DATA:-data} XLA_PYTHON_CLIENT_PREALLOCATE=false
# In float32 as on a CPU, not in TF32; and compiled once for all processes, without trying kernels.
export JAX_DEFAULT_MATMUL_PRECISION=highest XLA_FLAGS=--xla_gpu_autotune_level=0
out=${OUT:-runs/gpu} seconds=${SECONDS_TO_RUN:-480} workers=${WORKERS:-4}
export JAX_COMPILATION_CACHE_DIR=$out/compiled JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0.3
mkdir -p "$out"
nvidia-smi -L

for victim in vbpr mmgcn; do
  python3 -m experiments.benchmark --config "configs/baby_$victim.py" | tee "$out/steps_$victim.json"
done

# Three commands at once: a folder of results for each, as each writes a whole report.
reproduce() {
  local study=$1
  shift
  timeout -s INT -k 60 "$seconds" python3 -m experiments.reproduce --config "configs/$study.py" \
    --out "$out/reproduce" --results "$out/results_$study" --workers "$workers" "$@" || true
}
timed=appendix_c # measures times, which processes beside it would spoil
rest=table1,table2,figure1,figure3,table4,figure6,coordination,figure8,matched_ball,digits,epochs
echo "left out: $timed; run it alone with --only $timed"
reproduce baby_mmgcn --plan configs/reproduce.py:gpu_mmgcn --only $rest &
reproduce baby_vbpr --only $rest,alpha &
reproduce sports_vbpr --only $rest,alpha &
wait
mkdir -p "$out/results"
for study in baby_mmgcn baby_vbpr sports_vbpr; do
  if [ -d "$out/results_$study/$study" ]; then cp -r "$out/results_$study/$study" "$out/results/"; fi
done
python3 -m experiments.report "$out/results"

runs=$(ls -d "$out"/reproduce/baby_*/runs/none-* | tr '\n' ',')
python3 -m experiments.benchmark --attack "${runs%,}" | tee "$out/attacks.json"
