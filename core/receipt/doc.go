// Package receipt is the one verifier of what the ledger gives out: receipts,
// which prove that a measurement is certified, and bundles, which prove that
// its result was endorsed and can be computed again.
//
// Sources: C2SP tlog-proof (v1) for receipts; architecture, "A receipt", "A
// bundle", rules B1 to B3; proto/lacre/record/v1/bundle.proto; WELMEC 7.2 L6
// as metrology.md words it (secondary source): the verifier displays, checks,
// warns.
//
// Invariants:
//   - A receipt is the canonical tlog-proof of a Measurement leaf; its extra
//     data is the record. No bit of it can change without being refused (rule
//     B2).
//   - Nothing in a bundle is trusted. Each item has a digest that the certified
//     leaf names, or an inclusion proof to the receipt's checkpoint, and where
//     it can it has both.
//   - A report lists the same steps in the same order, whatever failed: what
//     could not be judged is undecidable, never left out and never verified.
//   - Pure: no clock and no I/O, so a verdict given today is given for ever.
//     Modules run through a Runner that the caller brings.
//
// What a verified receipt does not prove, and no text here may claim: that the
// sensor saw the truth, that the meter's clock was right, that the ledger has
// nothing newer to say (a revocation, a broken seal), or that any legal
// requirement is met.
package receipt
