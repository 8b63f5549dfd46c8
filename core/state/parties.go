package state

import (
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/signature"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// Party is one whose signatures a statement takes.
type Party struct {
	Who     string
	Keys    []signature.Key // that may sign for it; those of several bodies where any of them may
	Signed  int             // of the body that lacks fewest
	Missing int             // before the ledger counts it as signed
}

// Parties says who must sign a statement under a configuration, and who has. It
// judges nothing else. The signatures that are there must each be by a key that
// may sign, and verify. Statements whose signers stand in the state (the old key
// of a rollover) are refused with the state's reason: the ledger alone knows
// them. The error is a *reason.Error.
func Parties(config *Config, e *envelope.Envelope) ([]Party, error) {
	return parties(newReader(nothing{}), config, e)
}

// PartiesIn is Parties by a state and its configuration in force, which know also
// the signers that stand in the state.
func PartiesIn(view View, e *envelope.Envelope) ([]Party, error) {
	r := newReader(view)
	config, err := r.loadConfig()
	if err != nil {
		return nil, err
	}
	if config == nil {
		return nil, reason.New(reason.NotReady, "no configuration is in force yet")
	}
	return parties(r, config, e)
}

func parties(r *reader, config *Config, e *envelope.Envelope) ([]Party, error) {
	st, err := parseStatement(&recordv1.Envelope{PayloadType: e.PayloadType, Payload: e.Payload, Signatures: placeholder})
	if err != nil {
		return nil, err
	}
	if (st.config() == nil || st.sequence > 1) && st.network != config.NetworkID {
		return nil, reason.New(reason.WrongNetwork, "statement is for network %s, the configuration is of %s", st.network.Short(), config.NetworkID.Short())
	}
	groups, err := st.body.authority(r, config)
	if err != nil {
		return nil, err
	}
	if err := checkSigned(e, newKeyring(groups)); err != nil {
		return nil, err
	}
	list := make([]Party, len(groups))
	for i, group := range groups {
		list[i] = partyOf(group, e)
	}
	return list, nil
}

// placeholder stands for the signatures of a draft: a statement without any has
// no wire form, and parsing looks at no signature.
var placeholder = []*recordv1.EnvelopeSignature{{KeyId: digest.Zero.String(), Signature: make([]byte, signature.Size)}}

// checkSigned wants each signature to be by a key of the ring and to verify.
func checkSigned(e *envelope.Envelope, ring keyring) error {
	for _, s := range e.Signatures {
		k, ok := ring[s.KeyID]
		if !ok {
			return reason.New(reason.NotAuthorised, "key %.8s.. may not sign this", s.KeyID)
		}
		if !signature.Verify(k.key.Kind(), k.key, e.PAE(), s.Sig) {
			return reason.New(reason.BadSignature, "the signature of %v does not verify", k.key)
		}
	}
	return nil
}

func partyOf(group signers, e *envelope.Envelope) Party {
	p := Party{Who: group.who, Missing: -1}
	for _, set := range group.sets {
		have := 0
		for _, key := range set.keys {
			if !key.IsZero() && signedBy(e, key) {
				have++
			}
		}
		p.Keys = append(p.Keys, set.keys...)
		if missing := max(0, set.atLeast-have); p.Missing < 0 || missing < p.Missing {
			p.Missing, p.Signed = missing, have
		}
	}
	p.Missing = max(p.Missing, 0)
	return p
}

func signedBy(e *envelope.Envelope, key signature.Key) bool {
	id := key.ID()
	for _, s := range e.Signatures {
		if s.KeyID == id {
			return true
		}
	}
	return false
}

// SubjectOf is the subject that a statement is about. The error is a
// *reason.Error for what is no statement.
func SubjectOf(e *envelope.Envelope) (string, error) {
	st, err := parseStatement(&recordv1.Envelope{PayloadType: e.PayloadType, Payload: e.Payload, Signatures: placeholder})
	if err != nil {
		return "", err
	}
	return st.subject, nil
}

// GenesisConfig is the configuration that a genesis founds, after its block was
// made as every replica makes it.
func GenesisConfig(genesis *recordv1.Genesis) (*Config, error) {
	b, err := Genesis(genesis.GetRecords(), genesis.GetBlockTimeUnixNano(), Options{})
	if err != nil {
		return nil, err
	}
	return b.config, nil
}
