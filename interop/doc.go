// Package interop holds tests only: other projects' libraries read what this
// one writes. They are filippo.io/torchwood (checkpoints, cosignatures, proofs,
// policies, tiles) and golang.org/x/mod/sumdb (signed notes, Merkle trees).
//
// Source: C2SP signed-note, tlog-checkpoint, tlog-cosignature, tlog-proof,
// tlog-policy and tlog-tiles, as those libraries understand them.
//
// Invariants:
//   - Nothing of this repository is imported: a fault of ours that reads its own
//     writing as good would not show otherwise.
//   - Nothing is skipped: without the vectors or the binary the tests fail.
package interop
