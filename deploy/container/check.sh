#!/usr/bin/env bash
# Runs the images as an operator would: four organisations found a network offline, run it as nine containers of
# compose.yaml, each organisation on a network of its own, and measure; then one organisation is cut off and comes back,
# and one replica is lost for good. Every receipt verifies at the end. It fails loudly with the line that did not hold, and
# takes down all that it started, then too.
#
#   deploy/container/check.sh DIR [TAG, default latest]    # DIR holds the program lacre; images.sh builds the images
set -euo pipefail

lacre=$(realpath "$1")/lacre
export LACRE_TAG=${2:-latest}
here=$(realpath "$(dirname "$0")")
LACRE_DIR=$(mktemp -d)
export LACRE_DIR
project=lacre-check-$$
if docker compose version >/dev/null 2>&1; then compose=(docker compose); else compose=(docker-compose); fi
compose+=(--project-name "$project" --file "$here/compose.yaml")
cd "$LACRE_DIR"
chmod 0755 .
export LACRE_USER=65532:65532
[ "$(id -u)" -eq 0 ] || LACRE_USER=$(id -u):$(id -g)
say() { printf '\n== %s (%d s)\n' "$*" "$SECONDS"; }

finish() {
  status=$?
  trap - EXIT ERR INT TERM
  [ "$status" -eq 0 ] || "${compose[@]}" logs --no-color --tail 5 >&2 || true
  docker ps --all --quiet --filter "label=com.docker.compose.project=$project" | xargs -r docker rm --force >/dev/null 2>&1 || true
  "${compose[@]}" down --timeout 1 --remove-orphans >/dev/null 2>&1 || true
  rm -rf "$LACRE_DIR"
  if [ "$status" -eq 0 ]; then echo "all of it held, $SECONDS s"; else echo "FAILED (exit $status), $SECONDS s" >&2; fi
  exit "$status"
}
trap 'echo "line $LINENO: $BASH_COMMAND" >&2' ERR
trap finish EXIT
trap 'exit 130' INT TERM

on() { # on NETWORK ARGUMENTS...: the command-line program in a container on that network
  local network=$1
  shift
  docker run --rm --network "${project}_$network" --dns-option timeout:1 --dns-option attempts:1 --user "$LACRE_USER" --read-only --cap-drop ALL \
    --volume "$LACRE_DIR:$LACRE_DIR" --workdir "$LACRE_DIR" "lacre:$LACRE_TAG" "$@"
}
container() { docker ps --all --quiet --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$1"; }
quietly() { "$@" >said 2>&1 || { cat said >&2; return 1; }; }
passes=0
measure() { # measure N: vehicles pass; the meter is on its organisation's network and reaches the gateway there
  quietly on backbone meter simulate north --network operator --passes "$1" --seed $((passes + 1))
  passes=$((passes + $1))
  echo "$passes vehicles passed, each has its receipt"
}
organisations=(authority institute operator university)

say "1. each organisation makes its keys, offline"
quietly "$lacre" init authority --organisation authority --replica replica-authority --approval approval-authority
quietly "$lacre" init institute --organisation institute --replica replica-institute --endorser endorser-institute
quietly "$lacre" init operator --organisation operator --replica replica-operator --endorser endorser-operator --gateway gateway-operator
quietly "$lacre" init university --organisation university --replica replica-university --endorser endorser-university
quietly "$lacre" key new maker.pem
inspection=$("$lacre" key new inspection.pem | awk '/^public key/ {print $3}')

say "2. one drafts, each signs, one assembles, each verifies and sets up its nodes, offline"
quietly "$lacre" network draft ./*/*.member --name roads.example --notified-body "inspection=$inspection" --out draft
for o in "${organisations[@]}"; do
  quietly "$lacre" network sign draft --key "$o/keys/$o.pem" --member "$o/$o.member" --out "$o.sig"
done
id=$(awk '$1 == "id" {print $2}' said)
quietly "$lacre" network assemble draft ./*.sig --out network
pin=$(awk '$1 == "trust" {print $3}' said)
for o in "${organisations[@]}"; do quietly "$lacre" init "$o" --network network --network-id "$id"; done

say "3. nine containers"
[ "$(id -u)" -ne 0 ] || chown -R "$LACRE_USER" .
quietly "${compose[@]}" up --detach --no-build
quietly on backbone network wait operator

say "4. an algorithm is approved and installed, a meter registered"
quietly "$lacre" module test --out report.json
quietly on backbone approval draft --network authority --notified-body inspection --manufacturer-key maker.pem \
  --test-report report.json --require 2 --of institute --of operator --of university --out approval.json
quietly "$lacre" approval sign approval.json --key inspection.pem --digest "$("$lacre" approval show approval.json --digest)" --out half.dsse
quietly "$lacre" approval sign half.dsse --key maker.pem --digest "$("$lacre" approval show half.dsse --digest)" --out approval.dsse
quietly on backbone approval submit approval.dsse --network authority
quietly on backbone module install speed --network operator
quietly on backbone meter keygen north --network operator
quietly on backbone meter register north --network operator --key inspection.pem

say "5. it measures"
measure 10

say "6. the university is cut off from the backbone; the others go on"
cut=(replica-university endorser-university)
for node in "${cut[@]}"; do docker network disconnect "${project}_backbone" "$(container "$node")"; done
measure 10
if on backbone doctor --network operator >doctor.txt; then
  echo "doctor finds nothing wrong while replica-university is cut off" >&2
  exit 1
fi
grep -A 1 -E '^fail +replica-university +port' doctor.txt

say "7. it comes back, and catches up"
for node in "${cut[@]}"; do docker network connect --alias "$node" "${project}_backbone" "$(container "$node")"; done
quietly on backbone network wait operator
measure 5

say "8. the institute's replica is lost"
docker kill --signal KILL "$(container replica-institute)" >/dev/null
measure 10
if on backbone doctor --network operator >doctor.txt; then
  echo "doctor finds nothing wrong while replica-institute is down" >&2
  exit 1
fi
grep -A 1 -E '^fail +replica-institute +port' doctor.txt
if on backbone status --network operator >status.txt; then
  echo "status finds no problem while replica-institute is down" >&2
  exit 1
fi
head -n 7 status.txt
grep -q -E '^replica-institute +SILENT' status.txt

say "9. every receipt, with nothing but the pinned trust bundle; the whole ledger"
receipts=0
for file in operator/meters/north/outbox/receipts/*.receipt; do receipts=$((receipts + 1)); done
if [ "$receipts" -ne "$passes" ]; then
  echo "$receipts receipts, $passes vehicles passed" >&2
  exit 1
fi
echo "$receipts of $passes receipts verified"
quietly on backbone audit --network authority
tail -n 1 said

say "10. all that runs stops cleanly"
docker stop --time 40 $(docker ps --quiet --filter "label=com.docker.compose.project=$project") >/dev/null
while read -r node code; do
  if [[ $node == *replica-institute* ]]; then continue; fi # killed above
  if [ "$code" -ne 0 ]; then
    echo "$node ended with exit code $code, want 0" >&2
    exit 1
  fi
done < <(docker ps --all --quiet --filter "label=com.docker.compose.project=$project" | xargs docker inspect --format '{{.Name}} {{.State.ExitCode}}')
