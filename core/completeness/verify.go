package completeness

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

// Result is what a file shows.
type Result struct {
	// Verdict is refuted if anything does not hold, undecidable if something is
	// not there (counters, or who certifies), else verified.
	Verdict     receipt.Verdict `json:"verdict"`
	Conclusion  string          `json:"conclusion"` // one line
	Meter       string          `json:"meter,omitempty"`
	First       uint64          `json:"firstCounter"`
	Last        uint64          `json:"lastCounter"`
	Present     uint64          `json:"present"` // measurements that hold
	Refused     uint64          `json:"refused"` // of them with a code other than VALID
	Late        uint64          `json:"late"`    // of them beyond the lateness bound
	Missing     []Range         `json:"missing"` // counters that the file does not show
	Since       string          `json:"since,omitempty"`
	Until       string          `json:"until,omitempty"` // capture times of the first and the last, RFC 3339
	Origin      string          `json:"origin,omitempty"`
	TreeSize    uint64          `json:"treeSize,omitempty"`
	Cosigned    string          `json:"cosigned,omitempty"` // lower median of the cosignatures' times
	edges       edges
	certificate string // why it is not known who certifies; "" if it is
}

// Range is an inclusive range of counters.
type Range struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}

// String is "5" or "7 to 9".
func (r Range) String() string {
	if r.First == r.Last {
		return fmt.Sprint(r.First)
	}
	return fmt.Sprintf("%d to %d", r.First, r.Last)
}

// Verify judges a file under a trust bundle, which may be nil: then nobody says
// who certifies, and nothing is verified.
func Verify(encoded []byte, trusted *trust.Bundle) *Result {
	r := &Result{Missing: []Range{}}
	c, err := Parse(encoded)
	if err != nil {
		return r.refute("the file is not in its one form: %v", err)
	}
	r.First, r.Last = c.GetFirstCounter(), c.GetLastCounter()
	certificate, err := tlog.ParseCertificate(c.GetCertificate())
	if err != nil {
		return r.refute("certificate: %v", err)
	}
	v := verifier{file: c, checkpoint: certificate.Checkpoint, result: r}
	r.Origin, r.TreeSize = v.checkpoint.Origin, v.checkpoint.Size
	r.Cosigned = timeText(int64(min(certificate.MedianTime(), 1<<33)) * 1_000_000_000)
	if err := v.meter(); err != nil {
		return r.refute("%v", err)
	}
	if err := v.measurements(); err != nil {
		return r.refute("%v", err)
	}
	unknown, err := certified(certificate, trusted)
	switch {
	case err != nil:
		return r.refute("certificate: %v", err)
	case unknown != "":
		r.certificate = "certificate: " + unknown
		r.Verdict, r.Conclusion = receipt.Undecidable, r.certificate
	default:
		r.conclude()
	}
	return r
}

// conclude is the verdict on what holds and is certified.
func (r *Result) conclude() {
	if len(r.Missing) > 0 {
		names := make([]string, len(r.Missing))
		for i, m := range r.Missing {
			names[i] = m.String()
		}
		r.Verdict, r.Conclusion = receipt.Undecidable, "missing counters: "+strings.Join(names, ", ")
		return
	}
	r.Verdict = receipt.Verified
	r.Conclusion = fmt.Sprintf("complete: all %d samples of meter %s from counter %d to %d, each following the one before", r.Present, r.Meter, r.First, r.Last)
}

func (r *Result) refute(format string, args ...any) *Result {
	r.Verdict, r.Conclusion = receipt.Refuted, fmt.Sprintf(format, args...)
	return r
}

// certified says what is not known of a certificate, or what is wrong with it.
func certified(c *tlog.Certificate, trusted *trust.Bundle) (unknown string, err error) {
	if trusted == nil {
		return "no trust bundle says who certifies", nil
	}
	if c.Checkpoint.Origin != trusted.Origin() {
		return "", fmt.Errorf("it is of %s, the trust bundle is about %s", c.Checkpoint.Origin, trusted.Origin())
	}
	policy, err := trusted.Policy(c.Checkpoint.Size)
	if err != nil {
		return err.Error(), nil //nolint:nilerr // a newer trust bundle may answer for it: not known, not wrong.
	}
	return "", policy.Check(signature.Direct{}, c)
}

