package certify

import (
	"context"
	"fmt"
	"sync"

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

// Collector gathers cosignatures. It is safe for concurrent use.
type Collector struct {
	quorum func(height uint64) (*state.Quorum, error)
	keep   func(Certified) // called once for each height that is certified, ascending; must not block
	alarm  func(error)     // another replica cosigned another tree

	mu        sync.Mutex
	blocks    map[uint64]*pending // above the newest certified height, and that one itself
	applied   uint64
	seen      map[string]uint64 // highest height cosigned, by cosigner name (rule C7)
	newest    Certified         // first certificate of the newest certified height
	fresh     []byte            // the same block under the newest time stamps
	announced chan struct{}     // closed and replaced when newest changes
}

type pending struct {
	ref    *state.BlockRef // nil until this replica applied the block
	log    *tlog.LogSignature
	voices map[string]Signed // by cosigner name, the newest of each
}

// NewCollector starts from the newest certificate on disk and the blocks applied after it.
func NewCollector(newest Certified, quorum func(height uint64) (*state.Quorum, error), keep func(Certified), alarm func(error)) *Collector {
	c := &Collector{
		quorum: quorum, keep: keep, alarm: alarm,
		blocks:  map[uint64]*pending{newest.Block.Height: {ref: &newest.Block, voices: map[string]Signed{}}},
		applied: newest.Block.Height, newest: newest, fresh: newest.Text,
		announced: make(chan struct{}), seen: make(map[string]uint64),
	}
	if certificate, err := tlog.ParseCertificate(newest.Text); err == nil {
		for _, s := range certificate.Cosignatures {
			c.seen[s.Name] = newest.Block.Height
		}
	}
	return c
}

// Applied tells that this replica committed a block; own is its cosignature, or
// nil while it keeps quiet. Calls ascend by one height.
func (c *Collector) Applied(block state.BlockRef, own *Signed) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.at(block.Height)
	p.ref = &block
	c.applied = max(c.applied, block.Height)
	if own != nil {
		p.voices[own.Cosignature.Name] = *own
		p.log = &own.Log
	}
	for name, s := range p.voices {
		if !sameTree(s.Checkpoint, block) {
			delete(p.voices, name)
			c.alarm(disagreement(s, block))
		}
	}
	return c.settle(block.Height)
}

// Receive takes another replica's cosignature after checking it. One for a
// block that is certified already, or far ahead, is dropped without an error.
func (c *Collector) Receive(s Signed) error {
	c.mu.Lock()
	certified, applied := c.newest.Block.Height, c.applied
	c.mu.Unlock()
	if s.Height < certified || s.Height > applied+ahead {
		return nil
	}
	// The quorum of a height above our head is that of the head: a changed set
	// is asked again in settle, once the block is applied.
	quorum, err := c.quorum(min(s.Height, applied))
	if err != nil {
		return err
	}
	key, ok := quorum.Cosigner(s.Cosignature.Name)
	if !ok {
		return reason.New(reason.NotAuthorised, "cosigner %q is not a replica at height %d", s.Cosignature.Name, s.Height)
	}
	if err := s.Cosignature.Verify(signature.Direct{}, key, s.Checkpoint); err != nil {
		return reason.New(reason.BadSignature, "%v", err)
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if s.Height < c.newest.Block.Height {
		return nil
	}
	p := c.at(s.Height)
	if p.ref != nil && !sameTree(s.Checkpoint, *p.ref) {
		err := disagreement(s, *p.ref)
		c.alarm(err)
		return err
	}
	if old, ok := p.voices[s.Cosignature.Name]; ok && old.Cosignature.TimestampUnix >= s.Cosignature.TimestampUnix {
		return nil
	}
	p.voices[s.Cosignature.Name] = s
	c.seen[s.Cosignature.Name] = max(c.seen[s.Cosignature.Name], s.Height)
	return c.settle(s.Height)
}

// settle certifies the height if its quorum is reached. The caller holds mu.
func (c *Collector) settle(height uint64) error {
	p := c.blocks[height]
	if p == nil || p.ref == nil || p.log == nil && height != c.newest.Block.Height || height < c.newest.Block.Height {
		return nil
	}
	quorum, err := c.quorum(height)
	if err != nil {
		return err
	}
	collected := make([]tlog.Cosignature, 0, len(p.voices))
	for _, s := range p.voices {
		collected = append(collected, s.Cosignature)
	}
	log := p.log
	if log == nil {
		return nil
	}
	checkpoint := tlog.Checkpoint{Origin: log.Name, Size: p.ref.Size, Root: p.ref.Root}
	certificate, err := quorum.Assemble(checkpoint, *log, collected)
	if err != nil {
		return nil // not yet
	}
	text := certificate.Text()
	c.fresh = text
	if height == c.newest.Block.Height && len(c.newest.Text) > 0 {
		return nil // the first certificate of a height stands; this one is fresher
	}
	c.newest = Certified{Block: *p.ref, Text: text}
	for h := range c.blocks {
		if h < height {
			delete(c.blocks, h)
		}
	}
	c.keep(c.newest)
	close(c.announced)
	c.announced = make(chan struct{})
	return nil
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

// Seen is the highest height for which this replica ever saw a cosignature of
// name (rule C7). Known hole: after this replica's own restart it is what the
// newest certificate on disk shows.
func (c *Collector) Seen(name string) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[name]
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
	p.log = &own.Log
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

func sameTree(checkpoint tlog.Checkpoint, block state.BlockRef) bool {
	return checkpoint.Size == block.Size && checkpoint.Root == block.Root
}

func disagreement(s Signed, block state.BlockRef) error {
	return fmt.Errorf("replica %s cosigned size %d root %s as block %d, here it is size %d root %s",
		s.Cosignature.Name, s.Checkpoint.Size, s.Checkpoint.Root.Short(), block.Height, block.Size, block.Root.Short())
}
