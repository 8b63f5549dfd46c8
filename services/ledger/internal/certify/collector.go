package certify

import (
	"context"
	"sync"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
)

// ahead bounds for how many blocks above our own head cosignatures are kept.
const ahead = 256

// Certified is a block with its certificate.
type Certified struct {
	Block state.BlockRef
	Text  []byte // the certificate's canonical text; never changed
}

// Ledger is what the collector reads of this replica's own ledger.
type Ledger interface {
	// QuorumAt is the quorum of a height: of both sets where a block brought a
	// configuration (C6). member tells whether a verifier who knows the
	// configuration in force before that block knows this replica.
	QuorumAt(height uint64) (quorum *state.Quorum, member bool, err error)
	// Block is the block of a height; ok is false above the head.
	Block(height uint64) (ref state.BlockRef, ok bool, err error)
	// RootAt is the root of this replica's tree at a size; an error above it.
	RootAt(size uint64) (digest.Digest, error)
}

// Collector gathers cosignatures. It is safe for concurrent use.
type Collector struct {
	self     string // this replica's cosigner name
	ledger   Ledger
	keep     func(Certified) // called once for each height that is certified, ascending; must not block
	alarms   Alarms
	verifier signature.Verifier

	mu        sync.Mutex
	blocks    map[uint64]*pending // from the newest certified height upwards
	applied   uint64
	seen      map[string]uint64           // highest height cosigned, by cosigner name (rule C7)
	heard     map[string]uint64           // newest time stamp of a cosignature, by cosigner name, in seconds since the epoch
	raised    map[string]*DivergenceError // the newest, by cosigner name
	agreed    map[string]Signed           // the largest checkpoint of this replica's own tree that each cosigned
	against   map[string]Signed           // the newest that each cosigned and that is not this replica's block of that height
	blamed    map[string]bool             // double signers that were told of
	outvoted  bool
	newest    Certified     // first certificate of the newest certified height
	fresh     []byte        // the same block under the newest time stamps
	announced chan struct{} // closed and replaced when newest changes
}

type pending struct {
	ref    *state.BlockRef   // nil until this replica applied the block
	voices map[string]Signed // by cosigner name, the newest of each
}

// NewCollector starts from the newest certificate on disk; the blocks applied
// after it follow by Applied. self is this replica's cosigner name; verifier is the
// cache in which the next proposal's certificate finds its signatures (rule B4).
func NewCollector(self string, newest Certified, ledger Ledger, verifier signature.Verifier, keep func(Certified), alarms Alarms) *Collector {
	c := &Collector{
		self: self, ledger: ledger, verifier: verifier, keep: keep, alarms: alarms,
		blocks:  map[uint64]*pending{newest.Block.Height: {ref: &newest.Block, voices: map[string]Signed{}}},
		applied: newest.Block.Height, newest: newest, fresh: newest.Text,
		announced: make(chan struct{}), seen: make(map[string]uint64), heard: make(map[string]uint64), raised: make(map[string]*DivergenceError),
		agreed: make(map[string]Signed), against: make(map[string]Signed), blamed: make(map[string]bool),
	}
	if certificate, err := tlog.ParseCertificate(newest.Text); err == nil {
		for _, s := range certificate.Cosignatures {
			c.seen[s.Name], c.heard[s.Name] = newest.Block.Height, s.TimestampUnix
		}
	}
	return c
}

// Applied tells that this replica committed a block; own is its cosignature, or
// nil while it keeps quiet. Heights ascend.
func (c *Collector) Applied(block state.BlockRef, own *Signed) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.at(block.Height)
	p.ref = &block
	c.applied = max(c.applied, block.Height)
	if own != nil {
		p.voices[own.Cosignature.Name] = *own
		c.hear(*own)
	}
	for name, s := range p.voices {
		if err := c.judge(s, block); err != nil {
			delete(p.voices, name)
		}
	}
	return c.settle(block.Height)
}

// Adopt takes a certificate that the caller has verified and kept, of a block
// that this replica applied: whoever fetched blocks got it with them.
func (c *Collector) Adopt(certified Certified) {
	c.mu.Lock()
	defer c.mu.Unlock()
	height := certified.Block.Height
	if certificate, err := tlog.ParseCertificate(certified.Text); err == nil {
		for _, s := range certificate.Cosignatures {
			c.seen[s.Name] = max(c.seen[s.Name], height)
		}
	}
	if height < c.newest.Block.Height || height == c.newest.Block.Height && len(c.newest.Text) > 0 {
		return
	}
	c.applied = max(c.applied, height)
	c.at(height).ref = &certified.Block
	c.fresh = certified.Text
	c.advance(certified)
}

// advance makes a certified block the newest. The caller holds mu.
func (c *Collector) advance(certified Certified) {
	c.newest = certified
	for h := range c.blocks {
		if h < certified.Block.Height {
			delete(c.blocks, h)
		}
	}
	close(c.announced)
	c.announced = make(chan struct{})
}

