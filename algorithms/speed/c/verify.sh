#!/bin/sh
# Rebuilds the module and compares it with the committed one, byte for byte.
# Exit 0: identical. 1: it differs. 3: the compiler of the recipe is not here.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
for tool in clang-19 wasm-ld-19; do
  if ! command -v "$tool" >/dev/null; then
    echo "speed.wasm not rebuilt: $tool is not installed (Debian packages clang-19 and lld-19)"
    exit 3
  fi
done
tmp=$(mktemp)
trap 'rm -f "$tmp"' EXIT
built=$("$here/build.sh" "$tmp")
committed=$(sha256sum "$here/../speed.wasm" | cut -d' ' -f1)
if [ "$built" != "$committed" ]; then
  echo "speed.wasm differs: committed $committed, rebuilt $built"
  exit 1
fi
echo "speed.wasm rebuilt from source: sha256 $committed"
