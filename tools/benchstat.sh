#!/usr/bin/env bash
# Compares the Go benchmarks of a commit with those of the working tree: tools/benchstat.sh BENCHSTAT OLD BENCH COUNT PACKAGES...
# Both are run in turns, COUNT times, so that whatever else the machine does meets both alike; benchstat says which
# differences are more than chance. cpu-ns/measurement is the column to look at where other programs run too.
set -euo pipefail
usage='usage: tools/benchstat.sh BENCHSTAT OLD BENCH COUNT PACKAGES...'
benchstat=$(realpath "${1:?$usage}")
old=${2:?$usage}
bench=${3:?$usage}
count=${4:?$usage}
shift 4
work=$(mktemp -d)
trap 'git worktree remove --force "$work/old" 2>/dev/null || true; rm -rf "$work"' EXIT
git worktree add --quiet --detach "$work/old" "$old"

run() { # run DIRECTORY FILE PACKAGES...
  local dir=$1 file=$2
  shift 2
  (cd "$dir" && go test -run '^$' -bench "$bench" -benchmem "$@") >>"$file"
}

for ((i = 1; i <= count; i++)); do
  echo "round $i of $count" >&2
  run "$work/old" "$work/old.txt" "$@"
  run . "$work/new.txt" "$@"
done
"$benchstat" "$old=$work/old.txt" "working-tree=$work/new.txt"
