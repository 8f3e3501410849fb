#!/usr/bin/env bash
# Pins the dependencies that setup.py declares in requirements/VARIANT.txt; UPGRADE=1 takes newer versions where allowed.
#   requirements/lock.sh VARIANT     (VARIANT: cpu or gpu)
set -euo pipefail
cd "$(dirname "$0")/.."
variant=${1:-cpu}
. requirements/uv.sh

overrides=
if [ -f "requirements/$variant.overrides" ]; then overrides="--overrides requirements/$variant.overrides"; fi

say "Resolving requirements/$variant.txt"
"$UV" pip compile --quiet --python-version 3.11 --no-header --no-emit-index-url --no-emit-find-links --no-annotate \
    ${UPGRADE:+--upgrade} $overrides --extra "$variant" --extra dev setup.py -o "requirements/$variant.txt"
rm -rf flowreasoner.egg-info
say "$(grep -cE '^[A-Za-z0-9]' "requirements/$variant.txt") packages pinned"
