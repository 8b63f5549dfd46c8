#!/usr/bin/env bash
# Four organisations found a network that none of them can found alone, run it as nine processes for a day, and check
# every receipt at the end. docs/runbooks/founding.md explains each step. It fails loudly: the first command that does not
# hold ends it with that command's line.
#
#   docs/tutorials/founding.sh [directory of the binaries, default bin]
#
# LACRE_PORTS may list 22 free loopback ports; otherwise free ones are looked for. With LACRE_SHORT set, one process of each
# kind is killed instead of each of the nine.
set -euo pipefail

bin=$(realpath "${1:-bin}")
lacre=$bin/lacre
work=$(mktemp -d)
. "$(dirname "$(realpath "$0")")/processes.sh" # which processes, at which ports
say() { printf '\n== %s\n' "$*"; }

finish() {
  status=$?
  trap - EXIT ERR
  kill_all
  if [ "$status" -eq 0 ]; then
    rm -rf "$work"
    echo "all of it held"
  else
    echo "FAILED (exit $status); everything is kept in $work" >&2
    tell_logs
  fi
  exit "$status"
}
trap 'echo "line $LINENO: $BASH_COMMAND" >&2' ERR
trap finish EXIT
cd "$work"

say "1. each organisation makes its keys and its member file"
for o in "${organisations[@]}"; do
  flags=()
  for role in ${roles[$o]}; do
    port
    at=127.0.0.1:$port
    if [ "$role" = replica ]; then
      port
      at=$at,$port
    fi
    flags+=("--$role" "$at")
  done
  "$lacre" init "$o" --organisation "$o" "${flags[@]}"
done
if "$lacre" init institute --organisation institute --replica 127.0.0.1; then exit 1; fi # never overwritten
"$lacre" key new inspection.pem >inspection.txt
"$lacre" key new maker.pem
inspection=$(awk '/^public key/ {print $3}' inspection.txt)

say "2. one drafts, each signs offline, one assembles, everybody verifies"
"$lacre" network draft ./*/*.member --name roads.example --notified-body "inspection@authority=$inspection" --out draft
for o in "${organisations[@]}"; do
  "$lacre" network sign draft --key "$o/keys/$o.pem" --member "$o/$o.member" --out "$o.sig" >"$o.signed"
done
id=$(awk '$1 == "id" {print $2}' institute.signed)
if "$lacre" network assemble draft authority.sig operator.sig --out network; then exit 1; fi # two are missing
"$lacre" network assemble draft ./*.sig --out network | tee assembled
"$lacre" network verify network --network-id "$id"
pin=$(awk '$1 == "trust" {print $3}' assembled)

say "3. each organisation sets up its nodes"
for o in "${organisations[@]}"; do
  admin=()
  for node in "${nodes[@]}"; do
    if [ "$(home "$node")" = "$o" ]; then
      port
      admin+=(--admin "$node=127.0.0.1:$port")
    fi
  done
  "$lacre" init "$o" --network network --network-id "$id" "${admin[@]}"
done
if "$lacre" init institute --network network; then exit 1; fi # once
for node in "${nodes[@]}"; do
  "$lacre" config validate auto "$(home "$node")/nodes/$node/config.yaml"
done

start_all() {
  for node in "${nodes[@]}"; do start "$node" "$bin"; done
  "$lacre" network wait operator
}
stop_all() { # and every one ends with exit code 0
  for node in "${nodes[@]}"; do kill -TERM "${process[$node]}"; done
  for node in "${nodes[@]}"; do
    code=0
    wait "${process[$node]}" || code=$?
    unset "process[$node]"
    if [ "$code" -ne 0 ]; then
      echo "$node ended with exit code $code, want 0" >&2
      exit 1
    fi
  done
}
passes=0
measure() { # measure METER N
  "$lacre" meter simulate "$1" --network operator --passes "$2" --seed $((passes + 1))
  passes=$((passes + $2))
}

say "4. nine processes"
start_all

say "5. an algorithm is approved and installed"
"$lacre" module test --out report.json
"$lacre" approval draft --network authority --notified-body inspection --manufacturer-key maker.pem --test-report report.json --require 2 --of institute --of operator --of university --out approval.json
"$lacre" approval sign approval.json --key inspection.pem --digest "$("$lacre" approval show approval.json --digest)" --out half.dsse
"$lacre" approval sign half.dsse --key maker.pem --digest "$("$lacre" approval show half.dsse --digest)" --out approval.dsse
"$lacre" approval submit approval.dsse --network authority
"$lacre" module install speed --network operator

say "6. meters are registered, and measure"
"$lacre" meter keygen north --network operator
"$lacre" meter register north --network operator --key inspection.pem
"$lacre" meter keygen south --network operator --kind p256
"$lacre" meter register south --network operator --rate 2000 --draft south.json
"$lacre" approval sign south.json --key inspection.pem --digest "$("$lacre" approval show south.json --digest)" --out south.dsse
"$lacre" approval submit south.dsse --network authority
measure north 5
measure south 5

say "7. each process is killed and started again while measuring goes on"
victims=("${nodes[@]}")
if [ -n "${LACRE_SHORT:-}" ]; then victims=(replica-institute endorser-operator gateway-operator approval-authority); fi
for node in "${victims[@]}"; do
  echo "-- kill -9 $node"
  kill -KILL "${process[$node]}"
  wait "${process[$node]}" 2>/dev/null || true
  if [ "$node" = gateway-operator ]; then # what is recorded waits in the outbox
    if "$lacre" meter simulate north --network operator --passes 1 --seed 77 --timeout 1s; then exit 1; fi
    passes=$((passes + 1))
  else
    measure north 2
  fi
  start "$node" "$bin"
  "$lacre" network wait operator "$node"
  measure south 1
  measure north 1
done

say "8. all stop cleanly, all start again"
stop_all
start_all
measure north 3
measure south 3

say "9. every receipt, verified with nothing but the pinned trust bundle; the whole ledger audited"
receipts=0
for file in operator/meters/*/outbox/receipts/*.receipt; do
  "$lacre" receipt verify "$file" --trust network/trust --pin "$pin" >/dev/null
  receipts=$((receipts + 1))
done
if [ "$receipts" -ne "$passes" ]; then
  echo "$receipts receipts verified, $passes vehicles passed" >&2
  exit 1
fi
echo "$receipts of $passes receipts verified"
"$lacre" audit --network authority

say "10. stopped, a replica's own directory is audited byte by byte"
stop_all
"$lacre" audit --from university/nodes/replica-university/data --trust network/trust
