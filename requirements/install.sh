#!/usr/bin/env bash
# Makes the virtual environment FOLDER with exactly what requirements/VARIANT.txt pins.
#   requirements/install.sh VARIANT FOLDER     (VARIANT: cpu or gpu)
set -euo pipefail
cd "$(dirname "$0")/.."
variant=${1:-cpu}
folder=${2:-.venv}
. requirements/uv.sh

if [ ! -x "$folder/bin/python" ]; then
    say "Creating $folder (Python 3.11 or 3.12)"
    "$UV" venv --quiet --python '>=3.11,<3.13' "$folder"
fi
say "Installing $(grep -cE '^[A-Za-z0-9]' "requirements/$variant.txt") pinned packages into $folder (a minute from a near registry, several from a far one)"
VIRTUAL_ENV="$PWD/$folder" "$UV" pip sync --quiet --compile-bytecode --python "$folder/bin/python" "requirements/$variant.txt"
say "Environment ready after $((SECONDS - started)) s; the next make reuses it"
