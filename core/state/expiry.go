package state

import (
	"sort"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

// rawVectorExpiry lets the raw vectors of all blocks below a height go
// (docs/adr/0017). It names the last of them by its header's digest, and so, through
// the chain of headers, every digest before it: whoever signs knows the ledger that
// the decision is about. Decisions only ever go on; none brings anything back.
//
// The retention that counts is that of the configuration in force when the decision
// is recorded, for all blocks alike: a configuration that lengthens it protects what
// is there, one that shortens it lets go of it, and both take a majority of the root
// keys, as the decision itself does.
type rawVectorExpiry struct{ *recordv1.RawVectorExpiry }

func (e rawVectorExpiry) check(st *statement) error {
	if err := st.wantSubject(record.SubjectRawVectors); err != nil {
		return err
	}
	if e.GetBelowHeight() == 0 {
		return reason.New(reason.Malformed, "raw vectors below block 0: there are none")
	}
	if _, err := record.Digest32("last_block", e.GetLastBlock()); err != nil {
		return err
	}
	if e.GetRule() == "" {
		return reason.New(reason.Malformed, "an expiry names the rule that demands or allows it")
	}
	return checkText("rule", e.GetRule(), MaxReason)
}

func (e rawVectorExpiry) authority(_ *reader, config *Config) ([]signers, error) {
	return []signers{majority(config.Message)}, nil
}

func (e rawVectorExpiry) apply(b *Block, st *statement, ref *statev1.StatementRef) error {
	before, err := b.newestExpiry()
	if err != nil {
		return err
	}
	if e.GetBelowHeight() <= before.GetBelowHeight() {
		return reason.New(reason.InvalidStatement, "raw vectors below block %d would expire, those below block %d did by leaf %d",
			e.GetBelowHeight(), before.GetBelowHeight(), before.GetLast().GetIndex())
	}
	if err := e.judgeBlock(b); err != nil {
		return err
	}
	decision := &statev1.RawExpiry{
		Last: ref, BelowHeight: e.GetBelowHeight(), Height: b.height, Rule: e.GetRule(),
	}
	for _, o := range b.config.Message.GetOrganisations() {
		if signedBy(st.envelope, storedKey(o.GetRootKey())) {
			decision.Organisations = append(decision.Organisations, o.GetId())
		}
	}
	b.putMessage(KeyExpiry, decision)
	b.putMessage(expiryKey(ref.GetSequence()), decision)
	return nil
}

// judgeBlock holds the last block whose raw vectors may go to the chain and to the
// retention. A follower of administrative records knows the newest blocks only;
// replicas and auditors judged it.
func (e rawVectorExpiry) judgeBlock(b *Block) error {
	retention := b.config.Message.GetLimits().GetRawVectorRetentionNano()
	if retention == 0 {
		return reason.New(reason.RetentionNotOver, "configuration %d keeps raw vectors for ever: it sets no retention", b.config.sequence)
	}
	if b.administrative {
		return nil
	}
	height := e.GetBelowHeight() - 1
	if height >= b.height {
		return reason.New(reason.UnknownBlock, "raw vectors of block %d would expire, this is block %d", height, b.height)
	}
	last, ok, err := b.view.Block(height)
	if err != nil {
		return err
	}
	if !ok {
		return corrupt("block %d is missing below head %d", height, b.head.Height)
	}
	if named := digest.Digest(e.GetLastBlock()); named != last.Header {
		return reason.New(reason.UnknownBlock, "block %d is named with header %s, this ledger has %s there", height, named.Short(), last.Header.Short())
	}
	if age := b.blockTimeUnixNano - last.BlockTimeUnixNano; age < retention {
		return reason.New(reason.RetentionNotOver, "block %d is %s old by the ledger's time, configuration %d keeps raw vectors for %s",
			height, time.Duration(age), b.config.sequence, time.Duration(retention))
	}
	return nil
}

// NewestExpiry is the newest decision that raw vectors expire; nil without one.
func NewestExpiry(view View) (*statev1.RawExpiry, error) { return newReader(view).newestExpiry() }

func (r *reader) newestExpiry() (*statev1.RawExpiry, error) {
	return message[statev1.RawExpiry](r, KeyExpiry)
}

// ExpiryOf is the decision that let the raw vectors of a block go, the first of
// those that cover it; nil if none does.
func ExpiryOf(view View, height uint64) (*statev1.RawExpiry, error) {
	r := newReader(view)
	newest, err := r.newestExpiry()
	if err != nil || height >= newest.GetBelowHeight() {
		return nil, err
	}
	last := newest.GetLast().GetSequence()
	covering := newest
	sort.Search(int(min(last, maxSequence)), func(i int) bool {
		if err != nil {
			return true
		}
		var d *statev1.RawExpiry
		if d, err = r.expiryAt(uint64(i) + 1); err != nil || height >= d.GetBelowHeight() {
			return false
		}
		covering = d
		return true
	})
	return covering, err
}

// maxSequence keeps a damaged number of decisions from overflowing an int.
const maxSequence = 1 << 31

// Expiries are all decisions that raw vectors expire, in their order.
func Expiries(view View) ([]*statev1.RawExpiry, error) {
	r := newReader(view)
	newest, err := r.newestExpiry()
	if err != nil {
		return nil, err
	}
	var list []*statev1.RawExpiry
	for sequence := uint64(1); sequence <= newest.GetLast().GetSequence(); sequence++ {
		d, err := r.expiryAt(sequence)
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	return list, nil
}

func (r *reader) expiryAt(sequence uint64) (*statev1.RawExpiry, error) {
	d, err := message[statev1.RawExpiry](r, expiryKey(sequence))
	if err == nil && d == nil {
		err = corrupt("decision %d on raw vectors is missing", sequence)
	}
	return d, err
}
