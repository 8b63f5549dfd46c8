#!/usr/bin/env bash
# What a replica does whose disk is really full, and whose file system really turns read-only under it: one of four has its
# directory on an ext4 of its own, in a mount namespace of this script's. While it waits, the others give every vehicle its
# receipt, and `lacre status` names it with the cause; with room, or mounted anew, it goes on by itself, in the same process.
# It fails loudly with the line that did not hold. docs/operating.md, services/ledger/DESIGN.md.
#
#   deploy/disk.sh DIR    # directory of the binaries. Needs root, loop devices and e2fsprogs
set -euo pipefail

if [ -z "${IN_NAMESPACE:-}" ]; then
  [ "$(id -u)" -eq 0 ] || { echo "mounting needs root" >&2; exit 1; }
  IN_NAMESPACE=1 exec unshare --mount --propagation private "$0" "$@" # its mounts end with it, however it ends
fi

bin=$(realpath "$1")
lacre=$bin/lacre
work=$(mktemp -d)
declare -A process # node -> process id: only what this script started
say() { printf '\n== %s (%d s)\n' "$*" "$SECONDS"; }

finish() {
  status=$?
  trap - EXIT ERR
  for node in "${!process[@]}"; do kill -KILL "${process[$node]}" 2>/dev/null || true; done
  wait 2>/dev/null
  umount "$disk" 2>/dev/null || true
  if [ "$status" -eq 0 ]; then
    rm -rf "$work"
    echo "all of it held, $SECONDS s"
  else
    echo "FAILED (exit $status); everything is kept in $work, but what was on the disk" >&2
    for log in "$work"/*.log; do [ -s "$log" ] && { echo "--- $log" >&2; tail -n 3 "$log" >&2; }; done
  fi
  exit "$status"
}
disk=$work/net/nodes/replica-university
trap 'echo "line $LINENO: $BASH_COMMAND" >&2' ERR
trap finish EXIT
cd "$work"
quietly() { "$@" >said 2>&1 || { tail -n 20 said >&2; return 1; }; }
until_holds() { # until_holds WHAT COMMAND...: asks again until it holds, for 20 s
  local what=$1 end=$((SECONDS + 20))
  shift
  until "$@" >said 2>&1; do
    [ "$SECONDS" -lt "$end" ] || { tail -n 20 said >&2; echo "$what: not within 20 s" >&2; return 1; }
    read -rt 0.2 <> <(:) || true
  done
  echo "$what"
}

say "1. a network, each node a process"
"$lacre" dev --dir net >dev.log 2>&1 &
process[dev]=$!
until_holds "founded" grep -q '^ready' dev.log
kill -TERM "${process[dev]}"
wait "${process[dev]}"
unset 'process[dev]'
truncate -s 8G image # sparse: what is not written takes no room here
mkfs.ext4 -q image
mkdir copy
cp -a "$disk/." copy
mount -o loop image "$disk"
cp -a copy/. "$disk"
for config in net/nodes/*/config.yaml; do
  node=$(basename "$(dirname "$config")")
  case $node in
  replica-*) program=lacre-ledger ;;
  endorser-*) program=lacre-compute ;;
  gateway*) program=lacre-ingest ;;
  approval*) program=lacre-approval ;;
  esac
  "$bin/$program" -config "$config" >>"$node.log" 2>&1 &
  process[$node]=$!
done
quietly "$lacre" network wait net

say "2. an algorithm is approved, a meter registered"
quietly "$lacre" module test --out report.json
quietly "$lacre" approval draft --network net --test-report report.json --out approval.json
quietly "$lacre" approval sign approval.json --key net/keys/notified-body.pem --key net/keys/example-manufacturer.pem \
  --digest "$("$lacre" approval show approval.json --digest)" --out approval.dsse
quietly "$lacre" approval submit approval.dsse --network net
quietly "$lacre" module install speed --network net
quietly "$lacre" meter keygen north --network net
quietly "$lacre" meter register north --network net --key net/keys/notified-body.pem

seed=0
pass() { # pass NUMBER: vehicles pass, and each gets its receipt
  seed=$((seed + 1))
  quietly "$lacre" meter simulate north --network net --passes "$1" --seed "$seed"
}
says() { ! "$lacre" status --network net >status.said && grep -Eq "$1" status.said; } # a problem, with its exit code
notices() { pass 60 && says '^fail +replica-university +ready +its disk takes no writes'; } # blocks that the file system set aside for a file are filled too
waits() { # waits CAUSE: the replica says so in lacre status and in its log, and its process lives
  until_holds "lacre status names the replica" notices
  until_holds "its log says what helps" grep -Eq "the disk takes no writes.*$1.*remedy" replica-university.log
  for _ in 1 2; do pass 3; done
  echo "the others go on: 6 more vehicles have their receipts"
  kill -0 "${process[replica-university]}"
}
returns() {
  until_holds "it is ready again, in the same process" "$lacre" network wait net replica-university --timeout 2s
  kill -0 "${process[replica-university]}"
  pass 3
  until_holds "lacre status has nothing to say" "$lacre" status --network net
}
pass 3

say "3. its disk is full"
fallocate -l "$(($(df --output=avail -B1 "$disk" | tail -n 1) - (64 << 20)))" "$disk/ballast"
for _ in 1 2 3; do # what ext4 had set aside for its own tables comes back with each sync
  dd if=/dev/zero of="$disk/filler" bs=64K oflag=append conv=notrunc 2>/dev/null || true # ends with the disk's space
  sync -f "$disk"
done
waits 'no space left on device'
rm "$disk/filler" "$disk/ballast"
returns

say "4. its file system turns read-only, as ext4 does after an error"
mount -o remount,abort "$disk"
waits 'read-only file system'
umount "$disk" # it holds nothing open while it waits
e2fsck -fy image >said 2>&1 || [ $? -eq 1 ] # 1: errors were corrected
mount -o loop image "$disk"
returns

say "5. it has the ledger of the others"
kill -TERM "${process[replica-university]}"
wait "${process[replica-university]}"
unset 'process[replica-university]'
quietly "$lacre" audit --network net --from "$disk/data"
sed -n '$p' said
[ "$(grep -c 'the disk takes no writes' replica-university.log)" -eq 2 ]
