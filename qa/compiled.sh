#!/usr/bin/env bash
# compiled.sh: build the product with its hot path compiled, once for each state of the sources, and print the folder
# it is in. With that folder first on PYTHONPATH it takes the place of the editable install. Needs a C compiler and
# Python's headers.
set -euo pipefail
cd "$(dirname "$0")/.."
sources() { cat hatch_build.py pyproject.toml; find server backends compat migration -name '*.py' -print0 | sort -z | xargs -0 cat; }
folder=$PWD/.compiled/$(sources | cksum | tr -d ' ')-$(.venv/bin/python -c 'import sys; print(sys.implementation.cache_tag)')
if [ ! -e "$folder/.complete" ]; then
  printf '[setup] compiling the hot path (about a minute and a half)\n' >&2
  rm -rf .compiled
  log=$(mktemp)
  if ! TRITIUM_COMPILE=1 .venv/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --target "$folder" . >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    exit 1
  fi
  rm -f "$log"
  touch "$folder/.complete"
fi
printf '%s\n' "$folder"
