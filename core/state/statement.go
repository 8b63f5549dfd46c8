package state

import (
	"bytes"
	"errors"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

// MaxReason bounds the words of a statement for people, in bytes.
const MaxReason = 256

// statement is a decoded administrative record.
type statement struct {
	envelope    *envelope.Envelope
	digest      digest.Digest
	network     digest.Digest // zero only in a first configuration
	subject     string
	sequence    uint64
	predecessor digest.Digest // zero only in the first on its subject
	body        statementBody
}

// statementBody is one kind of statement. Errors are *reason.Error, or failures
// to read the state.
type statementBody interface {
	// authority says who must have signed. config is nil before genesis. The
	// body is not checked yet.
	authority(r *reader, config *Config) ([]signers, error)
	// check says what needs no state. It tests keys, which is dear, and so
	// comes after the signatures.
	check(st *statement) error
	// apply decides and, only if it accepts, writes.
	apply(b *Block, st *statement, ref *statev1.StatementRef) error
}

// signers must have signed: enough keys of any one of the sets.
type signers struct {
	who  string // for messages
	sets []keySet
	// proof: the statement names this key, and its signature proves that somebody
	// holds it. What else is wrong with the key is said first.
	proof bool
}

// keySet is keys of which at least so many must have signed.
type keySet struct {
	keys    []signature.Key
	atLeast int
}

// oneOf is a group of one set, one key of which suffices.
func oneOf(who string, keys ...signature.Key) signers {
	return signers{who: who, sets: []keySet{{keys: keys, atLeast: 1}}}
}

// provesItself is the group of a key that the statement itself names.
func provesItself(who string, tagged []byte) signers {
	g := oneOf(who, asStatementKey(storedKey(tagged)))
	g.proof = true
	return g
}

// headed is a message with a statement header.
type headed interface {
	proto.Message
	GetHeader() *recordv1.StatementHeader
}

// protobufStatements are the statements that are protobuf messages.
var protobufStatements = map[string]func() (headed, statementBody){
	record.TypeNetworkConfig: func() (headed, statementBody) {
		m := new(recordv1.NetworkConfig)
		return m, networkConfig{m}
	},
	record.TypeNodeRegistration: func() (headed, statementBody) {
		m := new(recordv1.NodeRegistration)
		return m, nodeRegistration{m}
	},
	record.TypeNodeRevocation: func() (headed, statementBody) {
		m := new(recordv1.NodeRevocation)
		return m, nodeRevocation{m}
	},
	record.TypeAlgorithmStatus: func() (headed, statementBody) {
		m := new(recordv1.AlgorithmStatus)
		return m, algorithmStatus{m}
	},
	record.TypeMeterRegistration: func() (headed, statementBody) {
		m := new(recordv1.MeterRegistration)
		return m, meterRegistration{m}
	},
	record.TypeMeterParameters: func() (headed, statementBody) {
		m := new(recordv1.MeterParameters)
		return m, meterParameters{m}
	},
	record.TypeMeterStatus: func() (headed, statementBody) {
		m := new(recordv1.MeterStatus)
		return m, meterStatus{m}
	},
	record.TypeNationalTable: func() (headed, statementBody) {
		m := new(recordv1.NationalTable)
		return m, nationalTable{m}
	},
	record.TypeCanaryCommitment: func() (headed, statementBody) {
		m := new(recordv1.CanaryCommitment)
		return m, canaryCommitment{m}
	},
	record.TypeCanaryReveal: func() (headed, statementBody) {
		m := new(recordv1.CanaryReveal)
		return m, canaryReveal{m}
	},
	record.TypeMeterKeyRollover: func() (headed, statementBody) {
		m := new(recordv1.MeterKeyRollover)
		return m, meterKeyRollover{m}
	},
	record.TypeEvidenceErasure: func() (headed, statementBody) {
		m := new(recordv1.EvidenceErasure)
		return m, evidenceErasure{m}
	},
	record.TypeRawVectorExpiry: func() (headed, statementBody) {
		m := new(recordv1.RawVectorExpiry)
		return m, rawVectorExpiry{m}
	},
}

func parseStatement(m *recordv1.Envelope) (*statement, error) {
	e := record.ToEnvelope(m)
	if err := e.Check(); err != nil {
		return nil, reason.New(reason.Malformed, "%v", err)
	}
	st := &statement{envelope: e, digest: e.Digest()}
	if e.PayloadType == record.TypeApproval {
		a, err := approval.Parse(e.Payload)
		if err != nil {
			return nil, err
		}
		st.network, st.subject, st.sequence, st.predecessor = a.NetworkID, a.Subject(), a.Sequence, a.Predecessor
		st.body = algorithmApproval{a}
	} else {
		makeBody, ok := protobufStatements[e.PayloadType]
		if !ok {
			return nil, reason.New(reason.Malformed, "no statement has the type %q", e.PayloadType)
		}
		m, body := makeBody()
		if err := record.Decode(e.Payload, record.MaxBytes, m); err != nil {
			return nil, err
		}
		st.body = body
		if err := st.readHeader(m.GetHeader()); err != nil {
			return nil, err
		}
	}
	return st, nil
}

// readHeader takes the place in the chain of a protobuf statement (rule S4).
func (st *statement) readHeader(h *recordv1.StatementHeader) error {
	st.subject, st.sequence = h.GetSubject(), h.GetSequence()
	if st.sequence == 0 {
		return reason.New(reason.Malformed, "statement on %.80q has no sequence; they begin at 1", st.subject)
	}
	if (st.sequence == 1) != (len(h.GetPredecessor()) == 0) {
		return reason.New(reason.Malformed, "statement %d on %.80q with a predecessor of %d bytes; only the first has none", st.sequence, st.subject, len(h.GetPredecessor()))
	}
	var err error
	if st.sequence > 1 {
		if st.predecessor, err = record.Digest32("predecessor", h.GetPredecessor()); err != nil {
			return err
		}
	}
	if st.config() != nil && st.sequence == 1 {
		if len(h.GetNetworkId()) != 0 {
			return reason.New(reason.Malformed, "a genesis configuration founds its network and cannot name it")
		}
		return nil
	}
	st.network, err = record.Digest32("network_id", h.GetNetworkId())
	return err
}

// CheckStatement says whether a protobuf statement that nobody has signed yet
// holds what can be known without the state: its header's form, its subject,
// its keys and bounds (of a configuration, the arithmetic of rule C6). It
// panics on another message.
func CheckStatement(m proto.Message) error {
	payload, err := wire.Encode(m)
	if err != nil {
		return err
	}
	into, body := protobufStatements[record.TypeOf(m)]()
	if err := record.Decode(payload, record.MaxBytes, into); err != nil {
		return err
	}
	st := &statement{body: body}
	if err := st.readHeader(into.GetHeader()); err != nil {
		return err
	}
	return body.check(st)
}

// config is the configuration that the statement is; nil for another kind.
func (st *statement) config() *recordv1.NetworkConfig {
	if c, ok := st.body.(networkConfig); ok {
		return c.NetworkConfig
	}
	return nil
}

// wantSubject is the check that a statement is about what it names.
func (st *statement) wantSubject(subject string) error {
	if st.subject != subject {
		return reason.New(reason.Malformed, "statement has the subject %.80q and is about %q", st.subject, subject)
	}
	return nil
}

// submitStatement decides one administrative record (rule S4).
func (b *Block) submitStatement(it *item) (Outcome, error) {
	st := it.statement
	ref := &statev1.StatementRef{Sequence: st.sequence, Digest: st.digest.Bytes(), Index: b.nextIndex()}
	if err := b.judgeStatement(st, ref); err != nil {
		var earlier *earlierError
		if errors.As(err, &earlier) {
			return earlier.outcome(), nil
		}
		return settle(err)
	}
	index := b.append(it.bytes)
	b.admin = ChainAdmin(b.admin, it.bytes)
	return Outcome{Accepted: true, Index: index}, nil
}

func (b *Block) judgeStatement(st *statement, ref *statev1.StatementRef) error {
	last, err := b.lastStatement(st.subject)
	if err != nil {
		return err
	}
	if last != nil && bytes.Equal(last.GetDigest(), st.digest[:]) {
		return &earlierError{reason.New(reason.Duplicate, "statement %s is leaf %d already", st.digest.Short(), last.GetIndex()), last.GetIndex()}
	}
	if b.config == nil && st.config() == nil {
		return reason.New(reason.WrongPlace, "a ledger begins with its network configuration, this is %q", st.envelope.PayloadType)
	}
	if b.config != nil && st.network != b.config.NetworkID {
		return reason.New(reason.WrongNetwork, "statement is for network %s, this is %s", st.network.Short(), b.config.NetworkID.Short())
	}
	if next := last.GetSequence() + 1; st.sequence != next || !bytes.Equal(st.predecessor[:], orZero(last.GetDigest())) {
		return reason.New(reason.OutOfSequence, "statement %d on %s after %s, the next is %d after %s",
			st.sequence, st.subject, st.predecessor.Short(), next, shortOf(last.GetDigest()))
	}
	groups, err := st.body.authority(b.reader, b.config)
	if err != nil {
		return err
	}
	needed, err := b.authorise(st.envelope, groups)
	if err != nil {
		return err
	}
	if err := st.body.check(st); err != nil {
		return err
	}
	if err := proven(st.envelope, groups, needed); err != nil {
		return err
	}
	return st.body.apply(b, st, ref)
}

// proven wants a signature, which authorise has verified, of each key that the
// statement names, beside the needed ones.
func proven(e *envelope.Envelope, groups []signers, needed int) error {
	proofs := 0
	for _, g := range groups {
		if !g.proof {
			continue
		}
		if proofs++; !signedBy(e, g.sets[0].keys[0]) {
			return reason.New(reason.NotAuthorised, "%s has not signed: whoever names a key proves that it is held", g.who)
		}
	}
	if proofs > 0 && len(e.Signatures) < proofs+needed {
		return reason.New(reason.NotAuthorised, "%d signatures, it takes %s and of each key that is named, by different keys", len(e.Signatures), describe(groups))
	}
	return nil
}

// authorise wants every signature to be of a key of one of the groups and to
// verify, enough of each group, and no key counted for two of them. It returns
// how many that takes. Proofs are judged by proven.
func (b *Block) authorise(e *envelope.Envelope, groups []signers) (needed int, err error) {
	signed, ring := make([][]int, len(groups)), newKeyring(groups)
	for g := range groups {
		signed[g] = make([]int, len(groups[g].sets))
	}
	for _, s := range e.Signatures {
		k, ok := ring[s.KeyID]
		if !ok {
			return 0, reason.New(reason.NotAuthorised, "key %.8s.. may not sign this; it takes %s", s.KeyID, describe(groups))
		}
		if !b.verifier.Verify(k.key.Kind(), k.key, e.PAE(), s.Sig) {
			return 0, reason.New(reason.BadSignature, "the signature of %v does not verify", k.key)
		}
		for _, p := range k.places {
			signed[p.group][p.set]++
		}
	}
	for g := range groups {
		least, most := 0, 0 // signatures of the smallest set that has enough; of the one with most
		for i, set := range groups[g].sets {
			most = max(most, signed[g][i])
			if signed[g][i] >= set.atLeast && (least == 0 || set.atLeast < least) {
				least = set.atLeast
			}
		}
		if groups[g].proof {
			continue
		}
		if least == 0 && !groups[g].optional() {
			return 0, reason.New(reason.NotAuthorised, "%d signatures of %s, it takes %s", most, groups[g].who, describe(groups))
		}
		needed += least
	}
	if len(e.Signatures) < needed {
		return 0, reason.New(reason.NotAuthorised, "%d signatures, it takes %s, by different keys", len(e.Signatures), describe(groups))
	}
	return needed, nil
}

// keyring finds, by key id, the keys that may sign a statement and the groups
// that each is of.
type keyring map[string]ringKey

type ringKey struct {
	key    signature.Key
	places []place // each once
}

// place is a set of a group.
type place struct{ group, set int }

func newKeyring(groups []signers) keyring {
	ring := make(keyring)
	for g := range groups {
		for i, set := range groups[g].sets {
			for _, key := range set.keys {
				if key.IsZero() {
					continue
				}
				k, here := ring[key.ID()], place{g, i}
				if !slices.Contains(k.places, here) {
					ring[key.ID()] = ringKey{key: key, places: append(k.places, here)}
				}
			}
		}
	}
	return ring
}

// optional is a group that may sign and need not.
func (s *signers) optional() bool {
	return len(s.sets) > 0 && !slices.ContainsFunc(s.sets, func(set keySet) bool { return set.atLeast > 0 })
}

func describe(groups []signers) string {
	text := ""
	for _, g := range groups {
		if g.proof {
			continue
		}
		if text != "" {
			text += " and "
		}
		for j, set := range g.sets {
			if j == 0 || set.atLeast != g.sets[j-1].atLeast {
				if j > 0 {
					text += " or "
				}
				text += itoa(set.atLeast)
			}
		}
		text += " of " + g.who
	}
	return text
}

// earlierError refuses what an earlier leaf already says.
type earlierError struct {
	refusal *reason.Error
	index   uint64 // of that leaf
}

func (e *earlierError) Error() string { return e.refusal.Error() }

// Unwrap makes it a *reason.Error too.
func (e *earlierError) Unwrap() error { return e.refusal }

func (e *earlierError) outcome() Outcome {
	o := refusal(e.refusal)
	o.Index = e.index
	return o
}

// checkKey checks a tagged key that a statement registers (rule B3).
func checkKey(what string, tagged []byte, kinds ...signature.Kind) error {
	key, err := signature.ParseKey(tagged)
	if err != nil {
		return reason.New(reason.Malformed, "%s: %v", what, err)
	}
	allowed := false
	for _, kind := range kinds {
		allowed = allowed || key.Kind() == kind
	}
	if !allowed {
		return reason.New(reason.WeakKey, "%s is of kind %v, want one of %v", what, key.Kind(), kinds)
	}
	if err := signature.CheckKey(key); err != nil {
		return reason.New(reason.WeakKey, "%s: %v", what, err)
	}
	return nil
}

// takeKey says whether a subject may use a key that must be its own: one key
// under two names would count twice. A key once used is never free again.
func (r *reader) takeKey(stateKey, what, subject string) error {
	owner, err := r.raw(stateKey)
	if err != nil {
		return err
	}
	if owner != nil && string(owner) != subject {
		return reason.New(reason.KeyInUse, "%s is that of %s already", what, owner)
	}
	return nil
}

func signedByKey(tagged []byte) string {
	d := digest.Of(digest.PublicKey, tagged)
	return PrefixSignedBy + string(d[:])
}

func checkSPKI(spki []byte) error {
	if len(spki) != digest.Size {
		return reason.New(reason.Malformed, "tls_spki has %d bytes, want %d", len(spki), digest.Size)
	}
	return nil
}

func checkText(what, text string, limit int) error {
	if len(text) > limit {
		return reason.New(reason.TooLarge, "%s has %d bytes, the limit is %d", what, len(text), limit)
	}
	return nil
}
