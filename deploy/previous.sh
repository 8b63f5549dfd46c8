#!/usr/bin/env bash
# Builds the binaries of another commit: deploy/previous.sh COMMIT DIR. A shallow clone may lack the commit; then DIR is left
# empty, and it says so.
set -euo pipefail

commit=$1
mkdir -p "$2"
out=$(realpath "$2")
rm -f "$out"/lacre "$out"/lacre-*
if ! git rev-parse --quiet --verify "$commit^{commit}" >/dev/null; then
  echo "this clone has no $commit: nothing to upgrade from"
  exit 0
fi
tree=$(mktemp -d)
trap 'git worktree remove --force "$tree/source" 2>/dev/null || true; rm -rf "$tree"' EXIT
git worktree add --quiet --detach "$tree/source" "$commit"
cd "$tree/source"
CGO_ENABLED=0 go build -trimpath -ldflags "-X github.com/lacre-metrology/lacre/platform/version.version=$(git rev-parse --short HEAD)" \
  -o "$out/" ./cli/cmd/lacre ./services/ledger/cmd/lacre-ledger ./services/compute/cmd/lacre-compute \
  ./services/ingest/cmd/lacre-ingest ./services/approval/cmd/lacre-approval
