#!/usr/bin/env bash
# What `make interop-py` runs, from any directory: interop.sh [options of differ.py]
# The vectors; the Go verifier and the Python one on damaged inputs; and what meter.py
# signs, judged by `lacre meter conformance`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
python=(/usr/bin/python3 -B) # Debian's, which has python3-cryptography; another python3 on the PATH may not

"${python[@]}" "$here/test_vectors.py"
go build -o "$made/" examples/verify-py/judge.go
"${python[@]}" "$here/differ.py" "$made/judge" "$@"

go build -o "$made/lacre" ./cli/cmd/lacre
"$made/lacre" meter conformance --challenge "$made/challenge.json"
"${python[@]}" "$here/meter.py" "$made/challenge.json" >"$made/answer.json"
"$made/lacre" meter conformance "$made/answer.json" --vectors | tail -n 1

# The command line gives the exit codes of `lacre receipt verify`.
receipts=core/testdata/receipts
expect() { # expect CODE ARGUMENT...
  local want=$1 got=0
  shift
  "${python[@]}" "$here/verify.py" "$@" >"$made/out" 2>&1 || got=$?
  [ "$got" -eq "$want" ] || { echo "verify.py $*: exit code $got, want $want" && cat "$made/out" && exit 1; }
  got=0
  "$made/lacre" receipt verify "$@" >"$made/out" 2>&1 || got=$?
  [ "$got" -eq "$want" ] || { echo "lacre receipt verify $*: exit code $got, want $want" && cat "$made/out" && exit 1; }
}
pin=$("$made/lacre" trust show --trust "$receipts/trust.bundle" | awk '/^digest/ {print $2}')
expect 0 "$receipts/measurement.bundle" --trust "$receipts/trust.bundle"
expect 0 "$receipts/measurement.receipt" --trust "$receipts/trust.bundle" --pin "$pin" --json
expect 1 "$receipts/measurement.receipt" --trust core/testdata/trust.bundle
expect 1 "$receipts/measurement.receipt" --trust "$receipts/trust.bundle" --pin "${pin//[0-9]/0}"
expect 1 "$receipts/head.proof" --trust "$receipts/trust.bundle"
expect 2 "$receipts/measurement.receipt"
expect 3 "$made/nowhere" --trust "$receipts/trust.bundle"
expect 3 "$receipts/measurement.receipt" --trust "$receipts/measurement.receipt"
expect 64 "$receipts/measurement.receipt" --pin "$pin"
expect 64 "$receipts/measurement.receipt" --trust "$receipts/trust.bundle" --pin 00
expect 64
echo "exit codes agree"
