#!/usr/bin/env bash
# Rebuilds every algorithm module from its C source and compares it with the committed one, byte for byte. The compiler
# is part of the recipe (Debian clang and lld 19.1.7); without it nothing can be compared, which is said, not hidden.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v clang-19 >/dev/null || ! command -v wasm-ld-19 >/dev/null; then
  if [ -n "${REQUIRE_CLANG:-}" ]; then
    echo "clang-19 and lld-19 are required here, and missing" >&2
    exit 1
  fi
  echo "NOT REBUILT: clang-19 and lld-19 are not installed; the committed modules were not compared with their sources"
  exit 0
fi
rebuilt=$(mktemp -d)
trap 'rm -rf "$rebuilt"' EXIT
count=0
for recipe in algorithms/*/c/build.sh; do
  name=$(basename "$(dirname "$(dirname "$recipe")")")
  committed=algorithms/$name/$name.wasm
  digest=$(sh "$recipe" "$rebuilt/$name.wasm")
  if ! cmp "$rebuilt/$name.wasm" "$committed"; then
    echo "$committed is $(sha256sum "$committed" | cut -d' ' -f1), its source gives $digest with $(clang-19 --version | head -n 1)" >&2
    exit 1
  fi
  echo "$committed is what its source gives: sha256 $digest"
  count=$((count + 1))
done
if [ "$count" -eq 0 ]; then
  echo "no module recipe found" >&2
  exit 1
fi
