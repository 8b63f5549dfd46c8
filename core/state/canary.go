package state

import (
	"bytes"
	"cmp"

	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

// A canary is a test of the endorsers with vectors whose results a notified body
// knows and nobody else: a meter that looks like any other sends them. The body
// commits to the results before the first sample, so it cannot fit them to what
// came; it opens the commitment later, and the transition itself holds the
// verdicts to what the ledger has.

const (
	maxCanaryVectors = 256
	canarySaltBytes  = 32
)

// canaryCommitment begins a test.
type canaryCommitment struct{ *recordv1.CanaryCommitment }

func (c canaryCommitment) check(st *statement) error {
	if err := record.CheckID(c.GetCanaryId()); err != nil {
		return err
	}
	if err := st.wantSubject(record.SubjectCanary(c.GetCanaryId())); err != nil {
		return err
	}
	if st.sequence != 1 {
		return reason.New(reason.InvalidStatement, "canary %s would be committed to by statement %d; a commitment is the first and never changes", c.GetCanaryId(), st.sequence)
	}
	_, err := record.Digest32("commitment", c.GetCommitment())
	return err
}

func (c canaryCommitment) authority(_ *reader, config *Config) ([]signers, error) {
	return bodySigns(config, c.GetNotifiedBody())
}

func (c canaryCommitment) apply(b *Block, _ *statement, ref *statev1.StatementRef) error {
	b.putMessage(CanaryKey(c.GetCanaryId()), &statev1.Canary{
		Last: ref, NotifiedBody: c.GetNotifiedBody(), Commitment: c.GetCommitment(), CommitmentIndex: ref.GetIndex(),
	})
	return nil
}

// canaryReveal opens a commitment.
type canaryReveal struct{ *recordv1.CanaryReveal }

func (c canaryReveal) check(st *statement) error {
	if err := record.CheckID(c.GetCanaryId()); err != nil {
		return err
	}
	if err := st.wantSubject(record.SubjectCanary(c.GetCanaryId())); err != nil {
		return err
	}
	if st.sequence != 2 {
		return reason.New(reason.InvalidStatement, "canary %s would be revealed by statement %d; a reveal is the second, and there is one", c.GetCanaryId(), st.sequence)
	}
	e, err := ParseCanaryExpectation(c.GetExpectation())
	if err != nil {
		return err
	}
	if len(c.GetVerdicts()) != len(e.GetVectors()) {
		return reason.New(reason.InvalidStatement, "%d verdicts on %d vectors", len(c.GetVerdicts()), len(e.GetVectors()))
	}
	return nil
}

// authority is the body that the statement names, so that a configuration alone
// says who signs; apply holds the name to the commitment's.
func (c canaryReveal) authority(_ *reader, config *Config) ([]signers, error) {
	return bodySigns(config, c.GetNotifiedBody())
}

func (c canaryReveal) apply(b *Block, _ *statement, ref *statev1.StatementRef) error {
	old, err := message[statev1.Canary](b.reader, CanaryKey(c.GetCanaryId()))
	if err != nil {
		return err
	}
	if c.GetNotifiedBody() != old.GetNotifiedBody() {
		return reason.New(reason.NotAuthorised, "notified body %.80q would reveal canary %s, to which %s committed", c.GetNotifiedBody(), c.GetCanaryId(), old.GetNotifiedBody())
	}
	if got := CanaryCommitment(c.GetExpectation()); !bytes.Equal(got[:], old.GetCommitment()) {
		return reason.New(reason.DigestMismatch, "the expectation has the digest %s, canary %s committed to %s", got.Short(), c.GetCanaryId(), shortOf(old.GetCommitment()))
	}
	e, err := ParseCanaryExpectation(c.GetExpectation())
	if err != nil {
		return err
	}
	if b.administrative {
		e.Vectors = nil // it cannot see the results; replicas and auditors judged them
	}
	for i, v := range e.GetVectors() {
		want, err := b.judgeCanary(v, old.GetCommitmentIndex())
		if err != nil {
			return err
		}
		if got := c.GetVerdicts()[i]; got != want {
			return reason.New(reason.InvalidStatement, "counter %d of meter %s is called %v, the ledger says %v", v.GetCounter(), v.GetMeterId(), got, want)
		}
	}
	b.putMessage(CanaryKey(c.GetCanaryId()), &statev1.Canary{
		Last: ref, NotifiedBody: old.GetNotifiedBody(), Commitment: old.GetCommitment(), CommitmentIndex: old.GetCommitmentIndex(),
	})
	return nil
}

// judgeCanary compares a vector with the ledger. A measurement that stood there
// before the commitment proves nothing, and is refused.
func (b *Block) judgeCanary(v *recordv1.CanaryVector, committed uint64) (recordv1.CanaryVerdict, error) {
	index, ok, err := b.indexOf(v.GetMeterId(), v.GetCounter())
	if err != nil {
		return 0, err
	}
	if !ok {
		return recordv1.CanaryVerdict_CANARY_VERDICT_MISSING, nil
	}
	if index <= committed {
		return 0, reason.New(reason.InvalidStatement, "counter %d of meter %s is leaf %d, before the commitment in leaf %d", v.GetCounter(), v.GetMeterId(), index, committed)
	}
	m, s, err := b.measurementAt(v.GetMeterId(), v.GetCounter(), index)
	if err != nil {
		return 0, err
	}
	c, err := claim.Parse(m.GetClaim())
	if err != nil {
		return 0, corrupt("leaf %d: %w", index, err)
	}
	if !bytes.Equal(s.RawDigest[:], v.GetRawDigest()) || !bytes.Equal(c.Result, v.GetResult()) {
		return recordv1.CanaryVerdict_CANARY_VERDICT_MISMATCH, nil
	}
	return recordv1.CanaryVerdict_CANARY_VERDICT_MATCH, nil
}

// CanaryCommitment is the digest by which a notified body commits to the exact
// bytes of a CanaryExpectation.
func CanaryCommitment(expectation []byte) digest.Digest { return digest.Of(digest.Canary, expectation) }

// ParseCanaryExpectation decodes what a commitment is about. Errors are
// *reason.Error.
func ParseCanaryExpectation(b []byte) (*recordv1.CanaryExpectation, error) {
	e := new(recordv1.CanaryExpectation)
	if err := record.Decode(b, record.MaxBytes, e); err != nil {
		return nil, err
	}
	if n := len(e.GetSalt()); n != canarySaltBytes {
		return nil, reason.New(reason.Malformed, "salt of %d bytes, want %d", n, canarySaltBytes)
	}
	if n := len(e.GetVectors()); n == 0 || n > maxCanaryVectors {
		return nil, reason.New(reason.Malformed, "%d vectors, want 1 to %d", n, maxCanaryVectors)
	}
	for i, v := range e.GetVectors() {
		if err := record.CheckID(v.GetMeterId()); err != nil {
			return nil, err
		}
		if _, err := record.Digest32("raw_digest", v.GetRawDigest()); err != nil {
			return nil, err
		}
		if _, err := claim.ParseResult(v.GetResult()); err != nil {
			return nil, err
		}
		if i == 0 {
			continue
		}
		last := e.GetVectors()[i-1]
		if cmp.Or(cmp.Compare(last.GetMeterId(), v.GetMeterId()), cmp.Compare(last.GetCounter(), v.GetCounter())) >= 0 {
			return nil, reason.New(reason.Malformed, "counter %d of meter %s after counter %d of meter %s, want them ascending",
				v.GetCounter(), v.GetMeterId(), last.GetCounter(), last.GetMeterId())
		}
	}
	return e, nil
}
