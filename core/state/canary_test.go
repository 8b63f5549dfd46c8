package state_test

import (
	"bytes"
	"crypto"
	"testing"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"google.golang.org/protobuf/proto"
)

// canary is a network in which a test of three vectors is committed to: counters 2,
// 3 and 4 of a meter whose counter 1 is older. Counter 2 is as expected, 3 is not,
// 4 never comes.
type canary struct {
	*statetest.Network
	expectation *recordv1.CanaryExpectation
}

func newCanary(t *testing.T) *canary {
	n := statetest.New(t, statetest.Options{})
	config := proto.CloneOf(n.Config)
	config.Header = n.Header(record.SubjectNetwork)
	config.NotifiedBodies = append(config.NotifiedBodies, &recordv1.NotifiedBody{
		Id: "nc", Keys: [][]byte{statetest.Tagged(signature.Ed25519, statetest.Key("body/nc"))}, Threshold: 1,
	})
	n.Accept(n.Sign(config, statetest.Root("org-00"), statetest.Root("org-01"), statetest.Root("org-02"), statetest.Key("body/nc")))
	n.Approve()
	m := n.Register("m-1")
	n.AcceptCaptures(m.Capture())
	captures := []*statetest.Capture{m.Capture(), m.Capture()}
	c := &canary{Network: n, expectation: &recordv1.CanaryExpectation{Salt: bytes.Repeat([]byte{7}, 32)}}
	for i, capture := range captures {
		result := statetest.Result(abi.CodeValid, 83_512, 4_200, 1) // as Batch gives it
		if i == 1 {
			result = statetest.Result(100) // a trap: not what the endorsers will find
		}
		c.expectation.Vectors = append(c.expectation.Vectors, &recordv1.CanaryVector{
			MeterId: "m-1", Counter: uint64(i + 2), RawDigest: capture.Sample.RawDigest[:], Result: result,
		})
	}
	c.expectation.Vectors = append(c.expectation.Vectors, &recordv1.CanaryVector{
		MeterId: "m-1", Counter: 4, RawDigest: digest.Plain(nil).Bytes(), Result: statetest.Result(100),
	})
	c.Accept(c.Sign(c.commitment(), statetest.Body()))
	c.AcceptCaptures(captures...)
	return c
}

func (c *canary) bytes() []byte { return wire.MustEncode(c.expectation) }

func (c *canary) commitment() *recordv1.CanaryCommitment {
	d := state.CanaryCommitment(c.bytes())
	return &recordv1.CanaryCommitment{
		Header: c.Header(record.SubjectCanary("test-1")), CanaryId: "test-1", NotifiedBody: "nb", Commitment: d[:],
	}
}

var verdicts = []recordv1.CanaryVerdict{
	recordv1.CanaryVerdict_CANARY_VERDICT_MATCH, recordv1.CanaryVerdict_CANARY_VERDICT_MISMATCH, recordv1.CanaryVerdict_CANARY_VERDICT_MISSING,
}

func (c *canary) reveal() *recordv1.CanaryReveal {
	return &recordv1.CanaryReveal{
		Header: c.Header(record.SubjectCanary("test-1")), CanaryId: "test-1", Expectation: c.bytes(), Verdicts: verdicts, NotifiedBody: "nb",
	}
}

// What a notified body says of the endorsers is what the ledger holds: no verdict
// can be invented, and nothing that was known before the commitment counts.
func TestS4_CanaryVerdictsAreTheLedgers(t *testing.T) {
	base := newCanary(t)
	for name, c := range map[string]struct {
		change func(*canary, *recordv1.CanaryReveal)
		by     crypto.Signer
		want   reason.Reason
	}{
		"as it is":   {want: ""},
		"by another": {by: statetest.Root("org-00"), want: reason.NotAuthorised},
		"a match denied": {change: func(_ *canary, r *recordv1.CanaryReveal) {
			r.Verdicts = []recordv1.CanaryVerdict{2, 2, 3}
		}, want: reason.InvalidStatement},
		"a mismatch hidden": {change: func(_ *canary, r *recordv1.CanaryReveal) {
			r.Verdicts = []recordv1.CanaryVerdict{1, 1, 3}
		}, want: reason.InvalidStatement},
		"a missing one hidden": {change: func(_ *canary, r *recordv1.CanaryReveal) {
			r.Verdicts = []recordv1.CanaryVerdict{1, 2, 1}
		}, want: reason.InvalidStatement},
		"a verdict too few": {change: func(_ *canary, r *recordv1.CanaryReveal) { r.Verdicts = verdicts[:2] }, want: reason.InvalidStatement},
		"another expectation": {change: func(c *canary, r *recordv1.CanaryReveal) {
			c.expectation.Vectors[1].Result = statetest.Result(9)
			r.Expectation = c.bytes()
		}, want: reason.DigestMismatch},
		"another salt": {change: func(c *canary, r *recordv1.CanaryReveal) {
			c.expectation.Salt = bytes.Repeat([]byte{8}, 32)
			r.Expectation = c.bytes()
		}, want: reason.DigestMismatch},
		"a short salt": {change: func(c *canary, r *recordv1.CanaryReveal) {
			c.expectation.Salt = c.expectation.Salt[:31]
			r.Expectation = c.bytes()
		}, want: reason.Malformed},
		"no vectors": {change: func(c *canary, r *recordv1.CanaryReveal) {
			c.expectation.Vectors = nil
			r.Expectation, r.Verdicts = c.bytes(), nil
		}, want: reason.Malformed},
		"a vector twice": {change: func(c *canary, r *recordv1.CanaryReveal) {
			c.expectation.Vectors[1] = c.expectation.Vectors[0]
			r.Expectation = c.bytes()
		}, want: reason.Malformed},
		"no expectation": {change: func(_ *canary, r *recordv1.CanaryReveal) { r.Expectation = nil }, want: reason.Malformed},
		"never committed to": {change: func(c *canary, r *recordv1.CanaryReveal) {
			r.CanaryId = "test-2"
			r.Header = c.Header(record.SubjectCanary("test-2"))
		}, want: reason.InvalidStatement},
		"in nobody's name": {change: func(_ *canary, r *recordv1.CanaryReveal) { r.NotifiedBody = "" }, want: reason.NotAuthorised},
		"by a body that did not commit": {change: func(_ *canary, r *recordv1.CanaryReveal) {
			r.NotifiedBody = "nc"
		}, by: statetest.Key("body/nc"), want: reason.NotAuthorised},
		"by it in the name of the one that did": {by: statetest.Key("body/nc"), want: reason.NotAuthorised},
		"of another subject":                    {change: func(_ *canary, r *recordv1.CanaryReveal) { r.CanaryId = "test-2" }, want: reason.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			n := &canary{Network: base.Clone(t), expectation: proto.CloneOf(base.expectation)}
			r, by := n.reveal(), crypto.Signer(statetest.Body())
			if c.change != nil {
				c.change(n, r)
			}
			if c.by != nil {
				by = c.by
			}
			if got := n.Submit([][]byte{n.Sign(r, by)}, nil)[0]; got.Accepted != (c.want == "") || got.Reason != c.want {
				t.Errorf("%+v, want %q", got, c.want)
			}
		})
	}
}

