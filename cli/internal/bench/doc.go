// Package bench is the measuring stick: it founds a fresh network, runs every
// node as a process of its own, loads it as meters would, and says truthfully
// what came of it and what it cost.
//
// Source: issue "Prove the spine", point 7; Gil Tene's HdrHistogram and his
// "How NOT to Measure Latency" for coordinated omission; proc(5).
//
// What is done by whom is what architecture.md says: mTLS with a key for each
// meter, every signature checked by every party, every fsync done. Only the
// meter's own outbox on disk is left out: hundreds of meters would share one disk
// that in the field each has to itself. The load generator signs and verifies
// with the SDK's code (package meter), in memory.
//
// Invariants:
//   - A measurement counts only when its receipt verified, and its endorsement
//     set too. Each certificate's and each set's signatures are computed once.
//   - Every measurement that was begun ends as certified, refused or lost; lost
//     or refused ones fail the run. After the load the ledger is read and
//     compared with what was acknowledged.
//   - In an open loop latency counts from the moment when the measurement should
//     have been sent, so a stalled system cannot hide its stalls (coordinated
//     omission).
//   - Simulation and preparation are over before the clock starts.
//   - The processes that it started end with it, by their own ids; on Linux also
//     when it is killed.
package bench
