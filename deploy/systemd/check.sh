#!/usr/bin/env bash
# Starts every unit of this directory under a real systemd: it boots the machine's own systemd as process 1 of namespaces
# of its own (its own root directory, network, processes and control groups), founds a network of one organisation there with
# the commands of docs/operate.md, and runs its replica, endorser, gateway and approval service as units: they measure, one
# is killed and restarted, one ends with exit code 2 and one with 4 and neither is restarted, all stop cleanly.
# Needs root, systemd and util-linux; nothing of the machine is changed, and all of it is gone at the end.
#
#   deploy/systemd/check.sh DIR    # DIR holds the static binaries (make build)
set -euo pipefail

bin=$(realpath "$1")
here=$(realpath "$(dirname "$0")")
[ "$(id -u)" -eq 0 ] || { echo "only root can make namespaces with a systemd in them" >&2; exit 1; }
[ -x /usr/lib/systemd/systemd ] || { echo "no systemd is installed" >&2; exit 1; }
work=$(mktemp -d)
say() { printf '\n== %s (%d s)\n' "$*" "$SECONDS"; }

finish() {
  status=$?
  trap - EXIT ERR INT TERM
  if [ "$status" -ne 0 ] && [ -n "${machine_init[solo]:-}" ]; then inside journalctl --no-pager --lines 40 --output cat >&2 || true; fi
  machines_gone
  rm -rf "$work"
  if [ "$status" -eq 0 ]; then echo "all of it held, $SECONDS s"; else echo "FAILED (exit $status), $SECONDS s" >&2; fi
  exit "$status"
}
trap 'echo "line $LINENO: $BASH_COMMAND" >&2' ERR
trap finish EXIT
trap 'exit 130' INT TERM

. "$here/machine.sh"
inside() { on solo "$@"; }

say "1. systemd boots"
boot solo
for program in "$bin"/lacre "$bin"/lacre-*; do inside install -m 0755 /dev/stdin "/usr/local/bin/$(basename "$program")" <"$program"; done
inside systemctl --version | head -n 1

say "2. users and units are installed and judged"
inside tee /etc/sysusers.d/lacre.conf <"$here/lacre.sysusers" >/dev/null
inside systemd-sysusers 2>"$work/said"
for unit in "$here"/*.service; do inside tee "/etc/systemd/system/$(basename "$unit")" <"$unit" >/dev/null; done
inside systemctl daemon-reload
units=(lacre-ledger@replica-solo lacre-compute@endorser-solo lacre-ingest@gateway-solo lacre-approval@approval-solo)
for unit in "${units[@]}"; do
  file=/etc/systemd/system/${unit%@*}@.service
  inside systemd-analyze verify --man=no "$file"
  inside systemd-analyze security --offline=true --threshold=15 --no-pager "$file" | tail -n 1
done

say "3. one organisation founds a network, offline"
inside bash -euo pipefail >"$work/said" 2>&1 <<'FOUND' || { cat "$work/said" >&2; exit 1; }
install -d -m 0755 /var/lib/lacre
lacre init /var/lib/lacre --organisation solo --replica 127.0.0.1 --endorser 127.0.0.1 --gateway 127.0.0.1 --approval 127.0.0.1
chmod 0711 /var/lib/lacre/nodes
lacre key new maker.pem
key=$(lacre key new inspection.pem | sed -n 's/^public key *//p')
lacre network draft /var/lib/lacre/*.member --name solo.example --notified-body "inspection=$key" --out draft
lacre network sign draft --key /var/lib/lacre/keys/solo.pem --member /var/lib/lacre/solo.member --out solo.sig
lacre network assemble draft solo.sig --out network
lacre init /var/lib/lacre --network network
FOUND

say "4. four units start, and measure"
inside systemctl start "${units[@]}"
inside lacre network wait /var/lib/lacre
inside bash -euo pipefail >"$work/said" 2>&1 <<'MEASURE' || { cat "$work/said" >&2; exit 1; }
network=/var/lib/lacre
lacre module test --out report.json
lacre approval draft --network $network --notified-body inspection --manufacturer-key maker.pem --test-report report.json --require 1 --of solo --out approval.json
lacre approval sign approval.json --key inspection.pem --digest "$(lacre approval show approval.json --digest)" --out half.dsse
lacre approval sign half.dsse --key maker.pem --digest "$(lacre approval show half.dsse --digest)" --out approval.dsse
lacre approval submit approval.dsse --network $network
lacre module install speed --network $network
lacre meter keygen north --network $network
lacre meter register north --network $network --key inspection.pem
lacre meter simulate north --network $network --passes 5
MEASURE
for unit in "${units[@]}"; do
  user=$(inside ps -o user:32= -p "$(inside systemctl show --property MainPID --value "$unit")")
  [ "$user" = "${unit%@*}" ] || { echo "$unit runs as $user, want ${unit%@*}" >&2; exit 1; }
done

shown() { inside systemctl show --property "$2" --value "$1"; } # shown UNIT PROPERTY
until_shown() { # until_shown UNIT PROPERTY VALUE
  local begin=$SECONDS
  until [ "$(shown "$1" "$2")" = "$3" ]; do
    if [ $((SECONDS - begin)) -ge 40 ]; then
      echo "$1: $2 is $(shown "$1" "$2"), want $3" >&2
      exit 1
    fi
    sleep 0.2
  done
}

say "5. the replica is killed, and restarted by systemd"
inside systemctl kill --signal SIGKILL lacre-ledger@replica-solo
until_shown lacre-ledger@replica-solo NRestarts 1
inside lacre network wait /var/lib/lacre
inside lacre meter simulate north --network /var/lib/lacre --passes 3 --seed 9 >"$work/said" 2>&1 || { cat "$work/said" >&2; exit 1; }

say "6. a wrong configuration: exit code 2, not restarted"
config=/var/lib/lacre/nodes/approval-solo/config.yaml
inside bash -c "echo 'nonsense: 1' >>$config"
inside systemctl restart lacre-approval@approval-solo || true # the unit is up when the program runs
until_shown lacre-approval@approval-solo ActiveState failed
until_shown lacre-approval@approval-solo ExecMainStatus 2
until_shown lacre-approval@approval-solo NRestarts 0
inside sed -i '$d' "$config"
inside systemctl start lacre-approval@approval-solo
inside lacre network wait /var/lib/lacre

say "7. all stop cleanly"
inside systemctl stop "${units[@]}"
for unit in "${units[@]}"; do until_shown "$unit" Result success; until_shown "$unit" ExecMainStatus 0; done

say "8. a damaged replica: exit code 4, not restarted"
inside bash -c 'printf X | dd of="$(ls /var/lib/lacre/nodes/replica-solo/data/store/segments/* | head -n 1)" bs=1 seek=200 conv=notrunc status=none'
inside systemctl start lacre-ledger@replica-solo || true
until_shown lacre-ledger@replica-solo ActiveState failed
until_shown lacre-ledger@replica-solo ExecMainStatus 4
until_shown lacre-ledger@replica-solo NRestarts 0