// Receive takes another replica's cosignature after checking it. One that comes
// after its block was certified still counts as seen (C7) and is compared with
// this replica's own tree; one that is far ahead is dropped without an error.
func (c *Collector) Receive(s Signed) error {
	c.mu.Lock()
	applied := c.applied
	c.mu.Unlock()
	if s.Height > applied+ahead {
		return nil
	}
	// The quorum of a height above our head is taken to be the head's. Whoever
	// joins with a block that is not applied here is refused, and heard when he
	// refreshes his cosignature.
	quorum, _, err := c.ledger.QuorumAt(min(s.Height, applied))
	if err != nil {
		return err
	}
	key, ok := quorum.Cosigner(s.Cosignature.Name)
	if !ok {
		return reason.New(reason.NotAuthorised, "cosigner %q is not a replica at height %d", s.Cosignature.Name, s.Height)
	}
	if err := s.Cosignature.Verify(c.verifier, key, s.Checkpoint); err != nil {
		return reason.New(reason.BadSignature, "%v", err)
	}
	block, here, err := c.ledger.Block(s.Height)
	if err != nil {
		return err
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if here {
		if err := c.judge(s, block); err != nil {
			return err
		}
	}
	c.hear(s)
	if s.Height < c.newest.Block.Height {
		return nil
	}
	p := c.at(s.Height)
	if old, ok := p.voices[s.Cosignature.Name]; ok && old.Cosignature.TimestampUnix >= s.Cosignature.TimestampUnix {
		return nil
	}
	p.voices[s.Cosignature.Name] = s
	return c.settle(s.Height)
}

// settle certifies the height if its quorum is reached. The caller holds mu.
func (c *Collector) settle(height uint64) error {
	p := c.blocks[height]
	if p == nil || p.ref == nil || height < c.newest.Block.Height {
		return nil
	}
	quorum, member, err := c.ledger.QuorumAt(height)
	if err != nil {
		return err
	}
	certificate, err := c.assemble(quorum, member, p)
	if certificate == nil || err != nil {
		return err // nil while the quorum is not reached
	}
	text := certificate.Text()
	c.fresh = text
	if height == c.newest.Block.Height && len(c.newest.Text) > 0 {
		return nil // the first certificate of a height stands; this one is fresher
	}
	certified := Certified{Block: *p.ref, Text: text}
	c.keep(certified)
	c.advance(certified)
	return nil
}

// assemble makes the certificate, or nil while the quorum is not reached. Its
// log signature is this replica's own; that of another one while this replica
// keeps quiet (C7), or where verifiers do not know its key yet (C6).
func (c *Collector) assemble(quorum *state.Quorum, member bool, p *pending) (*tlog.Certificate, error) {
	collected := make([]tlog.Cosignature, 0, len(p.voices))
	for _, s := range p.voices {
		collected = append(collected, s.Cosignature)
	}
	checkpoint := tlog.Checkpoint{Origin: quorum.Origin(), Size: p.ref.Size, Root: p.ref.Root}
	own, signed := p.voices[c.self]
	if signed && member {
		certificate, err := quorum.Assemble(checkpoint, own.Log, collected)
		if err != nil {
			return nil, nil //nolint:nilerr // it says only that the quorum is not reached.
		}
		return certificate, nil
	}
	policies, err := quorum.Policies()
	if err != nil {
		return nil, err
	}
	for _, s := range p.voices {
		for _, key := range policies[0].Logs {
			if s.Log.Verify(c.verifier, key, checkpoint) != nil {
				continue
			}
			certificate, err := quorum.Assemble(checkpoint, s.Log, collected)
			if err != nil {
				return nil, nil //nolint:nilerr // it says only that the quorum is not reached.
			}
			return certificate, nil
		}
	}
	return nil, nil
}

// hear keeps how far a cosigner is. The caller holds mu and has checked the signature.
func (c *Collector) hear(s Signed) {
	name := s.Cosignature.Name
	c.seen[name] = max(c.seen[name], s.Height)
	c.heard[name] = max(c.heard[name], s.Cosignature.TimestampUnix)
}

// at is the pending entry of a height. The caller holds mu.
func (c *Collector) at(height uint64) *pending {
	p := c.blocks[height]
	if p == nil {
		p = &pending{voices: make(map[string]Signed)}
		c.blocks[height] = p
	}
	return p
}

// Newest is the newest certified block; Fresh is its certificate with the
// newest time stamps, which a proposal carries.
func (c *Collector) Newest() Certified {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.newest
}

// Fresh is the newest certified block under the newest time stamps.
func (c *Collector) Fresh() Certified {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Certified{Block: c.newest.Block, Text: c.fresh}
}

// Seen is the highest height for which this replica saw a cosignature of name
// (rule C7). Known hole: after this replica's own restart it is what the newest
// certificate on disk shows.
func (c *Collector) Seen(name string) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[name]
}

// Heard is the newest time stamp that this replica saw on a cosignature of name, in seconds since the epoch; 0 when it
// saw none. A replica that runs refreshes its cosignature each second.
func (c *Collector) Heard(name string) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.heard[name]
}

// Refreshed replaces this replica's own cosignature of a block by a newer one.
func (c *Collector) Refreshed(own Signed) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.blocks[own.Height]
	if p == nil || p.ref == nil {
		return nil // certified long ago
	}
	p.voices[own.Cosignature.Name] = own
	c.hear(own)
	return c.settle(own.Height)
}

// Changed is closed when the newest certified block changes.
func (c *Collector) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.announced
}

// Wait returns once the height is certified: rule C3 stands on this call. The
// error is a NOT_CERTIFIED when ctx ends first.
func (c *Collector) Wait(ctx context.Context, height uint64) (Certified, error) {
	for {
		c.mu.Lock()
		newest, changed := c.newest, c.announced
		c.mu.Unlock()
		if newest.Block.Height >= height && len(newest.Text) > 0 {
			return newest, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return newest, reason.New(reason.NotCertified, "block %d is applied, certified is %d: %v", height, newest.Block.Height, ctx.Err())
		}
	}
}
