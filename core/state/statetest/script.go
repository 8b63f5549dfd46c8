package statetest

import (
	"crypto"
	"slices"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/heartbeat"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// Script makes of arbitrary bytes a life of the network, a block at a time: the
// captures of three meters in and out of order, with gaps, repetitions and second
// samples of one counter; batches endorsed by enough and by too few; statements on
// meters, the module, nodes and the configuration, by the right keys and by
// others; events; and records that were altered. The bytes are choices, so a
// fuzzer that changes some of them changes what happens there.
//
// Everything a step refers to (heads, chains of statements) is taken from the
// network's store, so play each step there before the next is asked for.
type Script struct {
	n        *Network
	data     []byte
	meters   []*Meter
	spare    []crypto.Signer // the key that each meter may roll over to
	pending  []*Capture
	held     []*Capture // taken, and handed in later
	replicas []Replica  // all that ever were
	block    Step
}

// Step is one block as a leader proposes it.
type Step struct {
	Submissions     []RawSubmission
	CertifiedHeight uint64
	Certificate     []byte
}

// RawSubmission is a submission as a client hands it in.
type RawSubmission struct{ Records, RawVectors [][]byte }

// NewScript continues the life of a network with an approved module. It
// registers three meters. data is the script.
func NewScript(n *Network, data []byte) *Script {
	s := &Script{n: n, data: data, replicas: slices.Clone(n.Replicas)}
	for _, id := range []string{"meter-a", "meter-b", "meter-c"} {
		s.meters = append(s.meters, n.Register(id))
		s.spare = append(s.spare, Key("rolled/"+id))
	}
	return s
}

// On is the script with other data over a clone of its network.
func (s *Script) On(n *Network, data []byte) *Script {
	c := &Script{n: n, data: data, replicas: s.replicas, spare: slices.Clone(s.spare)}
	for _, m := range s.meters {
		copied := *m
		copied.Network = n
		c.meters = append(c.meters, &copied)
	}
	return c
}

func (s *Script) next() byte {
	if len(s.data) == 0 {
		return 0
	}
	b := s.data[0]
	s.data = s.data[1:]
	return b
}

// maxSteps and maxSubmissions bound what one script may cost.
const (
	maxSteps       = 64
	maxSubmissions = 8
)

// Next is the next block; false when the script is over.
func (s *Script) Next() (Step, bool) {
	if len(s.data) == 0 {
		return Step{}, false
	}
	s.refresh()
	s.block = Step{}
	for range maxSteps {
		if len(s.data) == 0 || len(s.block.Submissions) >= maxSubmissions || !s.act() {
			break
		}
	}
	s.submit(0)
	head := s.n.Store.Head()
	switch choice := s.next() % 16; choice {
	case 0: // as if no certificate had come in
		s.block.CertifiedHeight = head.CertifiedHeight
	case 1: // of a height that may be certified already, or say nothing new
		s.block.CertifiedHeight = uint64(s.next()) % (head.Height + 1)
		s.block.Certificate = s.certificate(s.block.CertifiedHeight)
	case 2: // not one of this ledger
		s.block.CertifiedHeight, s.block.Certificate = head.Height, s.certificate(head.Height)
		s.block.Certificate[len(s.block.Certificate)-8-int(s.next()%64)] ^= 1 << (s.next() % 7)
	default:
		s.block.CertifiedHeight, s.block.Certificate = head.Height, s.certificate(head.Height)
	}
	return s.block, true
}

// refresh takes from the store what the last block made current.
func (s *Script) refresh() {
	n := s.n
	value, err := state.GetAlgorithm(n.Store, n.Algorithm)
	n.must(err)
	n.Approval = digest.Digest(value.GetApproval())
	config, err := state.GetConfig(n.Store)
	n.must(err)
	n.Replicas = slices.DeleteFunc(slices.Clone(s.replicas), func(r Replica) bool { return config.Replica(r.ID) == nil })
}

// certificate is by every replica of the height's quorum, the joint one of a
// change included.
func (s *Script) certificate(height uint64) []byte {
	quorum, err := state.QuorumAt(s.n.Store, height)
	s.n.must(err)
	var members []Replica
	for _, r := range s.replicas {
		if _, ok := quorum.Cosigner(state.CosignerName(quorum.Origin(), r.ID)); ok {
			members = append(members, r)
		}
	}
	return s.n.Certificate(height, members...)
}

// act takes one step of the script; false ends the block.
func (s *Script) act() bool {
	choice := s.next()
	m := s.meters[int(choice>>6)%len(s.meters)]
	switch choice % 24 {
	default:
		s.pending = append(s.pending, s.of(m).Capture())
	case 8: // kept back: a gap until it is handed in
		s.held = append(s.held, s.of(m).Capture())
	case 9:
		if len(s.held) > 0 {
			i := int(s.next()) % len(s.held)
			s.pending = append(s.pending, s.held[i])
			s.held = slices.Delete(s.held, i, i+1)
		}
	case 10: // the same sample again, in this batch or in a later one
		if len(s.pending) > 0 {
			again := s.pending[int(s.next())%len(s.pending)]
			s.pending, s.held = append(s.pending, again), append(s.held, again)
		}
	case 11: // a second sample of one counter
		other := s.of(m).Peek(func(h *sample.Header) { h.StatusFlags = 1 })
		s.pending = append(s.pending, s.of(m).Capture(), other)
	case 12:
		s.pending = append(s.pending, s.of(m).Capture(s.odd()))
	case 13, 14:
		s.submit(0)
	case 15:
		s.submit(s.next())
	case 16:
		s.statement(s.meterStatus(m))
	case 17:
		s.statement(s.administrative(m))
	case 18:
		s.statement(s.configuration())
	case 19:
		if by := s.next(); by >= 128 { // a heartbeat, at times too soon or at another counter
			s.heartbeat(m, by)
			break
		}
		s.event(m)
	case 20:
		s.n.NowUnix += int64(s.next())
	case 21:
		s.n.NowUnix += 3600 * int64(s.next())
	case 22, 23:
		return false
	}
	return true
}

// of is the meter, holding the key that the ledger has for its next counter.
func (s *Script) of(m *Meter) *Meter {
	standing, err := state.GetMeter(s.n.Store, m.ID)
	s.n.must(err)
	i := slices.Index(s.meters, m)
	next, err := signature.KeyOf(signature.Ed25519ZIP215, s.spare[i].Public())
	s.n.must(err)
	if current, ok := state.MeterKeyAt(standing, m.Counter); ok && current == next {
		m.Key, s.spare[i] = s.spare[i], m.Key
	}
	return m
}

// odd alters one thing in a header.
func (s *Script) odd() func(*sample.Header) {
	kind, by := s.next(), s.next()
	return func(h *sample.Header) {
		switch kind % 8 {
		case 0:
			h.CapturedAtUnixNano -= int64(by) * 1000 * Second
		case 1:
			h.CapturedAtUnixNano += int64(by) * Second
		case 2:
			h.Counter += uint64(by)
		case 3:
			h.Previous = digest.Plain([]byte{by})
		case 4:
			h.KnownHeight = min(uint64(by), h.KnownHeight)
			h.KnownBlock = s.n.Store.Blocks[h.KnownHeight].Header
		case 5:
			h.SampleRateMillihertz += uint64(by)
		case 6:
			h.Counter = 1<<62 - uint64(by)
		case 7:
			h.RawDigest = digest.Plain([]byte{by})
		}
	}
}

// submit makes one submission of the pending captures, with one fault unless
// kind is 0.
func (s *Script) submit(kind byte) {
	if len(s.pending) == 0 {
		return
	}
	n, captures := s.n, s.pending
	s.pending = nil
	batch := n.Batch(captures...)
	at := int(s.fault(kind)) % len(captures)
	switch kind % 10 {
	case 1:
		batch.Endorsers = n.Endorsers[:1]
	case 2:
		batch.Endorsers = []Node{n.Endorsers[0], n.Endorsers[0]}
	case 3:
		batch.Claims[at].Result = Result(uint32(kind) % 101)
	case 4:
		batch.Claims[at].FuelUsed = batch.Claims[at].FuelLimit + 1
	case 5:
		batch.Measurements[at].Disposition = recordv1.Disposition_DISPOSITION_LATE
	case 6:
		batch.Measurements[at].Config = digest.Plain([]byte{kind}).Bytes()
	case 7:
		batch.Endorsers = n.Endorsers
	}
	records, raw := batch.Records(), batch.Raw
	switch kind % 10 {
	case 8: // one byte of one record
		records[at] = slices.Clone(records[at])
		records[at][int(s.next())%len(records[at])] ^= s.next()
	case 9:
		records, raw = slices.Concat(records, records[1:2]), slices.Concat(raw, raw[:1])
	}
	s.block.Submissions = append(s.block.Submissions, RawSubmission{records, raw})
}

func (s *Script) fault(kind byte) byte {
	if kind == 0 {
		return 0
	}
	return s.next()
}

// heartbeat hands in what is pending first, or a sample that waits would overtake it.
func (s *Script) heartbeat(m *Meter, by byte) {
	s.submit(0)
	leaf := s.of(m).Heartbeat(func(h *heartbeat.Heartbeat) {
		switch by % 8 {
		case 0:
			h.AtUnixNano -= int64(by) * Second
		case 1:
			h.NewestCounter += uint64(by)
			h.NewestSample = digest.Plain([]byte{by})
		case 2:
			h.StatusFlags = uint32(by)
		}
	})
	s.block.Submissions = append(s.block.Submissions, RawSubmission{Records: [][]byte{leaf, leaf}[:1+by%2]})
}

func (s *Script) statement(leaf []byte) {
	s.submit(0)
	s.block.Submissions = append(s.block.Submissions, RawSubmission{Records: [][]byte{leaf}})
}

// meterStatus changes a meter's standing or its parameters. It is signed by the notified body, or by an organisation that may not.
func (s *Script) meterStatus(m *Meter) []byte {
	choice := s.next()
	if choice >= 232 && choice < 248 { // new parameters: about now, and so sometimes too early
		from := s.n.NowUnix + int64(choice%3) - 1
		return s.n.Sign(s.n.Parameters(m.ID, from*Second), Body())
	}
	status := &recordv1.MeterStatus{
		Header: s.n.Header(record.SubjectMeter(m.ID)), MeterId: m.ID,
		Action: recordv1.MeterAction(1 + choice%6), EffectiveAtUnixNano: (s.n.NowUnix - int64(choice>>4)*600) * Second,
	}
	if choice%6 == 2 || choice%6 == 3 { // broken seal, compromised key: rarer, they bar the meter for ever
		if s.next()%4 != 0 {
			status.Action = recordv1.MeterAction_METER_ACTION_RESUME
		}
	}
	if status.Action == recordv1.MeterAction_METER_ACTION_VERIFIED {
		status.Verification = &recordv1.Verification{
			Certificate: "again", ValidFromUnixNano: (GenesisUnix - 86_400) * Second, ValidUntilUnixNano: (GenesisUnix + 400*86_400) * Second,
		}
	}
	if choice == 255 {
		return s.n.Sign(status, Root(OrganisationID(0)))
	}
	return s.n.Sign(status, Body())
}

// administrative is a statement on the module, a node or a meter's key.
func (s *Script) administrative(m *Meter) []byte {
	n, choice := s.n, s.next()
	switch choice % 6 {
	case 0:
		a := n.Terms()
		a.NotAfterUnix += int64(choice)
		return n.SignApproval(a, Body(), Maker())
	case 1:
		if choice > 200 { // rarer: the module's successor, approved first
			if choice > 228 {
				return n.supersede()
			}
			other := *n
			other.Algorithm = successor
			return other.SignApproval(other.Terms(), Body(), Maker())
		}
		action := recordv1.AlgorithmAction(1 + (choice/6)%2) // suspend, resume
		return n.Sign(&recordv1.AlgorithmStatus{
			Header: n.Header(record.SubjectAlgorithm(n.Algorithm)), Algorithm: n.Algorithm.Bytes(),
			Action: action, EffectiveAtUnixNano: n.NowUnix * Second,
		}, Body())
	case 2:
		i := slices.Index(s.meters, m)
		return n.Sign(&recordv1.MeterKeyRollover{
			Header: n.Header(record.SubjectMeter(m.ID)), MeterId: m.ID,
			Key: Tagged(signature.Ed25519ZIP215, s.spare[i]), FirstCounter: m.Counter + uint64(choice/6)%3,
		}, Body(), m.Key)
	case 3:
		if choice > 128 {
			v := n.Table("br")
			v.ValidFromUnixNano += (int64(choice) - 160) * Second // some reach back
			return n.Sign(v, Body())
		}
		return n.Sign(n.MeterRegistration("meter-d", Key("meter-d")), Body())
	case 4: // an endorser's new registration, or its end
		node := n.Endorsers[len(n.Endorsers)-1]
		if choice > 128 {
			return n.Sign(&recordv1.NodeRevocation{Header: n.Header(record.SubjectNode(node.ID)), NodeId: node.ID, Reason: "script"}, Root(node.Organisation))
		}
		h := n.Header(record.SubjectNode(node.ID))
		registration := n.Registration(node, h.Sequence, digest.Zero)
		registration.Header = h
		return n.Sign(registration, Root(node.Organisation))
	default:
		if choice > 200 {
			return n.Erasure(digest.Of(digest.Evidence, []byte{choice % 4}), OrganisationID(int(choice/4)%2))
		}
		if choice > 160 { // raw vectors of some of the oldest blocks: the next ones, or too young
			below := uint64(choice%4) + 1
			if newest, err := state.NewestExpiry(n.Store); err == nil {
				below += newest.GetBelowHeight()
			}
			return n.Expiry(min(below, n.Store.Head().Height+1), OrganisationID(0), OrganisationID(1), OrganisationID(2))
		}
		joining := NewReplica("replica-04", OrganisationID(3))
		return n.Sign(n.Registration(joining.Node, 1, digest.Zero), Root(joining.Organisation))
	}
}

// successor is the module that the script's takes its place by.
var successor = digest.Plain([]byte("statetest successor"))

func (n *Network) supersede() []byte {
	return n.Sign(&recordv1.AlgorithmStatus{
		Header: n.Header(record.SubjectAlgorithm(n.Algorithm)), Algorithm: n.Algorithm.Bytes(), Successor: successor.Bytes(),
		Action: recordv1.AlgorithmAction_ALGORITHM_ACTION_SUPERSEDE, EffectiveAtUnixNano: n.NowUnix * Second,
	}, Body())
}

// configuration changes a limit or a replica, by a majority or by too few.
func (s *Script) configuration() []byte {
	n, choice := s.n, s.next()
	config, err := state.GetConfig(n.Store)
	n.must(err)
	c := config.Message
	c.Header = n.Header(record.SubjectNetwork)
	if choice%2 == 0 {
		c.Limits.LatenessBoundNano = int64(1+choice) * 600 * Second
		c.Limits.MaxMissingRanges = 1 + uint32(choice)%8
		c.Limits.RawVectorRetentionNano = int64(choice) % 3 * 600 * Second
	} else {
		joining := NewReplica("replica-04", OrganisationID(3))
		if !slices.ContainsFunc(s.replicas, func(r Replica) bool { return r.ID == joining.ID }) {
			s.replicas = append(slices.Clone(s.replicas), joining)
		}
		c.Replicas[3] = joining.Message()
	}
	roots := []crypto.Signer{Root(OrganisationID(0)), Root(OrganisationID(1)), Root(OrganisationID(2))}
	if choice > 240 {
		roots = roots[:1]
	}
	return n.Sign(c, roots...)
}

// event reports two samples of the meter's next counter.
func (s *Script) event(m *Meter) {
	s.submit(0)
	n := s.n
	report := &recordv1.EventReport{
		NetworkId: n.ID.Bytes(), Reporter: n.Endorsers[0].ID, Kind: recordv1.EventKind_EVENT_KIND_METER_EQUIVOCATION,
		Subject: record.SubjectMeter(m.ID), Counter: m.Counter, Detail: "script",
	}
	flags := uint32(s.next())
	for _, c := range []*Capture{s.of(m).Peek(), s.of(m).Peek(func(h *sample.Header) { h.StatusFlags = flags })} {
		signed, err := wire.Encode(&recordv1.SignedSample{Header: c.Sample.Bytes, Signature: c.Signature})
		n.must(err)
		report.Evidence = append(report.Evidence, signed)
	}
	leaf, err := record.SignEvent(n.Endorsers[0].Key, signature.Ed25519ZIP215, report)
	n.must(err)
	s.block.Submissions = append(s.block.Submissions, RawSubmission{Records: [][]byte{leaf}})
}
