#!/usr/bin/env bash
# Calls every service's read methods with buf curl and server reflection alone, as a stranger would: no certificate, no
# proto files. Usage: tools/curl.sh LACRE BUF
set -euo pipefail
lacre=$(realpath "$1")
buf=$(realpath "$2")
dir=$(mktemp -d)
log=$dir/dev.log
"$lacre" dev --dir "$dir/network" >"$log" 2>&1 &
network=$!
trap 'kill -INT $network 2>/dev/null || true; wait $network 2>/dev/null || true; rm -rf "$dir"' EXIT
for _ in $(seq 300); do
  grep -q '^ready' "$log" && break
  kill -0 $network 2>/dev/null || { cat "$log" >&2; exit 1; }
  sleep 0.2 # a shell has nothing else to wait with
done
grep -q '^ready' "$log" || { echo "the network was not ready within a minute" >&2; cat "$log" >&2; exit 1; }

address() { sed -nE "s/^  $1 +[a-z-]+ +([0-9.:]+) .*/\1/p" "$log"; }
count=0
call() { # call NODE SERVICE/METHOD JSON EXPECTED
  local answer
  answer=$("$buf" curl --insecure --protocol grpc -d "$3" "https://$(address "$1")/$2" 2>&1) || true
  if ! grep -q -- "$4" <<<"$answer"; then
    echo "$2 at $1 answered without $4:" >&2
    echo "$answer" >&2
    exit 1
  fi
  echo "$2 at $1: ok"
  count=$((count + 1))
}

ledger=lacre.ledger.v1.LedgerService
call replica-authority $ledger/GetStatus '{}' nodeId
call replica-institute $ledger/GetCheckpoint '{}' certificate
call replica-operator $ledger/GetTrust '{}' trust
call replica-university $ledger/GetRecord '{"index":0}' proof
call replica-authority $ledger/GetConsistencyProof '{"fromSize":1,"toSize":2}' proof
call replica-authority $ledger/StreamBlocks '{"stopAtHead":true}' leaves
call replica-authority $ledger/GetMeter '{"meterId":"nobody"}' NOT_FOUND
call replica-authority $ledger/ListMeters '{}' '{'
call replica-authority $ledger/ListMeasurements '{"meterId":"nobody"}' NOT_FOUND
call replica-authority $ledger/GetReceipt '{"measurement":{"meterId":"nobody","counter":1}}' NOT_FOUND
call replica-authority $ledger/GetBundle '{"measurement":{"meterId":"nobody","counter":1}}' NOT_FOUND
call replica-authority $ledger/Submit '{"records":["AA=="]}' PERMISSION_DENIED
call endorser-institute lacre.compute.v1.ComputeService/ListAlgorithms '{}' '{}'
call gateway lacre.ingest.v1.IngestService/GetHead '{}' proof
call gateway lacre.evidence.v1.EvidenceService/Stat '{"digests":["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]}' STANDING_ABSENT
call approval lacre.approval.v1.ApprovalService/GetSubject '{"subject":"network"}' networkId
call approval lacre.approval.v1.ApprovalService/ListApprovals '{}' '{'
call approval lacre.approval.v1.ApprovalService/ListMeters '{}' '{'
echo "$count calls through reflection"
