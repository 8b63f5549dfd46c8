#!/usr/bin/env bash
# Runs every fuzz target of the workspace, one after the other, each for the time given (default 10s). A finding is
# written to the package's testdata/fuzz and fails the run.
set -euo pipefail
cd "$(dirname "$0")/.."
fuzztime=${1:-10s}
count=0
while IFS=: read -r file declaration; do
  target=$(sed -E 's/^func (Fuzz[A-Za-z0-9_]+)\(.*/\1/' <<<"$declaration")
  echo "--- $target (./$(dirname "$file"), $fuzztime)"
  go test -run '^$' -fuzz "^$target\$" -fuzztime "$fuzztime" "./$(dirname "$file")"
  count=$((count + 1))
done < <(git ls-files --cached --others --exclude-standard '*_test.go' | LC_ALL=C sort | xargs grep -HE '^func Fuzz[A-Za-z0-9_]+\(' --)
if [ "$count" -eq 0 ]; then
  echo "no fuzz target found" >&2
  exit 1
fi
echo "$count fuzz targets, $fuzztime each"
