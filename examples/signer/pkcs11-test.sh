#!/usr/bin/env bash
# What `make hsm` runs: pkcs11-test.sh LACRE
# Keys that were made in a token and never leave it sign an approval through pkcs11-signer.sh. The token is SoftHSM's, in a
# directory of its own. Without softhsm2 and opensc nothing can be tried, which is said, not hidden; REQUIRE_PKCS11=1 makes
# that a failure.
set -euo pipefail
lacre=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
missing=()
for tool in softhsm2-util pkcs11-tool openssl; do
  command -v "$tool" >/dev/null || missing+=("$tool")
done
module=
for path in /usr/lib/softhsm/libsofthsm2.so /usr/lib64/pkcs11/libsofthsm2.so /usr/local/lib/softhsm/libsofthsm2.so; do
  if [ -z "$module" ] && [ -e "$path" ]; then module=$path; fi
done
[ -n "$module" ] || missing+=(libsofthsm2.so)
if [ "${#missing[@]}" -gt 0 ]; then
  if [ -n "${REQUIRE_PKCS11:-}" ]; then
    echo "required here, and missing: ${missing[*]} (Debian: softhsm2, opensc, openssl)" >&2
    exit 1
  fi
  echo "NOT TRIED: ${missing[*]} missing (Debian: softhsm2, opensc, openssl); no key in a token has signed"
  exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir tokens
printf 'directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n' "$work/tokens" >softhsm2.conf
export SOFTHSM2_CONF=$work/softhsm2.conf
export PKCS11_PIN=271828
softhsm2-util --init-token --free --label inspection --so-pin 31415926 --pin "$PKCS11_PIN" >made
token() { pkcs11-tool --module "$module" --token-label inspection --login --pin env:PKCS11_PIN "$@"; }
token --keypairgen --key-type EC:edwards25519 --id 01 --label body >>made
token --keypairgen --key-type EC:prime256v1 --id 02 --label maker >>made
body="$here/pkcs11-signer.sh $module inspection 01"
maker="$here/pkcs11-signer.sh $module inspection 02"

fail() { echo "FAILED: $*" >&2; cat log >&2; exit 1; }
refused() { # refused TEXT COMMAND...: it fails, says TEXT and writes nothing
  local says=$1
  shift
  if "$@" --out none.dsse >log 2>&1; then fail "$*: accepted"; fi
  grep -q "$says" log || fail "$*: does not say $says"
  [ ! -e none.dsse ] || fail "$*: wrote a file"
}

# The public halves go where public keys of files go.
"$lacre" key show --signer "$body" >body.txt 2>log || fail "key show, Ed25519"
"$lacre" key show --signer "$maker" >maker.txt 2>log || fail "key show, P-256"
grep -q '^kind *ed25519$' body.txt && grep -q '^kind *p256$' maker.txt || fail "the kinds of the token's keys"

echo "a test report" >report.txt
network=$(printf '%064d' 1)
"$lacre" approval draft --network-id "$network" --manufacturer-public "$(awk '/^public key/ {print $3}' maker.txt)" --test-report report.txt --out draft.json 2>log || fail "draft"
digest=$("$lacre" approval show draft.json --digest)

# Both kinds sign what is confirmed: the library makes no envelope of a signature that does not verify.
"$lacre" approval status suspend "$network" --network-id "$network" --predecessor "$network" --out suspend.json 2>log || fail "status"
"$lacre" approval sign suspend.json --digest "$("$lacre" approval show suspend.json --digest)" --signer "$body" --out suspend.dsse 2>log ||
  fail "Ed25519 in the token"
grep -q 'has 1 signatures' log || fail "one signature"
"$lacre" approval sign draft.json --digest "$digest" --signer "$maker" --out approval.dsse 2>log || fail "P-256 in the token"
verify=0
"$lacre" approval verify approval.dsse --module speed --report report.txt >log 2>&1 || verify=$?
[ "$verify" -eq 2 ] || fail "approval verify: exit code $verify, want 2: no configuration says who the body is"
grep -q '^verified *manufacturer' log || fail "the manufacturer's signature does not verify"
# An approval is longer than OpenSC 0.23 lets Ed25519 sign; a later one may do it. Nothing in between.
long=signed
if ! "$lacre" approval sign draft.json --digest "$digest" --signer "$body" --out long.dsse 2>log; then
  grep -q 'did not sign' log && [ ! -e long.dsse ] || fail "Ed25519 over an approval"
  long="refused by the tool"
fi
# A token gives s high or low as it comes; the ledger takes low ones alone (rule B3).
for i in {1..12}; do
  "$lacre" approval sign draft.json --digest "$digest" --signer "$maker" --out "again-$i.dsse" 2>log || fail "P-256, try $i"
done

refused 'did not sign' env PKCS11_PIN=000000 "$lacre" approval sign draft.json --digest "$digest" --signer "$body"
refused 'no public key 07' "$lacre" approval sign draft.json --digest "$digest" --signer "$here/pkcs11-signer.sh $module inspection 07"
refused 'no public key 01' "$lacre" approval sign draft.json --digest "$digest" --signer "$here/pkcs11-signer.sh $module nowhere 01"
if grep -rlq 'PRIVATE KEY' --exclude-dir=tokens .; then fail "a private key lies in a file"; fi
echo "keys in a token (SoftHSM $(softhsm2-util --version), OpenSC): P-256 signed an approval and 12 more, Ed25519 a status, an approval by Ed25519 was $long; a wrong PIN, key and token signed nothing"
