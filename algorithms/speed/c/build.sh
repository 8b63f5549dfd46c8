#!/bin/sh
# Builds speed.wasm from speed.c, to the byte. The compiler is part of the recipe:
# Debian clang and lld 1:19.1.7; another version gives another digest.
# Usage: build.sh [OUTPUT]     (default: ../speed.wasm beside the Go package)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/../speed.wasm}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$here"
# Strength reduction is off: it hides from the compiler of the sandbox that neighbouring loads share one address.
clang-19 --target=wasm32 -mcpu=mvp -std=c11 -O2 -mllvm -disable-lsr -ffreestanding -fno-builtin -nostdlib \
  -Wall -Wextra -Werror -Wno-pointer-to-int-cast -c speed.c -o "$tmp/speed.o"
# --stack-first puts stack and data below the input region, which so lies last.
wasm-ld-19 --no-entry --stack-first -z stack-size=4096 --initial-memory=655360 --max-memory=655360 \
  --strip-all --compress-relocations "$tmp/speed.o" -o "$tmp/speed.wasm"
cat "$tmp/speed.wasm" >"$out"
sha256sum "$tmp/speed.wasm" | cut -d' ' -f1
