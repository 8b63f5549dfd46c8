// Package audit is the auditor: it replays a whole ledger through the one
// transition, compares its tree with certificates, and runs the approved
// modules again on the raw vectors. What does not hold is a finding, and a
// finding names whom it exposes.
//
// Source: architecture, "Threats" (enough endorsers collude: audit re-executes
// the raw vector and names them), rules S1 to S6 and C4 to C6, "Storage" (an
// absent raw vector is DATA_LOSS unless a decision on the ledger lets it go); the
// paper's fourth attack.
//
// Invariants:
//   - Blocks are judged by core/state's Replay alone, the transition that the
//     replicas run. The audit trusts the trust bundle and nothing of the source:
//     a source that lies can cause findings, never hide them.
//   - A result is compared in all that the claim says: input digest, fuel used,
//     result bytes.
//   - Memory is bounded by the state, a reference for each block and the queue
//     of re-executions, not by the number of records.
//   - A report is a function of the ledger, the trust bundle, the options and
//     the seed; workers and their order do not show in it.
//
// It reads the clock for nothing but the sandbox's budget of cross-checks.
package audit
