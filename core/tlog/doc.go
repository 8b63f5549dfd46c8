// Package tlog is the transparency log's formats and arithmetic: checkpoints,
// cosignatures, certificates, policies, proofs, and RFC 6962 Merkle trees.
//
// Sources: C2SP signed-note, tlog-checkpoint, tlog-cosignature (Ed25519,
// cosignature/v1), tlog-policy and tlog-proof (v1); RFC 6962 section 2.1. The
// Merkle arithmetic is github.com/transparency-dev/merkle.
//
// We write a subset of these formats and accept only what we write (rule B2):
// every parser bounds the size first, then reads, encodes again and compares.
// So one meaning has one byte string, and no bit of a certificate can change
// without being refused. Other people's tools read what we write; we do not
// read everything they may write. The subset:
//   - names (origins, key names) are printable ASCII without space and plus;
//   - checkpoints have no extension lines;
//   - a certificate has one log signature (0x01), whose name is the origin, and
//     then cosignatures (0x04) in ascending order of distinct names;
//   - a policy has no comments, URLs or spare spaces; its log lines, witness
//     lines and group lines come in this order, logs and witnesses sorted.
//
// Invariants:
//   - Parsing proves form only. Trust comes from Policy.Check.
//   - Nothing here reads a clock, draws randomness (but for signing) or does I/O.
package tlog
