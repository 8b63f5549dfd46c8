#!/bin/sh
# A program for `lacre approval sign --signer`, with an Ed25519 key that openssl holds: docs/adr/0009 has the protocol.
# Usage: --signer 'examples/signer/openssl-signer.sh KEY', where KEY is what openssl's -inkey and -in take.
set -eu
key=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
while read -r word what value; do
  case "$word $what" in
    "key ")
      printf 'key %s\n' "$(openssl pkey -in "$key" -pubout -outform DER | openssl base64 -A)" ;;
    "sign message")
      printf '%s' "$value" | openssl base64 -d -A > "$scratch/message"
      openssl pkeyutl -sign -inkey "$key" -rawin -in "$scratch/message" -out "$scratch/signature"
      printf 'signature %s\n' "$(openssl base64 -A -in "$scratch/signature")" ;;
    *)
      printf 'error cannot do %s %s\n' "$word" "$what" ;;
  esac
done
