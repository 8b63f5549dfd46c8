// Package state is the one transition of the ledger: what a block's
// submissions make of the state before it. Replicas, recovery, followers and
// auditors all call this one.
//
// Source: architecture, "Rules": certification C4 to C6, state S1 to S6, bytes
// B1, B3 and B4; proto/lacre/{record,state,replica}/v1.
//
// A block is made in three steps: Begin checks the certificate and fixes the
// block's time; Submit decides submissions one after the other and says what
// became of each record; Seal gives the leaves, the header last, and the state
// writes. The host appends the leaf hashes to its tree and fills in the root.
//
// Invariants:
//   - Pure: no clock, no randomness, no I/O but the View, no order of a map,
//     no floats. The same view and the same calls give the same bytes.
//   - A refused record leaves no trace: it writes nothing and is no leaf.
//   - Leaves are the exact bytes that were submitted; nothing is re-encoded.
//   - An error (not an outcome) means that the view could not be read or holds
//     what no transition wrote. The block is then void and the node stops.
//   - Certificates, capture times and statements are judged by what stands in
//     the state and in the proposal, never by when or where it is computed.
package state
