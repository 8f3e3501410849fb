#!/usr/bin/env bash
# Makes the environment FOLDER of a peer that benchmarks/step.py compares with; torch comes from where ours comes from.
#   benchmarks/peers/install.sh REQUIREMENTS FOLDER
set -euo pipefail
cd "$(dirname "$0")/../.."
wanted=$1
folder=$2
stamp="$folder/.installed"
variant=cpu
if cmp -s "$wanted" "$stamp"; then exit 0; fi
. requirements/uv.sh
say "Installing $wanted into $folder"
if [ ! -x "$folder/bin/python" ]; then "$UV" venv --quiet --python '>=3.11,<3.13' "$folder"; fi
VIRTUAL_ENV="$PWD/$folder" "$UV" pip install --quiet --python "$folder/bin/python" -r "$wanted"
cp "$wanted" "$stamp"
say "Ready after $((SECONDS - started)) s"
