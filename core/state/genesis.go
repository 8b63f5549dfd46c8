package state

import (
	"fmt"

	"github.com/lacre-metrology/lacre/core/reason"
)

// Genesis founds a ledger: block 0 of these statements, of which the first is
// the network's configuration (signed by a majority of its own organisations),
// and the others register at least its replicas. The network id is the
// configuration's statement digest. The time, in nanoseconds since 1970, is the
// founders' word; no certificate vouches for it. Seal it at once: an error says
// which record is refused and why.
func Genesis(records [][]byte, blockTimeUnixNano int64, opts Options) (*Block, error) {
	b := newGenesis(blockTimeUnixNano, opts)
	for i, leaf := range records {
		outcomes, err := b.Submit(ParseSubmission([][]byte{leaf}, nil))
		if err != nil {
			return nil, err
		}
		if o := outcomes[0]; !o.Accepted {
			return nil, fmt.Errorf("genesis record %d: %w", i, &reason.Error{Reason: o.Reason, Detail: o.Detail})
		}
	}
	if err := b.checkFounded(); err != nil {
		return nil, err
	}
	return b, nil
}

func newGenesis(blockTimeUnixNano int64, opts Options) *Block {
	b := newBlock(nothing{}, opts)
	b.founding = true
	b.blockTimeUnixNano = blockTimeUnixNano
	return b
}

// checkFounded says whether the records so far make a network.
func (b *Block) checkFounded() error {
	if b.config == nil {
		return fmt.Errorf("genesis: %w", reason.New(reason.WrongPlace, "a ledger begins with its network configuration"))
	}
	if b.blockTimeUnixNano <= 0 {
		return fmt.Errorf("genesis: %w", reason.New(reason.InvalidStatement, "block time of %d ns, want one after 1970", b.blockTimeUnixNano))
	}
	if err := b.checkReplicasRegistered(b.config.Message); err != nil {
		return fmt.Errorf("genesis: %w", err)
	}
	return nil
}

// nothing is the view before genesis.
type nothing struct{}

func (nothing) Get([]byte) ([]byte, error)           { return nil, nil }
func (nothing) Block(uint64) (BlockRef, bool, error) { return BlockRef{}, false, nil }
func (nothing) Record(index uint64) ([]byte, error) {
	return nil, fmt.Errorf("leaf %d of an empty ledger", index)
}
