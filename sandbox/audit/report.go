package audit

import (
	"fmt"
	"strings"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/receipt"
)

// Kind names what an audit found.
type Kind string

// The kinds of findings.
const (
	// InvalidBlock: a leaf or the header is not what the transition makes:
	// altered, or certified by replicas that did not validate. Names the cosigners
	// when the block is certified as it stands.
	InvalidBlock Kind = "INVALID_BLOCK"
	// MissingBlock: the source's blocks have a gap.
	MissingBlock Kind = "MISSING_BLOCK"
	// WrongNetwork: the ledger is not the trust bundle's.
	WrongNetwork Kind = "WRONG_NETWORK"
	// BadCertificate: a certificate that the trust bundle refuses, or of another size.
	BadCertificate Kind = "BAD_CERTIFICATE"
	// WrongRoot: the trust bundle accepts the certificate, and the leaves lead to
	// another root: they were altered, or the cosigners certified two trees.
	WrongRoot Kind = "WRONG_ROOT"
	// Uncertified: no certificate covers the newest blocks. Undecidable.
	Uncertified Kind = "UNCERTIFIED"
	// DataLoss: a raw vector is absent, and no recorded decision lets it go. Undecidable
	// where the audit ended before the newest block.
	DataLoss Kind = "DATA_LOSS"
	// RawVectorAltered: a raw vector has not the digest that the meter signed.
	RawVectorAltered Kind = "RAW_VECTOR_ALTERED"
	// WrongInput: the claim names another input than vector and registration give.
	WrongInput Kind = "WRONG_INPUT"
	// WrongResult: the module gives other result bytes than the endorsers signed.
	WrongResult Kind = "WRONG_RESULT"
	// WrongFuel: the module uses other fuel than the endorsers signed.
	WrongFuel Kind = "WRONG_FUEL"
	// EngineDivergence: compiler and interpreter differed here; the
	// interpreter's result was compared. Undecidable: it is our engine's fault.
	EngineDivergence Kind = "ENGINE_DIVERGENCE"
	// ModuleUnavailable: a module that is not at hand or breaks the profile, so
	// nothing of it was re-executed. Undecidable.
	ModuleUnavailable Kind = "MODULE_UNAVAILABLE"
	// ModuleWithheld: the approval withholds the module, so that only the notified
	// body, or whoever it lends the escrowed copy, re-executes. Undecidable.
	ModuleWithheld Kind = "MODULE_WITHHELD"
)

// Finding is one thing that does not hold, with both sides.
type Finding struct {
	Kind      Kind               `json:"kind"`
	Verdict   receipt.Verdict    `json:"verdict"` // refuted or undecidable
	Height    uint64             `json:"height"`
	Index     uint64             `json:"index"` // of the leaf in the log; of the block's first for a block
	Meter     string             `json:"meter,omitempty"`
	Counter   uint64             `json:"counter,omitempty"`
	Endorsers []receipt.Endorser `json:"endorsers,omitempty"` // who signed the wrong claim
	Cosigners []string           `json:"cosigners,omitempty"` // who certified what does not hold
	Detail    string             `json:"detail"`
	Claimed   string             `json:"claimed,omitempty"` // what stands on the ledger
	Found     string             `json:"found,omitempty"`   // what the audit found
}

// String is the finding as one line.
func (f Finding) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s at height %d, record %d", f.Kind, f.Height, f.Index)
	if f.Meter != "" {
		fmt.Fprintf(&b, ", meter %s counter %d", f.Meter, f.Counter)
	}
	b.WriteString(": " + f.Detail)
	if f.Claimed != "" || f.Found != "" {
		fmt.Fprintf(&b, "; claimed %s, found %s", f.Claimed, f.Found)
	}
	if len(f.Endorsers) > 0 {
		names := make([]string, len(f.Endorsers))
		for i, e := range f.Endorsers {
			names[i] = e.Node + " of " + e.Organisation
		}
		b.WriteString("; endorsed by " + strings.Join(names, ", "))
	}
	if len(f.Cosigners) > 0 {
		b.WriteString("; cosigned by " + strings.Join(f.Cosigners, ", "))
	}
	return b.String()
}

