#!/usr/bin/env bash
# What an operator does to a running network, with vehicles passing all the while: its nine processes are upgraded one after
# the other from older binaries, restarted one after the other, live through the expiry of every certificate, and two get another TLS key. No
# submission may fail: each vehicle gets its receipt, however often the meter had to send. It fails loudly with the line that
# did not hold. docs/operate.md, docs/runbooks/certificates.md.
#
#   deploy/rolling.sh DIR [OLD]    # directories of the binaries; without OLD the upgrade is left out. Needs openssl
set -euo pipefail

new=$(realpath "$1")
old=${2:+$(realpath "$2")}
lacre=$new/lacre
work=$(mktemp -d)
. "$(dirname "$(realpath "$0")")/../docs/tutorials/processes.sh" # which processes, at which ports
say() { printf '\n== %s (%d s)\n' "$*" "$SECONDS"; }

finish() {
  status=$?
  trap - EXIT ERR
  touch "$work/stop"
  if [ -n "${traffic:-}" ]; then wait "$traffic" 2>/dev/null || true; fi
  kill_all
  if [ "$status" -eq 0 ]; then
    rm -rf "$work"
    echo "all of it held, $SECONDS s"
  else
    echo "FAILED (exit $status); everything is kept in $work" >&2
    tell_logs
  fi
  exit "$status"
}
trap 'echo "line $LINENO: $BASH_COMMAND" >&2' ERR
trap finish EXIT
cd "$work"
quietly() { "$@" >said 2>&1 || { cat said >&2; return 1; }; }

say "1. four organisations found a network"
founder=${old:-$new}/lacre # a configuration may have keys that older binaries do not know
declare -A address
for o in "${organisations[@]}"; do
  flags=()
  for role in ${roles[$o]}; do
    port
    address[$role-$o]=127.0.0.1:$port
    flags+=("--$role" "127.0.0.1:$port")
    if [ "$role" = replica ]; then
      port
      flags[-1]+=,$port
    fi
  done
  quietly "$founder" init "$o" --organisation "$o" "${flags[@]}"
