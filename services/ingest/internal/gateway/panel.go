package gateway

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/policy"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	computev1 "github.com/lacre-metrology/lacre/gen/lacre/compute/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// Endorser is one compute organisation's service.
type Endorser interface {
	NodeID() string
	Endorse(ctx context.Context, request *computev1.EndorseRequest) (*computev1.EndorseResponse, error)
}

// MaxEndorsers is how many endorsers a gateway may know: each has a bit of a set.
const MaxEndorsers = 64

// demotion is how long an endorser that failed or was slow is asked last, so
// that not every batch waits for it.
const demotion = 5 * time.Second

// contact is an endorser with what the gateway learnt about it.
type contact struct {
	Endorser
	lastUntil atomic.Int64 // Unix nanoseconds until which it is asked last
}

func (c *contact) demote() { c.lastUntil.Store(time.Now().Add(demotion).UnixNano()) }

// members is a set of a panel's members, a bit for each.
type members uint64

func (m members) has(i int) bool     { return m&(1<<i) != 0 }
func (m members) with(i int) members { return m | 1<<i }

// member is an endorser as the certified ledger registered it.
type member struct {
	contact      *contact
	organisation string
	key          signature.Key
}

// panel is the endorsers that may speak on one batch, in the order in which they
// are asked, and the policy of the approval.
type panel struct {
	network, algorithm digest.Digest
	members            []member
	policy             policy.Policy
	known              map[members]bool // answers of satisfied
}

// newPanel takes the contacts that the snapshot knows as endorsers, beginning at
// another one for each batch so that work is spread, those in trouble last.
func newPanel(view state.View, network, algorithm digest.Digest, terms policy.Policy, contacts []*contact, turn int) (*panel, error) {
	p := &panel{network: network, algorithm: algorithm, policy: terms, known: make(map[members]bool)}
	now := time.Now().UnixNano()
	var last []member
	for i := range contacts {
		c := contacts[(turn+i)%len(contacts)]
		node, err := state.GetNode(view, c.NodeID())
		if err != nil {
			return nil, err
		}
		if node == nil || node.GetRevoked() || recordv1.Role(node.GetRole()) != recordv1.Role_ROLE_ENDORSER {
			continue // the ledger would not count it
		}
		key, err := signature.ParseKey(node.GetKey())
		if err != nil {
			return nil, err
		}
		m := member{contact: c, organisation: node.GetOrganisation(), key: key}
		if c.lastUntil.Load() > now {
			last = append(last, m)
		} else {
			p.members = append(p.members, m)
		}
	}
	p.members = append(p.members, last...)
	return p, nil
}

// satisfied reports whether the organisations of these members satisfy the policy.
func (p *panel) satisfied(set members) bool {
	answer, ok := p.known[set]
	if !ok {
		organisations := make(map[string]bool)
		for i, m := range p.members {
			if set.has(i) {
				organisations[m.organisation] = true
			}
		}
		answer = p.policy.Satisfied(organisations)
		p.known[set] = answer
	}
	return answer
}

// only is the panel without all others.
func (p *panel) only(set members) *panel {
	q := &panel{network: p.network, algorithm: p.algorithm, policy: p.policy, known: make(map[members]bool)}
	for i, m := range p.members {
		if set.has(i) {
			q.members = append(q.members, m)
		}
	}
	return q
}

// voice is one member's answer on a batch. It says what it claims to say: the
// claims are on these samples, and its signature covers them.
type voice struct {
	member   int
	outcomes []*computev1.SampleOutcome // in the order of the samples
	claims   []*claim.Claim             // decoded; nil where the sample was refused
	made     int                        // claims that are not nil
	sig      []byte
}

// ask calls one member. An answer that would not stand on the ledger is an error.
func (p *panel) ask(ctx context.Context, i int, batch []*Sample, request *computev1.EndorseRequest) (*voice, error) {
	m := p.members[i]
	response, err := m.contact.Endorse(ctx, request)
	if err != nil {
		return nil, err
	}
	unfit := func(format string, args ...any) error {
		return reason.New(reason.BadEndorsement, "endorser "+m.contact.NodeID()+" "+format, args...)
	}
	v := &voice{member: i, outcomes: response.GetOutcomes(), claims: make([]*claim.Claim, len(batch)), sig: response.GetSignature()}
	if len(v.outcomes) != len(batch) {
		return nil, unfit("gave %d outcomes for %d samples", len(v.outcomes), len(batch))
	}
	hashes := make([]digest.Digest, 0, len(batch))
	for at, outcome := range v.outcomes {
		if len(outcome.GetClaim()) == 0 {
			continue
		}
		c, err := claim.Parse(outcome.GetClaim())
		if err != nil {
			return nil, unfit("gave a claim that is none: %v", err)
		}
		if want := batch[at].Parsed.Digest; c.Sample != want || c.Algorithm != p.algorithm || c.NetworkID != p.network {
			return nil, unfit("was asked about sample %s and algorithm %s, its claim is on %s and %s",
				want.Short(), p.algorithm.Short(), c.Sample.Short(), c.Algorithm.Short())
		}
		v.claims[at] = c
		hashes = append(hashes, claim.Hash(outcome.GetClaim()))
	}
	v.made = len(hashes)
	if v.made > 0 && !signature.Verify(m.key.Kind(), m.key, claim.EndorsementMessage(p.network, p.algorithm, hashes), v.sig) {
		return nil, unfit("gave a signature that does not verify under its %v", m.key)
	}
	return v, nil
}

// poll asks as many members as the policy needs, and others in the place of
// those that fail, hesitate or disagree. It returns as soon as every sample is
// decided, or when nobody is left to ask.
func (p *panel) poll(ctx context.Context, batch []*Sample, hesitation time.Duration) *ballot {
	ctx, cancel := context.WithTimeout(ctx, endorseTimeout)
	defer cancel()
	request := &computev1.EndorseRequest{Algorithm: p.algorithm[:]}
	for _, s := range batch {
		request.Samples = append(request.Samples, &computev1.SignedSample{Header: s.Parsed.Bytes, Signature: s.Signature, RawVector: s.Raw})
	}
	type answer struct {
		member int
		voice  *voice
		err    error
	}
	answers := make(chan answer, len(p.members)) // room for all: nobody waits for a poll that is over
	var asked int
	var outstanding members
	ask := func() {
		i := asked
		asked++
		outstanding = outstanding.with(i)
		go func() {
			v, err := p.ask(ctx, i, batch, request)
			answers <- answer{i, v, err}
		}()
	}
	slow := time.NewTicker(hesitation)
	defer slow.Stop()
	b := &ballot{panel: p, batch: batch}
	for {
		for asked < len(p.members) && !b.hopeful(outstanding) {
			ask()
		}
		if outstanding == 0 || b.decided() {
			return b
		}
		select {
		case a := <-answers:
			outstanding &^= members(0).with(a.member)
			if a.err != nil {
				if ctx.Err() == nil {
					p.members[a.member].contact.demote()
				}
				b.failures = append(b.failures, a.err)
			} else {
				b.voices = append(b.voices, a.voice)
			}
		case <-slow.C:
			for i := range asked {
				if outstanding.has(i) {
					p.members[i].contact.demote()
				}
			}
			if asked < len(p.members) {
				ask()
			}
		}
	}
}

// nodes names members, ascending.
func (p *panel) nodes(set members) []string {
	var ids []string
	for i, m := range p.members {
		if set.has(i) {
			ids = append(ids, m.contact.NodeID())
		}
	}
	slices.Sort(ids)
	return ids
}
