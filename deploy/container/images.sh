#!/usr/bin/env bash
# Builds an image of each program: lacre-ledger, lacre-compute, lacre-ingest, lacre-approval and lacre, FROM scratch.
#
#   deploy/container/images.sh DIR [TAG, default latest]    # DIR holds the static binaries (make build)
set -euo pipefail

bin=$(realpath "$1")
tag=${2:-latest}
here=$(realpath "$(dirname "$0")")
export DOCKER_BUILDKIT=0 # the classic builder: nothing to fetch, nothing to install
said=$(mktemp)
trap 'rm -f "$said"' EXIT

docker version --format 'engine {{.Server.Version}}' || {
  echo "no container engine answers: start it, or let this user reach its socket" >&2
  exit 1
}
for program in lacre-ledger lacre-compute lacre-ingest lacre-approval lacre; do
  if LC_ALL=C grep -q -a -F /lib64/ld-linux "$bin/$program"; then # the image has no loader to run it with
    echo "$bin/$program is linked dynamically: CGO_ENABLED=0 make build" >&2
    exit 1
  fi
  tar -c -C "$here" Dockerfile -C "$bin" "$program" |
    docker build --quiet --build-arg "PROGRAM=$program" --tag "$program:$tag" - >"$said" 2>&1 || {
    cat "$said" >&2 # among it that the classic builder is an old one
    exit 1
  }
  docker image inspect --format '{{index .RepoTags 0}}  {{.Size}} bytes, user {{.Config.User}}, {{len .RootFS.Layers}} layer' "$program:$tag"
done