done
quietly "$founder" key new maker.pem
quietly "$founder" key new inspection.pem
quietly "$founder" network draft ./*/*.member --name roads.example --notified-body "inspection=$(awk '/^public key/ {print $3}' said)" --out draft
for o in "${organisations[@]}"; do quietly "$founder" network sign draft --key "$o/keys/$o.pem" --member "$o/$o.member" --out "$o.sig"; done
id=$(awk '$1 == "id" {print $2}' said)
quietly "$founder" network assemble draft ./*.sig --out network
pin=$(awk '$1 == "trust" {print $3}' said)
for o in "${organisations[@]}"; do
  admin=()
  for node in "${nodes[@]}"; do
    if [ "$(home "$node")" = "$o" ]; then
      port
      admin+=(--admin "$node=127.0.0.1:$port")
    fi
  done
  quietly "$founder" init "$o" --network network --network-id "$id" "${admin[@]}"
done

for node in "${nodes[@]}"; do start "$node" "${old:-$new}"; done
quietly "$lacre" network wait operator

say "2. an algorithm is approved, a meter registered"
quietly "$lacre" module test --out report.json
quietly "$lacre" approval draft --network authority --notified-body inspection --manufacturer-key maker.pem --test-report report.json \
  --require 2 --of institute --of operator --of university --out approval.json
quietly "$lacre" approval sign approval.json --key inspection.pem --digest "$("$lacre" approval show approval.json --digest)" --out half.dsse
quietly "$lacre" approval sign half.dsse --key maker.pem --digest "$("$lacre" approval show half.dsse --digest)" --out approval.dsse
quietly "$lacre" approval submit approval.dsse --network authority
quietly "$lacre" module install speed --network operator
quietly "$lacre" meter keygen north --network operator
quietly "$lacre" meter register north --network operator --key inspection.pem

measure_on() { # vehicles pass until the file stop is there; the first that gets no receipt ends it
  local seed=0
  until [ -e stop ]; do
    seed=$((seed + 1))
    "$lacre" meter simulate north --network operator --passes 1 --seed "$seed" >traffic.said 2>&1 || { cp traffic.said traffic.log; return 1; }
    echo "$seed" >passed
  done
}
measure_on &
traffic=$!

roll() { # roll BINARIES: one node after the other is stopped and started again; each is ready before the next
  for node in "${nodes[@]}"; do
    kill -TERM "${process[$node]}"
    code=0
    wait "${process[$node]}" || code=$?
    if [ "$code" -ne 0 ]; then
      echo "$node ended with exit code $code, want 0" >&2
      exit 1
    fi
    start "$node" "$1"
    quietly "$lacre" network wait operator "$node"
  done
  kill -0 "$traffic" 2>/dev/null || { echo "a submission failed" >&2; exit 1; }
  echo "$(cat passed) vehicles passed, each has its receipt"
}
if [ -n "$old" ]; then
  say "3. a rolling upgrade from $("$old/lacre" version | awk 'NR == 1 {print $2}') to $("$lacre" version | awk 'NR == 1 {print $2}')"
  roll "$new"
fi

say "4. a rolling restart"
roll "$new"

say "5. every certificate expires, and is renewed; nothing is restarted"
trusted() { # trusted NODE: an ordinary TLS client takes its certificate by the CA's word
  openssl s_client -connect "${address[$1]}" -verify_return_error -CAfile "$(home "$1")/ca/$(home "$1").crt" -alpn h2 </dev/null >/dev/null 2>&1
}
shows() { # shows NODE yes|no: within half a minute
  local begin=$SECONDS
  until if trusted "$1"; then [ "$2" = yes ]; else [ "$2" = no ]; fi; do
    if [ $((SECONDS - begin)) -ge 30 ]; then
      echo "$1 is trusted by an ordinary TLS client: want $2" >&2
      exit 1
    fi
    sleep 0.5
  done
}
trusted replica-institute
for node in "${nodes[@]}"; do quietly "$lacre" certificate issue "$(home "$node")" "$node" --until 2024-01-01T00:00:00Z; done
for node in "${nodes[@]}"; do shows "$node" no; done
kill -TERM "${process[gateway-operator]}" # and a node that starts now is no stranger
wait "${process[gateway-operator]}"
start gateway-operator "$new"
quietly "$lacre" network wait operator
if "$lacre" doctor --network institute >said 2>&1; then
  echo "doctor finds nothing wrong with a certificate that expired" >&2
  exit 1
fi
grep -A 1 -E '^fail +replica-institute +certificate' said
before=$(cat passed)
until [ "$(cat passed)" -gt $((before + 1)) ] || ! kill -0 "$traffic" 2>/dev/null; do sleep 0.2; done
for node in "${nodes[@]}"; do quietly "$lacre" certificate issue "$(home "$node")" "$node" --days 365; done
for node in "${nodes[@]}"; do shows "$node" yes; done
quietly "$lacre" doctor --network institute

say "6. a replica and an endorser get another TLS key each; the old one is a stranger's"
renew() { # renew NODE
  local o old hex
  o=$(home "$1")
  old=$("$lacre" key show "$o/nodes/$1/tls.pem" | sed -n 's/^SPKI digest *//p')
  quietly "$lacre" key new "$1.pem"
  hex=$("$lacre" key show "$1.pem" | sed -n 's/^SPKI digest *//p')
  quietly "$lacre" node renew-tls "$o/$o.member" "$1" --tls-key "$1.pem" --network operator --out "$1.json"
  quietly "$lacre" network change sign "$1.json" --key "$o/keys/$o.pem" --key "$o/nodes/$1/signing.pem" --digest "$("$lacre" approval show "$1.json" --digest)" --out "$1.dsse"
  quietly "$lacre" network change submit "$1.dsse" --network operator
  if [ "${1%%-*}" = replica ]; then # it still shows the old key, and calls the others all the time
    local begin=$SECONDS
    until grep -hE 'PermissionDenied|Unauthenticated' replica-*.log | grep -q "${old:0:16}"; do
      [ $((SECONDS - begin)) -lt 30 ] || { echo "nobody refuses the old TLS key of $1, $old" >&2; exit 1; }
      sleep 0.2
    done
    echo "$1: the old key ${old:0:16}.. is refused"
  fi
  mv "$1.pem" "$o/nodes/$1/tls.pem"
  quietly "$lacre" certificate issue "$o" "$1"
  for o in "${organisations[@]}"; do quietly "$lacre" network learn --spki "$1=$hex" --network "$o"; done
  quietly "$lacre" network wait operator "$1" # shows the new key, and is ready
  echo "$1: the new key ${hex:0:16}.. is registered and shown"
}
renew replica-university
renew endorser-institute
kill -TERM "${process[gateway-operator]}" # it pins both
wait "${process[gateway-operator]}"
start gateway-operator "$new"
quietly "$lacre" network wait operator
before=$(cat passed)
until [ "$(cat passed)" -gt $((before + 1)) ] || ! kill -0 "$traffic" 2>/dev/null; do sleep 0.2; done
quietly "$lacre" doctor --network operator

say "7. every vehicle has its receipt, which verifies"
touch stop
wait "$traffic" || { echo "a submission failed" >&2; exit 1; }
traffic=
receipts=0
for file in operator/meters/*/outbox/receipts/*.receipt; do
  "$lacre" receipt verify "$file" --trust network/trust --pin "$pin" >/dev/null
  receipts=$((receipts + 1))
done
if [ "$receipts" -ne "$(cat passed)" ]; then
  echo "$receipts receipts, $(cat passed) vehicles passed" >&2
  exit 1
fi
echo "$receipts of $receipts receipts verified"
quietly "$lacre" audit --network authority
tail -n 1 said