// verifier is one file's verification.
type verifier struct {
	file       *recordv1.Completeness
	checkpoint tlog.Checkpoint
	result     *Result
	network    digest.Digest
	keys       statev1.Meter // its keys, as the state lays them out (rule S3)
}

// open returns a leaf at its place in the checkpoint's tree.
func (v *verifier) open(p *recordv1.ProvenRecord, what string) (*recordv1.Record, error) {
	path := make([]digest.Digest, len(p.GetProof()))
	for i, h := range p.GetProof() {
		path[i] = digest.Digest(h) // Parse checked the length
	}
	if err := tlog.VerifyInclusion(tlog.LeafHash(p.GetRecord()), p.GetIndex(), v.checkpoint.Size, path, v.checkpoint.Root); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	r, err := record.Parse(p.GetRecord())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return r, nil
}

// statement opens a statement of the type of m, decoded into it.
func (v *verifier) statement(p *recordv1.ProvenRecord, what string, m proto.Message) error {
	r, err := v.open(p, what)
	if err != nil {
		return err
	}
	if got, want := r.GetStatement().GetPayloadType(), record.TypeOf(m); got != want {
		return fmt.Errorf("%s: record %d is of type %q, want %q", what, p.GetIndex(), got, want)
	}
	if err := wire.Decode(r.GetStatement().GetPayload(), m); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// meter takes the meter's identity and keys from registration and rollovers.
func (v *verifier) meter() error {
	reg := new(recordv1.MeterRegistration)
	if err := v.statement(v.file.GetRegistration(), "registration", reg); err != nil {
		return err
	}
	var err error
	if v.network, err = record.Digest32("network_id", reg.GetHeader().GetNetworkId()); err != nil {
		return fmt.Errorf("registration: %w", err)
	}
	if err := tlog.CheckOrigin(v.checkpoint.Origin, v.network); err != nil {
		return fmt.Errorf("registration: %w", err)
	}
	v.result.Meter = reg.GetMeterId()
	v.result.edges.registration = tlog.LeafHash(v.file.GetRegistration().GetRecord())
	if v.result.First < reg.GetFirstCounter() {
		return fmt.Errorf("the span begins at counter %d, meter %s counts from %d", v.result.First, reg.GetMeterId(), reg.GetFirstCounter())
	}
	v.keys.Keys = []*statev1.MeterKey{{Key: reg.GetKey(), FirstCounter: reg.GetFirstCounter(), Index: v.file.GetRegistration().GetIndex()}}
	for i, p := range v.file.GetRollovers() {
		what, rollover := fmt.Sprintf("rollover %d", i), new(recordv1.MeterKeyRollover)
		if err := v.statement(p, what, rollover); err != nil {
			return err
		}
		last := v.keys.Keys[len(v.keys.Keys)-1]
		switch {
		case rollover.GetMeterId() != reg.GetMeterId():
			return fmt.Errorf("%s is of meter %q, the registration of %q", what, rollover.GetMeterId(), reg.GetMeterId())
		case p.GetIndex() <= last.GetIndex() || rollover.GetFirstCounter() <= last.GetFirstCounter():
			return fmt.Errorf("%s is record %d, for counters from %d, the key before it record %d, from %d: want ascending ones",
				what, p.GetIndex(), rollover.GetFirstCounter(), last.GetIndex(), last.GetFirstCounter())
		}
		v.keys.Keys = append(v.keys.Keys, &statev1.MeterKey{Key: rollover.GetKey(), FirstCounter: rollover.GetFirstCounter(), Index: p.GetIndex()})
	}
	for _, k := range v.keys.Keys {
		if key, err := signature.ParseKey(k.GetKey()); err != nil {
			return fmt.Errorf("key of record %d: %w", k.GetIndex(), err)
		} else if err := signature.CheckKey(key); err != nil {
			return fmt.Errorf("key of record %d: %w", k.GetIndex(), err)
		}
	}
	return nil
}

// measurements checks each and its link to the one before, and notes what is
// missing.
func (v *verifier) measurements() error {
	next, before := v.result.First, digest.Zero // the counter that follows; the digest of the sample below it, if it is here
	for _, p := range v.file.GetMeasurements() {
		m, err := v.measurement(p)
		if err != nil {
			return err
		}
		s := m.Sample
		switch {
		case s.Counter < next || s.Counter > v.result.Last:
			return fmt.Errorf("record %d is counter %d, want an ascending one of %d to %d", p.GetIndex(), s.Counter, next, v.result.Last)
		case s.Counter == v.keys.GetKeys()[0].GetFirstCounter() && !s.Previous.IsZero():
			return fmt.Errorf("counter %d is the meter's first and names %s before it", s.Counter, s.Previous.Short())
		case s.Counter == next && !before.IsZero() && s.Previous != before:
			return fmt.Errorf("counter %d follows sample %s, counter %d is sample %s", s.Counter, s.Previous, next-1, before)
		}
		v.missing(next, s.Counter)
		if v.result.Since == "" {
			v.result.Since = timeText(s.CapturedAtUnixNano)
		}
		v.result.Until = timeText(s.CapturedAtUnixNano)
		v.count(m)
		if s.Counter == v.result.First {
			v.result.edges.previous = &s.Previous
		}
		if s.Counter == v.result.Last {
			v.result.edges.last = &s.Digest
		}
		next, before = s.Counter+1, s.Digest
	}
	v.missing(next, v.result.Last+1)
	return nil
}

// missing notes the counters from next up to, not with, to.
func (v *verifier) missing(next, to uint64) {
	if next < to {
		v.result.Missing = append(v.result.Missing, Range{next, to - 1})
	}
}

func (v *verifier) count(m *receipt.Measurement) {
	v.result.Present++
	if m.Result.Code != abi.CodeValid {
		v.result.Refused++
	}
	if m.Message.GetDisposition() == recordv1.Disposition_DISPOSITION_LATE {
		v.result.Late++
	}
}

// measurement opens one, of this meter and signed by it.
func (v *verifier) measurement(p *recordv1.ProvenRecord) (*receipt.Measurement, error) {
	what := fmt.Sprintf("measurement at record %d", p.GetIndex())
	if _, err := v.open(p, what); err != nil {
		return nil, err
	}
	m, err := receipt.ParseMeasurement(p.GetRecord())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	s := m.Sample
	if s.NetworkID != v.network || s.MeterID != v.result.Meter {
		return nil, fmt.Errorf("%s is of meter %s in network %s, want %s in %s", what, s.MeterID, s.NetworkID.Short(), v.result.Meter, v.network.Short())
	}
	key, ok := state.MeterKeyAt(&v.keys, s.Counter)
	if !ok || !(signature.Direct{}).Verify(key.Kind(), key, s.Signed(), m.Message.GetSignature()) {
		return nil, fmt.Errorf("%s: counter %d does not verify under the meter's key for it", what, s.Counter)
	}
	return m, nil
}

func timeText(unixNano int64) string { return time.Unix(0, unixNano).UTC().Format(time.RFC3339Nano) }

// String is the result for people.
func (r *Result) String() string {
	var b strings.Builder
	if r.Meter != "" {
		fmt.Fprintf(&b, "meter     %s, counters %d to %d: %d samples (%d refused, %d late)\n", r.Meter, r.First, r.Last, r.Present, r.Refused, r.Late)
	}
	if r.Since != "" {
		fmt.Fprintf(&b, "captured  %s to %s by the meter's clock\n", r.Since, r.Until)
	}
	if r.Origin != "" {
		fmt.Fprintf(&b, "ledger    %s at size %d, cosigned %s\n", r.Origin, r.TreeSize, r.Cosigned)
	}
	for _, m := range r.Missing {
		fmt.Fprintf(&b, "missing   %s\n", m)
	}
	fmt.Fprintf(&b, "%s: %s\n", r.Verdict, r.Conclusion)
	return b.String()
}
