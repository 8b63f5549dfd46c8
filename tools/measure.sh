#!/usr/bin/env bash
# The table of docs/performance.md, measured anew: tools/measure.sh LACRE DIRECTORY
# Runs `lacre bench` under each setting, one after the other, and keeps each report as JSON beside table.md. About eight
# minutes; the figures are worth something only on a machine that does nothing else.
set -euo pipefail
lacre=${1:?usage: tools/measure.sh LACRE DIRECTORY}
dir=${2:?usage: tools/measure.sh LACRE DIRECTORY}
duration=${DURATION:-20s}
mkdir -p "$dir"

reports=()
measure() { # measure NAME FLAGS...
  local name=$1
  shift
  printf '\n=== %s: lacre bench %s\n' "$name" "$*" >&2
  "$lacre" bench --duration "$duration" --warmup 5s --profile "$dir/profiles/$name" --json "$@" >"$dir/$name.json"
  reports+=("$dir/$name.json")
}

measure ed25519-1 --clients 1
measure ed25519-50 --clients 50
measure ed25519-200 --clients 200
measure ed25519-600 --clients 600
measure ed25519-1200 --clients 1200
measure p256-50 --clients 50 --meters p256
measure p256-600 --clients 600 --meters p256
measure endorsements1-600 --clients 600 --endorsements 1
measure open-100 --rate 100 --clients 100
measure open-300 --rate 300 --clients 300
measure open-800 --rate 800 --clients 800

"$lacre" bench table "${reports[@]}" | tee "$dir/table.md"