// A commitment and its reveal stand once; a sample that was there before the
// commitment is no test.
func TestS4_CanariesStandOnce(t *testing.T) {
	n := newCanary(t)
	if got := n.Submit([][]byte{n.Sign(n.commitment(), statetest.Body())}, nil)[0]; got.Reason != reason.InvalidStatement {
		t.Errorf("a second commitment: %+v", got)
	}
	n.Accept(n.Sign(n.reveal(), statetest.Body()))
	if got := n.Submit([][]byte{n.Sign(n.reveal(), statetest.Body())}, nil)[0]; got.Reason != reason.InvalidStatement {
		t.Errorf("a second reveal: %+v", got)
	}

	old := newCanary(t)
	old.expectation.Vectors[0].Counter = 1
	c := old.commitment()
	c.CanaryId, c.Header = "test-2", old.Header(record.SubjectCanary("test-2"))
	old.Accept(old.Sign(c, statetest.Body()))
	r := old.reveal()
	r.CanaryId, r.Header = "test-2", old.Header(record.SubjectCanary("test-2"))
	if got := old.Submit([][]byte{old.Sign(r, statetest.Body())}, nil)[0]; got.Reason != reason.InvalidStatement {
		t.Errorf("a sample before the commitment: %+v", got)
	}
	stranger := old.commitment()
	stranger.CanaryId, stranger.Header, stranger.NotifiedBody = "test-3", old.Header(record.SubjectCanary("test-3")), "nobody"
	if got := old.Submit([][]byte{old.Sign(stranger, statetest.Body())}, nil)[0]; got.Reason != reason.NotAuthorised {
		t.Errorf("a commitment of no notified body: %+v", got)
	}
}

// Followers see no measurements, and so judge no verdict; they take the reveal that
// the replicas took, and go on.
func TestS6_FollowersTakeAReveal(t *testing.T) {
	n := newCanary(t)
	n.Accept(n.Sign(n.reveal(), statetest.Body()))
	n.Register("m-2")
	followed, err := follow(t, n.Network, 0)
	if err != nil {
		t.Fatal(err)
	}
	key := state.CanaryKey("test-1")
	if followed.Head() != n.Store.Head() || len(followed.Values[key]) == 0 || !bytes.Equal(followed.Values[key], n.Store.Values[key]) {
		t.Errorf("follower's head is %+v, the ledger's %+v; canary %x and %x", followed.Head(), n.Store.Head(), followed.Values[key], n.Store.Values[key])
	}
}

// FuzzCanaryExpectation: what is accepted has one form and is within its bounds.
func FuzzCanaryExpectation(f *testing.F) {
	f.Add(wire.MustEncode(&recordv1.CanaryExpectation{Salt: make([]byte, 32), Vectors: []*recordv1.CanaryVector{
		{MeterId: "m-1", Counter: 1, RawDigest: make([]byte, 32), Result: statetest.Result(100)},
		{MeterId: "m-1", Counter: 2, RawDigest: make([]byte, 32), Result: statetest.Result(abi.CodeValid, 1, -2, 3)},
	}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := state.ParseCanaryExpectation(b)
		if err != nil {
			if reason.Of(err) == "" {
				t.Fatalf("refused without a reason: %v", err)
			}
			return
		}
		if again := wire.MustEncode(e); !bytes.Equal(again, b) {
			t.Fatalf("%x is written %x", b, again)
		}
		for i, v := range e.GetVectors() {
			if len(v.GetRawDigest()) != 32 || i > 0 && v.GetMeterId() == e.GetVectors()[i-1].GetMeterId() && v.GetCounter() <= e.GetVectors()[i-1].GetCounter() {
				t.Fatalf("vector %d of %v", i, e.GetVectors())
			}
		}
	})
}
