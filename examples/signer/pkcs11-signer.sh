#!/bin/sh
# A program for `lacre approval sign --signer`, with a key in a token that speaks PKCS#11: docs/adr/0009 has the protocol.
# It needs OpenSC's pkcs11-tool, and openssl.
# Usage: --signer 'examples/signer/pkcs11-signer.sh MODULE TOKEN ID'
#   MODULE  the vendor's library, such as /usr/lib/softhsm/libsofthsm2.so
#   TOKEN   the token's label
#   ID      the key pair's CKA_ID in hexadecimal: P-256; or Ed25519, with which OpenSC 0.23 signs at most 1,024 bytes (it
#           sends more in parts, and CKM_EDDSA takes none): a status fits, an approval does not
# The PIN is asked for on the terminal, for each signature; or it stands in the environment variable PKCS11_PIN.
set -eu
module=$1 token=$2 id=$3
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

tool() { # everything that the tool prints goes to standard error: standard output is the protocol's
  pkcs11-tool --module "$module" --token-label "$token" "$@" >&2
}

public() { # as DER; the tool writes an Ed25519 key as PEM, whatever it is asked for
  tool --read-object --type pubkey --id "$id" --output-file "$scratch/public" </dev/null &&
    openssl pkey -pubin -in "$scratch/public" -pubout -outform DER -out "$scratch/der"
}

sign() { # sign MECHANISM BASE64
  rm -f "$scratch/signature"
  printf '%s' "$2" | openssl base64 -d -A >"$scratch/input" || return 1
  set -- --sign --mechanism "$1" --id "$id" --input-file "$scratch/input" --output-file "$scratch/signature"
  if [ -n "${PKCS11_PIN:-}" ]; then
    tool --login --pin env:PKCS11_PIN "$@" </dev/null
  else
    tool --login "$@" </dev/tty
  fi && [ -s "$scratch/signature" ]
}

answer() { # answer WORD FILE
  printf '%s %s\n' "$1" "$(openssl base64 -A -in "$2")"
}

while read -r word what value; do
  case "$word $what" in
    "key ")
      if public; then answer key "$scratch/der"; else echo "error no public key $id in token $token"; fi ;;
    "sign message")
      if sign EDDSA "$value"; then answer signature "$scratch/signature"; else echo "error token $token did not sign with key $id (EDDSA; at most 1024 bytes with OpenSC 0.23)"; fi ;;
    "sign sha256")
      if sign ECDSA "$value"; then answer signature "$scratch/signature"; else echo "error token $token did not sign with key $id (ECDSA)"; fi ;;
    *)
      echo "error cannot do $word $what" ;;
  esac
done
