#!/usr/bin/env bash
# Four empty machines become a network, measure, and live through the loss of one with its disk, by the commands of
# docs/operate.md as they stand there: this script takes them from the page, and only carries files from machine to
# machine. A machine is a set of namespaces with a systemd of its own (deploy/systemd/machine.sh), joined to the others by
# a bridge that is in a namespace too. Needs root, systemd, util-linux and iproute2; nothing of this machine is changed, and
# all of it is gone at the end.
#
#   deploy/machines.sh DIR    # DIR holds the static binaries (make build)
set -euo pipefail

bin=$(realpath "$1")
here=$(realpath "$(dirname "$0")")
page=$here/../docs/operate.md
[ "$(id -u)" -eq 0 ] || { echo "only root can make namespaces with a systemd in them" >&2; exit 1; }
[ -x /usr/lib/systemd/systemd ] || { echo "no systemd is installed" >&2; exit 1; }
work=$(mktemp -d)
say() { printf '\n== %s (%d s)\n' "$*" "$SECONDS"; }
organisations=(authority institute operator university)

finish() {
  status=$?
  trap - EXIT ERR INT TERM
  if [ "$status" -ne 0 ]; then
    for o in "${!machine_init[@]}"; do
      echo "--- $o" >&2
      on "$o" journalctl --no-pager --lines 12 --output cat >&2 || true
    done
  fi
  machines_gone
  if [ -n "${switch:-}" ]; then kill -KILL "$switch" 2>/dev/null || true; fi
  rm -rf "$work"
  if [ "$status" -eq 0 ]; then echo "all of it held, $SECONDS s"; else echo "FAILED (exit $status), $SECONDS s" >&2; fi
  exit "$status"
}
trap 'echo "line $LINENO: $BASH_COMMAND" >&2' ERR
trap finish EXIT
trap 'exit 130' INT TERM
. "$here/systemd/machine.sh"

