#!/usr/bin/env bash
# The table of docs/performance.md, measured anew: tools/measure.sh LACRE DIRECTORY
# Runs `lacre bench` under each setting, one after the other, and keeps each report as JSON beside table.md. About twenty
# minutes; FEED=10000000 feeds more than a million. The figures are worth something only on a machine that does nothing else.
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

measure backlog-600 --clients 600 --meters mixed --backlog 0.1
measure replicas1-600 --clients 600 --replicas 1
measure replicas7-600 --clients 600 --replicas 7

alone() { # alone NAME SUBCOMMAND FLAGS...: a report that fits no table
  local name=$1
  shift
  printf '\n=== %s: lacre bench %s\n' "$name" "$*" >&2
  "$lacre" bench "$@" --json >"$dir/$name.json"
}

alone endorsers-ed25519 endorsers --clients 600 --duration "$duration"
alone endorsers-p256 endorsers --clients 600 --meters p256 --duration "$duration"
rm -rf "$dir/fed" # of an earlier run
alone feed feed --measurements "${FEED:-1000000}" --dir "$dir/fed" --keep
alone audit audit "$dir/fed" --cross-check budgeted --profile "$dir/audit.pprof"
rm -rf "$dir/fed"
alone plan plan --from "$dir/ed25519-600.json"

"$lacre" bench table "${reports[@]}" | tee "$dir/table.md"
alone overload overload --stages=false # the last one: it ends with 1 where something was lost or left unanswered
