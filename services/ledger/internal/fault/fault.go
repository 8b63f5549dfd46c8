// Package fault is where the robustness suite (cli/tests/robustness) reaches into
// a replica. Without the build tag "robustness", which nothing that ships is built
// with, every function here does nothing and compiles to nothing: Built is false.
//
// Source: architecture, "Layout" (cli/tests/robustness); etcd's failpoints.
//
// Invariants:
//   - No function changes anything in a program without the tag.
//   - With it, nothing happens either before the suite asks for it, over the
//     socket that LACRE_FAULT_SOCKET names or in LACRE_FAULTS at the start.
package fault

// Step is something that a replica does, before or after which it can be struck.
type Step string

// The steps of a block's way, in their order.
const (
	Append   Step = "append"   // entries to the ordering log
	LogWrite Step = "logwrite" // bytes to a file of the ordering log
	LogSync  Step = "logsync"  // fsync of one
	Term     Step = "term"     // Raft's term, or the term of its vote
	Apply    Step = "apply"    // a batch of entries
	Cosign   Step = "cosign"   // a block
	Write    Step = "write"    // bytes to a segment file
	Sync     Step = "sync"     // fsync of one
	Commit   Step = "commit"   // the transaction of bbolt
	Publish  Step = "publish"  // a cosignature to the peers
	Certify  Step = "certify"  // certificates to disk
	Reply    Step = "reply"    // to whoever submitted
)

// Steps are all of them.
func Steps() []Step {
	return []Step{Append, LogWrite, LogSync, Term, Apply, Cosign, Write, Sync, Commit, Publish, Certify, Reply}
}

// Lie is a way in which a Byzantine replica differs from an honest one.
type Lie string

// The lies that a replica of the suite can tell.
const (
	Equivocate Lie = "equivocate"  // as the leader: sends one follower other entries than the rest
	HigherTerm Lie = "higher-term" // asks for votes in terms that nobody reached
	BadCosign  Lie = "bad-cosign"  // its cosignatures do not verify
	DoubleSign Lie = "double-sign" // cosigns another root too, for one peer
	Withhold   Lie = "withhold"    // as the leader: proposes without new certificates; gives its cosignature to nobody
	Duplicate  Lie = "duplicate"   // sends the leader's messages again, later: twice and in another order
	OldCosigns Lie = "old-cosigns" // sends each cosignature again behind the next: twice and in the wrong order
)

// Lies are all of them.
func Lies() []Lie {
	return []Lie{Equivocate, HigherTerm, BadCosign, DoubleSign, Withhold, Duplicate, OldCosigns}
}