// Report is the outcome of an audit.
type Report struct {
	Verdict    receipt.Verdict `json:"verdict"`
	Conclusion string          `json:"conclusion"`
	Network    digest.Digest   `json:"network"`
	// FromHeight is the first block of this run, Height the last that replayed.
	FromHeight uint64 `json:"fromHeight"`
	Height     uint64 `json:"height"`
	TreeSize   uint64 `json:"treeSize"`
	// CertifiedHeight is the highest block that a certificate under the trust
	// bundle covers; meaningful when Certified.
	Certified       bool   `json:"certified"`
	CertifiedHeight uint64 `json:"certifiedHeight"`

	Records      uint64            `json:"records"`      // leaves replayed in this run
	Measurements uint64            `json:"measurements"` // Measurement leaves among them
	Codes        map[uint32]uint64 `json:"codes"`        // measurements by result code
	ReExecuted   uint64            `json:"reExecuted"`
	// Expired are raw vectors that the source has no more, by decisions on the ledger.
	Expired Expired `json:"expired"`
	// Computations counts the Measurement leaves that each organisation endorsed
	// (rule S5): what accounting counts.
	Computations map[string]uint64 `json:"computations"`

	SamplePermille int    `json:"samplePermille"`
	Seed           uint64 `json:"seed"` // chooses the sample; the same seed chooses the same again

	Findings []Finding `json:"findings"` // by height, then record
	// Omitted counts findings beyond MaxFindings.
	Omitted uint64 `json:"omitted"`

	// State continues the audit from here: see Options.Resume. It is nil when the
	// audit ended at a block that does not hold.
	State *State `json:"-"`
}

// String is the report as lines for people.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "network       %s\n", r.Network)
	fmt.Fprintf(&b, "replayed      blocks %d to %d, %d records, %d measurements\n", r.FromHeight, r.Height, r.Records, r.Measurements)
	fmt.Fprintf(&b, "re-executed   %d measurements, sample of %d per mille chosen with seed %d\n", r.ReExecuted, r.SamplePermille, r.Seed)
	if e := r.Expired; e.RawVectors > 0 {
		fmt.Fprintf(&b, "expired       the raw vectors of %d measurements of blocks %d to %d; not re-executed\n", e.RawVectors, e.FromHeight, e.ToHeight)
		for _, d := range e.Decisions {
			fmt.Fprintf(&b, "              %s\n", d)
		}
	}
	if r.Certified {
		fmt.Fprintf(&b, "certified     up to block %d\n", r.CertifiedHeight)
	}
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "finding       %s (%s)\n", f, f.Verdict)
	}
	if r.Omitted > 0 {
		fmt.Fprintf(&b, "finding       and %d more\n", r.Omitted)
	}
	fmt.Fprintf(&b, "%s: %s\n", r.Verdict, r.Conclusion)
	return b.String()
}

func (r *Report) conclude(reExecuting bool) {
	r.Verdict = receipt.Verified
	var first Finding // the gravest, and of these the first
	for _, f := range r.Findings {
		if r.Verdict == receipt.Verified || f.Verdict == receipt.Refuted {
			r.Verdict, first = f.Verdict, f
		}
		if r.Verdict == receipt.Refuted {
			break
		}
	}
	switch {
	case r.Verdict != receipt.Verified:
		r.Conclusion = fmt.Sprintf("%d findings, the gravest first: %s", uint64(len(r.Findings))+r.Omitted, first)
	case !reExecuting:
		r.Conclusion = "every block is valid and certified; nothing was re-executed"
	case r.ReExecuted < r.Measurements:
		r.Conclusion = fmt.Sprintf("every block is valid and certified; %d of %d measurements were re-executed with the same results", r.ReExecuted, r.Measurements)
	default:
		r.Conclusion = fmt.Sprintf("every block is valid and certified; all %d measurements were re-executed with the same results", r.Measurements)
	}
	if e := r.Expired; e.RawVectors > 0 && r.Verdict == receipt.Verified {
		r.Conclusion += fmt.Sprintf("; the raw vectors of %d expired by decisions on the ledger, in blocks %d to %d", e.RawVectors, e.FromHeight, e.ToHeight)
	}
}