# The switch: a bridge in a network namespace of its own.
unshare --net sleep infinity &
switch=$!
disown
until [ "$(readlink "/proc/$switch/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
in_switch() { nsenter --target "$switch" --net "$@"; }
in_switch ip link add lan type bridge
in_switch ip link set lan up

address() { # the address of an organisation's machine
  local i
  for i in "${!organisations[@]}"; do [ "${organisations[$i]}" != "$1" ] || echo "10.77.0.$((i + 1))"; done
}
new_machine() { # new_machine ORGANISATION: boots, is plugged in, and knows the others' names
  boot "$1"
  in_switch ip link add "$1" type veth peer name eth0 netns "${machine_init[$1]}"
  in_switch ip link set "$1" master lan up
  on "$1" ip address add "$(address "$1")/24" dev eth0
  on "$1" ip link set eth0 up
  for o in "${organisations[@]}"; do
    echo "$(address "$o") ledger.$o.example compute.$o.example ingest.$o.example approval.$o.example"
  done | on "$1" tee /etc/hosts >/dev/null
}

block() { # block HEADING N: the Nth sh block of the page below a heading
  awk -v heading="$1" -v n="$2" '
    /^#/ && !open { found = ($0 == heading) }
    /^```sh$/ { open = 1; if (found) seen++; next }
    /^```$/ { open = 0; next }
    open && found && seen == n { print; any = 1 }
    END { if (!any) { print "the page has no block " n " below " heading > "/dev/stderr"; exit 1 } }' "$page"
}
run() { # run ORGANISATION HEADING N: the lines of a block that are for it
  local text
  text=$(block "$2" "$3" | sed -E "/# at the /{/# at the $1\$/!d}")
  [ -n "$text" ] || return 0
  on "$1" env ORG="$1" ID="${id:-}" PIN="${pin:-}" bash -euo pipefail -c "$text" >"$work/said-$1" 2>&1 ||
    { echo "at the $1:" "$text" >&2; cat "$work/said-$1" >&2; return 1; }
}
everywhere() { for o in "${organisations[@]}"; do run "$o" "$@"; done; }
at_once() { # everywhere, at all machines at one time
  local started=() o
  for o in "${organisations[@]}"; do run "$o" "$@" & started+=($!); done
  for o in "${started[@]}"; do wait "$o"; done
}
carry() { # carry FROM TO FILE...: from one machine's home to another's; "." is this machine
  local from=$1 to=$2
  shift 2
  { if [ "$from" = . ]; then tar -C "$work" -cf - "$@"; else on "$from" tar -cf - "$@"; fi; } |
    if [ "$to" = . ]; then tar -C "$work" -xf -; else on "$to" tar -xf -; fi
}
to_others() { # to_others FROM FILE...
  local from=$1 o
  shift
  for o in "${organisations[@]}"; do [ "$o" = "$from" ] || carry "$from" "$o" "$@"; done
}

say "1. four machines boot"
started=()
for o in "${organisations[@]}"; do
  new_machine "$o" # one after the other: what they know of each other is in this shell
done

say "2. programs"
mkdir "$work/build"
ln -s "$bin" "$work/build/bin"
ln -s "$here" "$work/build/deploy"
(cd "$work/build" && bash -euo pipefail -c "$(block '## 2. Programs' 1 | sed '/^make build$/d')")
mv "$work/build/lacre.tar" "$work/lacre.tar"
for o in "${organisations[@]}"; do carry . "$o" lacre.tar; done
at_once '## 2. Programs' 2

say "3. founding"
everywhere '## 3. Founding' 1
for o in "${organisations[@]}"; do [ "$o" = authority ] || carry "$o" authority "$o.member"; done
run authority '## 3. Founding' 2
to_others authority draft
everywhere '## 3. Founding' 3
id=$(awk '$1 == "id" {print $2}' "$work/said-institute")
for o in "${organisations[@]}"; do
  [ "$(awk '$1 == "id" {print $2}' "$work/said-$o")" = "$id" ] # by telephone
  [ "$o" = authority ] || carry "$o" authority "$o.sig"
done
run authority '## 3. Founding' 4
pin=$(awk '$1 == "trust" {print $3}' "$work/said-authority")
to_others authority network
at_once '## 3. Founding' 5
at_once '## 3. Founding' 6
everywhere '## 3. Founding' 7
mkdir "$work/safes"
for o in "${organisations[@]}"; do
  carry "$o" . safe.tar
  mv "$work/safe.tar" "$work/safes/$o.tar"
  on "$o" rm safe.tar
done

say "4. measuring"
run authority '## 4. Measuring' 1
run operator '## 4. Measuring' 2
carry operator authority north.json
run authority '## 4. Measuring' 3
run operator '## 4. Measuring' 4
carry operator university receipt
everywhere '## 4. Measuring' 5
grep -v '^ok ' "$work/said-university"

say "5. the institute's machine is lost, with its disk; the others go on"
lose institute
on operator lacre meter simulate north --passes 3 --seed 5 --network /var/lib/lacre >"$work/said" 2>&1 || { cat "$work/said" >&2; exit 1; }
echo "3 vehicles have their receipts ($SECONDS s)"
if on operator lacre status --network /var/lib/lacre >"$work/said" 2>&1; then
  echo "status finds nothing wrong without the institute" >&2
  exit 1
fi
grep -E 'replica-institute.*SILENT|SILENT.*replica-institute' "$work/said"

say "6. a new machine takes its place"
new_machine institute
carry . institute lacre.tar
run institute '## 2. Programs' 2
carry authority institute network
to_safe() { cp "$work/safes/$1.tar" "$work/safe.tar" && carry . "$1" safe.tar; }
to_safe institute
run institute '### Replacing it' 1
to_others institute replica-institute-2.member endorser-institute-2.member
for o in authority operator university; do run "$o" '### Replacing it' 2; done
run institute '### Replacing it' 3
carry institute operator swap-1.dsse
to_safe operator
run operator '### Replacing it' 4
carry operator university swap-2.dsse
to_safe university
run university '### Replacing it' 5
everywhere '### Replacing it' 6
grep -A 6 answer "$work/said-institute"

say "7. and it measures, with the new endorser too"
on operator lacre meter simulate north --passes 5 --seed 9 --network /var/lib/lacre >"$work/said" 2>&1 || { cat "$work/said" >&2; exit 1; }
on institute lacre audit --network /var/lib/lacre >"$work/said" 2>&1 || { cat "$work/said" >&2; exit 1; }
tail -n 1 "$work/said"
