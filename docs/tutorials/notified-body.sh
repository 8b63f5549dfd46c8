#!/usr/bin/env bash
# The commands of notified-body.md: from an empty network to a bundle that a court can check, one after the other. It fails
# loudly: the first command that does not hold ends it with that command's line, and an attack that succeeds does too.
#
#   docs/tutorials/notified-body.sh [path of the lacre binary, default bin/lacre]
set -euo pipefail

lacre=$(realpath "${1:-bin/lacre}")
tables=$(realpath "$(dirname "$0")/../../examples/tables")
work=$(mktemp -d)
dev=
say() { printf '\n== %s\n' "$*"; }
lacre() { "$lacre" "$@"; }

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

refused() { # refused REASON COMMAND: it must not pass, and say why
  local want=$1
  shift
  if "$@" >refused.out 2>&1; then
    echo "accepted, and should be refused with $want: $*" >&2
    return 1
  fi
  grep -q "$want" refused.out || { cat refused.out >&2; return 1; }
  echo "refused: $(grep -m 1 "$want" refused.out)"
}

# sign FILE OUT KEY..: what the signer does at the machine that has the key, without a connection. The digest comes to it by
# another way than the file.
sign() {
  local file=$1 out=$2 keys=()
  shift 2
  for key in "$@"; do keys+=(--key "$key"); done
  lacre approval sign "$file" --network network --digest "$(lacre approval show "$file" --digest)" "${keys[@]}" --out "$out" >"$out.shown" 2>&1
}
submit() { lacre approval submit "$1" --network network; }

say "1. a network, and its keys"
"$lacre" dev --dir network >dev.out 2>dev.log &
dev=$!
until grep -q '^ready' dev.out; do
  kill -0 "$dev" # it ended: nothing to wait for
  sleep 0.2
done
maker=network/keys/example-manufacturer.pem

say "2. the notified body's three keys, two of which must sign from now on"
public=()
for i in 1 2 3; do
  lacre key new "inspector-$i.pem" >"inspector-$i.txt"
  public+=("$(awk '/^public key/ {print $3}' "inspector-$i.txt")")
done
body=(inspector-1.pem inspector-3.pem)
lacre network change draft --network network --notified-body "notified-body@authority=${public[0]},${public[1]},${public[2]}:2" --out body.json
roots=()
for organisation in authority institute university; do roots+=(--key "network/keys/$organisation.pem"); done
lacre network change sign body.json --network network --digest "$(lacre approval show body.json --digest)" "${roots[@]}" \
  --key inspector-1.pem --key inspector-2.pem --key inspector-3.pem --out body.dsse
lacre network change submit body.dsse --network network
lacre trust update --network network
digest=$(lacre trust show --trust network/trust | awk '$1 == "digest" {print $2}')

say "3. the type test, and the approval that names its report"
lacre module test --out report.json
lacre approval draft --network network --test-report report.json --out approval.json
lacre approval show approval.json
sign approval.json half.dsse "$maker"
refused NOT_AUTHORISED lacre approval submit half.dsse --network network --dry-run
sign half.dsse one.dsse "${body[0]}"
refused NOT_AUTHORISED lacre approval submit one.dsse --network network --dry-run
sign one.dsse approval.dsse "${body[1]}"
lacre approval submit approval.dsse --network network --dry-run
submit approval.dsse
lacre module export speed.wasm
lacre approval verify approval.dsse --network network --module speed.wasm --report report.json --rerun
lacre approval list --network network

say "4. the module goes to the endorsers; another one is refused, and that is recorded"
lacre module install speed --network network
cp speed.wasm other.wasm
printf '\0' >>other.wasm
refused UNKNOWN_ALGORITHM lacre module install other.wasm --network network
until lacre events --network network --kind REFUSED_INSTALLATION 2>/dev/null | tee events.txt | grep -q '^1 events'; do sleep 0.2; done
cat events.txt

say "5. the national table"
from=$(date -u -d '+14 seconds' +%Y-%m-%dT%H:%M:%SZ)
lacre table draft "$tables/br.json" --valid-from "$from" --network network --out br.draft
sign br.draft br.dsse "${body[@]}"
submit br.dsse
lacre table consider "$tables/br.json" 150

say "6. a meter, registered under the table"
lacre meter keygen km-41 --network network
lacre meter register km-41 --network network --table br --seal 4711 --certificate 2026-041 --draft register.json
sign register.json register.dsse "${body[@]}"
submit register.dsse
lacre meter register km-41 --network network --draft again.json
sign again.json again.dsse "${body[@]}"
refused ALREADY_REGISTERED lacre approval submit again.dsse --network network
until [ "$(date -u +%Y-%m-%dT%H:%M:%SZ)" \> "$from" ]; do sleep 1; done # until then the table is not in force

say "7. vehicles, with pictures that only the authority can read"
printf 'a picture of a plate' >plate
authority=$(lacre evidence key network/keys/authority.evidence.pem)
lacre evidence reader reader --organisation authority --key network/keys/authority.pem --network network
lacre meter simulate km-41 --network network --passes 3 --speed 80 --seed 1 --evidence plate --evidence-key "$authority"

