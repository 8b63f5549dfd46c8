#!/usr/bin/env bash
# The commands of first-measurement.md, run one after the other against a network of its own. It fails loudly: the first
# command that does not hold ends it with that command's line, and a forged receipt that passes does too.
#
#   docs/tutorials/first-measurement.sh [path of the lacre binary, default bin/lacre]
set -euo pipefail

lacre=$(realpath "${1:-bin/lacre}")
work=$(mktemp -d)
dev=
say() { printf '\n== %s\n' "$*"; }

finish() {
  status=$?
  if [ -n "$dev" ] && kill -INT "$dev" 2>/dev/null; then # only what this script started
    wait "$dev" || { echo "the network did not stop cleanly" >&2; [ "$status" -ne 0 ] || status=1; }
  fi
  if [ "$status" -eq 0 ]; then
    rm -rf "$work"
    echo "all of it held"
  else
    echo "FAILED (exit $status); everything is kept in $work" >&2
    tail -n 20 "$work/dev.log" >&2 || true
  fi
  exit "$status"
}
trap 'echo "line $LINENO: $BASH_COMMAND" >&2' ERR
trap finish EXIT
cd "$work"

say "1. a network"
"$lacre" dev --dir network >dev.out 2>dev.log &
dev=$!
until grep -q '^ready' dev.out; do
  kill -0 "$dev" # it ended: nothing to wait for
  sleep 0.2
done
digest=$("$lacre" trust show --trust network/trust | awk '$1 == "digest" {print $2}')
echo "trust bundle $digest"

say "2. an approved algorithm"
"$lacre" module test --out report.json
"$lacre" approval draft --network network --test-report report.json --out approval.json
statement=$("$lacre" approval show approval.json --digest)
"$lacre" approval sign approval.json --network network --digest "$statement" --key network/keys/notified-body.pem --out half.dsse
"$lacre" approval sign half.dsse --network network --digest "$statement" --key network/keys/example-manufacturer.pem --out approval.dsse
"$lacre" approval submit approval.dsse --network network
"$lacre" module install speed --network network
"$lacre" approval list --network network

say "3. a registered meter"
"$lacre" meter keygen my-meter --network network
"$lacre" meter register my-meter --network network --key network/keys/notified-body.pem --spacing 2000 --rate 1000

say "4. vehicles"
"$lacre" meter simulate my-meter --network network --passes 20 --seed 1

say "5. a receipt, verified offline"
"$lacre" receipt get my-meter 1 --network network --out receipt.tlog
"$lacre" receipt verify receipt.tlog --trust network/trust --pin "$digest"

say "6. a bundle, and the result computed again"
"$lacre" bundle get my-meter 1 --network network --out bundle
"$lacre" receipt verify bundle --trust network/trust --module speed

say "7. a forged receipt is refused"
# One letter of the record becomes another.
awk '/^extra /{c=substr($0,200,1); $0=substr($0,1,199) (c=="A"?"B":"A") substr($0,201)} {print}' receipt.tlog >forged.tlog
code=0
"$lacre" receipt verify forged.tlog --trust network/trust || code=$?
if [ "$code" -ne 1 ]; then
  echo "a forged receipt gave exit code $code, want 1 (refuted)" >&2
  exit 1
fi

say "8. the whole ledger audited"
"$lacre" audit --network network
