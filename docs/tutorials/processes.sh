# To be sourced: four organisations whose nodes run as nine processes on loopback ports of this machine. founding.sh and
# deploy/rolling.sh share it. LACRE_PORTS may list 22 free ports; otherwise free ones are looked for.

organisations=(authority institute operator university)
declare -A roles=([authority]="replica approval" [institute]="replica endorser" [operator]="replica endorser gateway" [university]="replica endorser")
nodes=(replica-authority replica-institute replica-operator replica-university
  endorser-institute endorser-operator endorser-university gateway-operator approval-authority)
home() { echo "${1##*-}"; } # a node's organisation, and the organisation's directory

# Ports. A port is taken for free when nobody answers there.
read -r -a ports <<<"${LACRE_PORTS:-}"
while [ "${#ports[@]}" -lt 22 ]; do
  port=$((20000 + RANDOM % 12000)) # below those that the system hands out
  if [[ " ${ports[*]} " != *" $port "* ]] && ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then ports+=("$port"); fi
done
next=0
port() { # sets $port to the next one
  port=${ports[$next]}
  next=$((next + 1))
}

declare -A process # node -> process id: only what was started here
start() { # start NODE BINARIES: its own program, its own configuration file
  case $1 in
  replica-*) program=lacre-ledger ;;
  endorser-*) program=lacre-compute ;;
  gateway-*) program=lacre-ingest ;;
  approval-*) program=lacre-approval ;;
  esac
  "$2/$program" -config "$(home "$1")/nodes/$1/config.yaml" >>"$1.log" 2>&1 &
  process[$1]=$!
}
kill_all() { # at the end, whatever still runs
  for node in "${!process[@]}"; do kill -KILL "${process[$node]}" 2>/dev/null || true; done
  wait 2>/dev/null
}
tell_logs() { # why: the last lines of every node's log
  for log in "$work"/*.log; do
    if [ -s "$log" ]; then
      echo "--- $log" >&2
      tail -n 5 "$log" >&2
    fi
  done
}