say "8. a test that the endorsers do not know to be one"
lacre canary prepare km-41 --network network --id test-1 --vectors 3 --out secret.json --draft commitment.json
sign commitment.json commitment.dsse "${body[@]}"
submit commitment.dsse
lacre canary send km-41 --network network --secret secret.json
lacre canary reveal --network network --secret secret.json --draft reveal.json
sign reveal.json reveal.dsse "${body[@]}"
submit reveal.dsse

say "9. the meter's life: new parameters, a suspension, its end"
lacre meter parameters km-41 --network network --seal 4712 --reason 'loops laid anew' --out parameters.json
sign parameters.json parameters.dsse "${body[@]}"
submit parameters.dsse
lacre meter simulate km-41 --network network --passes 1 --speed 120 --seed 2
lacre meter status suspend km-41 --network network --reason 'under examination' --out suspend.json
sign suspend.json suspend.dsse "${body[@]}"
submit suspend.dsse
refused METER_NOT_IN_SERVICE lacre meter simulate km-41 --network network --passes 1 --seed 3
lacre meter status resume km-41 --network network --out resume.json
sign resume.json resume.dsse "${body[@]}"
submit resume.dsse
refused OUT_OF_SEQUENCE lacre approval submit suspend.dsse --network network
lacre meter history km-41 --network network

say "10. a sign of life, and silence"
lacre meter keygen km-42 --network network
lacre meter register km-42 --network network --table br --draft register-42.json
sign register-42.json register-42.dsse "${body[@]}"
submit register-42.dsse
lacre meter heartbeat km-41 --network network
if lacre meter silence --longer 1s --network network >silence.txt 2>/dev/null; then exit 1; fi # two meters are listed
cat silence.txt
grep -q '^km-42 .*never' silence.txt           # it never measured, and does not say that it lives
grep -q '^km-41 .*1 signed above' silence.txt # what was captured while it was suspended never reached the ledger

say "11. a new version, withheld, takes the old one's place"
old=$(sha256sum speed.wasm | cut -d ' ' -f 1)
LC_ALL=C sed 's/1\.2\.0/1.2.1/' speed.wasm >next.wasm # the same computation under another version
new=$(sha256sum next.wasm | cut -d ' ' -f 1)
lacre module inspect next.wasm
lacre module test next.wasm --out next-report.json
lacre approval draft --network network --module next.wasm --schema approval.dsse --fuel-limit 100000000 --withheld \
  --policy "AND('institute','operator')" --test-report next-report.json --out next.json
sign next.json next.dsse "$maker" "${body[@]}"
submit next.dsse
lacre module install next.wasm --network network | tee installed.txt
if grep -q university installed.txt; then exit 1; fi # not contracted
refused PERMISSION_DENIED lacre module get "$new" --network network --tls-key network/nodes/gateway/tls.pem --out no.wasm
lacre module get "$new" --network network --tls-key network/nodes/approval/tls.pem --out escrow.wasm
cmp next.wasm escrow.wasm
lacre meter parameters km-41 --network network --module "$new" --reason 'speed 1.2.1' --out version.json
sign version.json version.dsse "${body[@]}"
submit version.dsse
lacre approval status supersede "$old" --successor "$new" --network network --reason 'speed 1.2.1' --out supersede.json
sign supersede.json supersede.dsse "${body[@]}"
submit supersede.dsse
refused ALGORITHM_NOT_IN_FORCE lacre meter simulate km-42 --network network --passes 1 --seed 4
lacre meter simulate km-41 --network network --passes 2 --speed 90 --seed 5
lacre approval list --network network
lacre approval list --network network --at "$from"
lacre approval history "$old" --network network

say "12. the court's bundle, checked offline"
lacre bundle get km-41 1 --network network --module speed --out bundle
lacre receipt verify bundle --trust network/trust --pin "$digest"
lacre receipt show bundle --trust network/trust | tee record.txt
grep -q '^considered .*km/h' record.txt
printf '\1' | dd of=bundle bs=1 seek=2000 conv=notrunc status=none
refused refuted lacre receipt verify bundle --trust network/trust

say "13. the picture, read on the record, and erased"
piece=$(lacre evidence list km-41 --network network | grep -o -m 1 '[0-9a-f]\{64\}' | head -n 1)
lacre evidence get "$piece" --meter km-41 --key network/keys/authority.evidence.pem --purpose 'case 17' --out read --network network
cmp read plate
lacre events --network network --kind EVIDENCE_READ --subject "evidence/$piece" | tee readings.txt
grep -q 'reader of authority at .*: case 17' readings.txt
lacre evidence erase "$piece" --organisation authority --key network/keys/authority.pem --evidence-key "$authority" --rule 'retention is over' --network network
lacre receipt get km-41 1 --network network --out erased.tlog
lacre receipt verify erased.tlog --trust network/trust

say "14. nothing is missing, everything is accounted for"
lacre completeness prove km-41 --network network --from 1 --to 7 --out complete
lacre completeness verify complete --trust network/trust
lacre account --network network
code=0
lacre audit --network network | tee audit.txt || code=$?
grep -q withheld audit.txt
test "$code" -eq 2 # not all could be executed again: one module is withheld
lacre audit --network network --module escrow.wasm
