package fsm

import (
	"errors"
	"fmt"

	"github.com/lacre-metrology/lacre/core/governance"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/trust"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

// errExpired says that a fetched block came without raw vectors, and that a replica
// is wanted that kept them.
var errExpired = errors.New("its raw vectors expired there")

// allowed wants a decision for each raw vector that a fetched block lacks: one that
// the state holds, or that the peer proves. So nothing is taken without its raw
// vectors on a peer's word, and a peer that withholds them is asked no more.
func (b *building) allowed(fetched *replicav1.FetchBlocksResponse) (lacking int, err error) {
	for _, v := range fetched.GetRawVectors() {
		if len(v) == 0 {
			lacking++
		}
	}
	height := fetched.GetHeight()
	if lacking == 0 || height < b.expiredBelow {
		return lacking, nil
	}
	if b.wantWhole {
		return 0, fmt.Errorf("block %d came without %d raw vectors: %w", height, lacking, errExpired)
	}
	held, err := state.NewestExpiry(b.pending)
	if err != nil {
		return 0, &ownError{err}
	}
	if b.expiredBelow = max(b.expiredBelow, held.GetBelowHeight()); height < b.expiredBelow {
		return lacking, nil
	}
	decision, err := b.provenExpiry(fetched.GetExpiry())
	if err != nil {
		return 0, fmt.Errorf("block %d came without %d raw vectors: %w", height, lacking, err)
	}
	if decision.GetBelowHeight() <= height {
		return 0, fmt.Errorf("block %d came without %d raw vectors, and the decision that is shown lets those below block %d go", height, lacking, decision.GetBelowHeight())
	}
	b.expiredBelow = decision.GetBelowHeight()
	return lacking, nil
}

// provenExpiry verifies what a peer shows from the genesis configuration.
func (m *Machine) provenExpiry(proof []byte) (*recordv1.RawVectorExpiry, error) {
	if len(proof) == 0 {
		return nil, errors.New("no decision is shown that lets them go")
	}
	p, err := governance.ParseExpiry(proof)
	if err != nil {
		return nil, err
	}
	founding, err := foundingTrust(m.store)
	if err != nil {
		return nil, &ownError{err}
	}
	return governance.VerifyExpiry(p, founding)
}

// foundingTrust is the trust bundle of whoever knows a ledger's genesis block alone.
func foundingTrust(store *storage.Store) (*trust.Bundle, error) {
	leaf, err := store.Record(0)
	if err != nil {
		return nil, err
	}
	r, err := record.Parse(leaf)
	if err != nil {
		return nil, err
	}
	payload, config := r.GetStatement().GetPayload(), new(recordv1.NetworkConfig)
	if err := record.Decode(payload, record.MaxBytes, config); err != nil {
		return nil, err
	}
	policy, err := state.PolicyOf(config, state.NetworkID(payload))
	if err != nil {
		return nil, err
	}
	return trust.New(trust.Epoch{Policy: policy})
}
