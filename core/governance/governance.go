// Package governance verifies how a network was changed: every configuration from
// the first to the one in force, and so whose signatures count and which replicas
// certify. It is what extends a pinned trust bundle.
//
// Source: architecture, rules C6 and C8; lacre/record/v1/configurations.proto.
//
// Invariants:
//   - Nothing is believed but the pinned bundle. A configuration counts when it is
//     included in the tree of a certificate by the quorum of its own block: of the
//     old and the new replicas, of a recovery by the new alone.
//   - It names its predecessor, and a majority of the predecessor's root keys has
//     signed it, with every key that is new in it.
//   - A configuration is alone in its block, so the old replicas' last tree ends
//     two leaves above its index minus one: with it and its header. A recovery's
//     old replicas' last tree ends before it.
//   - The pinned bundle is a beginning of what the history gives, or the history is
//     refused with both sides.
package governance

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// MaxBytes bounds a history: as many configurations as a trust bundle has epochs,
// of which few are large.
const MaxBytes = 64 << 20

// Errors of Verify.
var (
	// ErrHistory: an item of the history is not what it must be.
	ErrHistory = errors.New("the history of configurations does not hold")
	// ErrFork: the history is proven, and the pinned bundle says otherwise.
	ErrFork = errors.New("the history of configurations contradicts the pinned trust bundle")
	// ErrGap: the pinned bundle knows configurations that the history lacks.
	ErrGap = errors.New("the history of configurations is older than the pinned trust bundle")
)

// Configuration is one of a network's.
type Configuration struct {
	Message  *recordv1.NetworkConfig
	Envelope *envelope.Envelope
	Digest   digest.Digest
	Index    uint64 // of its leaf
}

// History is verified. Make it with Verify; it is not changed.
type History struct {
	NetworkID      digest.Digest
	Configurations []Configuration // by sequence, the first founded the network
	Trust          *trust.Bundle   // the pinned one, extended
}

// Parse reads a history's exact bytes. The error is a *reason.Error.
func Parse(b []byte) (*recordv1.ConfigurationHistory, error) {
	h := new(recordv1.ConfigurationHistory)
	return h, record.Decode(b, MaxBytes, h)
}

// Encode is its inverse.
func Encode(h *recordv1.ConfigurationHistory) ([]byte, error) { return wire.Encode(h) }

// Verify verifies a history from a pinned trust bundle, and extends that.
func Verify(h *recordv1.ConfigurationHistory, pinned *trust.Bundle) (*History, error) {
	list := h.GetConfigurations()
	if len(list) == 0 || len(list) > trust.MaxEpochs {
		return nil, fmt.Errorf("%w: %d configurations, want 1 to %d", ErrHistory, len(list), trust.MaxEpochs)
	}
	v := &History{}
	var epochs []trust.Epoch
	for i, c := range list {
		if err := v.take(c, pinned); err != nil {
			return nil, fmt.Errorf("%w: configuration %d: %w", ErrHistory, i+1, err)
		}
		policy, err := state.PolicyOf(v.Configurations[i].Message, v.NetworkID)
		if err != nil {
			return nil, fmt.Errorf("%w: configuration %d: %w", ErrHistory, i+1, err)
		}
		if i > 0 {
			epochs[i-1].LastSize = v.Configurations[i].lastSizeBefore()
		}
		epochs = append(epochs, trust.Epoch{Policy: policy})
	}
	if err := compare(pinned.Epochs(), epochs); err != nil {
		return nil, err
	}
	var err error
	v.Trust, err = trust.New(epochs...)
	return v, err
}

// InForce is the newest configuration, for state.Parties.
func (h *History) InForce() *state.Config {
	newest := h.Configurations[len(h.Configurations)-1]
	c := &state.Config{NetworkID: h.NetworkID, Digest: newest.Digest, Message: newest.Message, Index: newest.Index}
	if n := len(h.Configurations); n > 1 {
		c.Previous = h.Configurations[n-2].Message
	}
	return c
}

// lastSizeBefore is the last tree size that the configuration before certifies.
func (c *Configuration) lastSizeBefore() uint64 {
	if c.Message.GetRecovery() != nil {
		return c.Index
	}
	return c.Index + 2 // it is alone in its block: with the header
}

// take verifies the next configuration.
func (h *History) take(item *recordv1.CertifiedConfiguration, pinned *trust.Bundle) error {
	leaf := item.GetConfiguration()
	c, err := open(leaf)
	if err != nil {
		return err
	}
	var before *recordv1.NetworkConfig
	if n := len(h.Configurations); n > 0 {
		before = h.Configurations[n-1].Message
	} else {
		h.NetworkID = c.Digest
	}
	if err := h.follows(c); err != nil {
		return err
	}
	certificate, err := tlog.ParseCertificate(item.GetCertificate())
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	if err := included(leaf, certificate.Checkpoint); err != nil {
		return err
	}
	quorum, err := state.ChangeQuorum(h.NetworkID, before, c.Message)
	if err != nil {
		return err
	}
	if quorum.Origin() != pinned.Origin() {
		return fmt.Errorf("it is of %s, the trust bundle is of %s", quorum.Origin(), pinned.Origin())
	}
	if before == nil {
		// The pinned policy is asked, and not the one that the history brings.
		if err := pinned.Check(signature.Direct{}, certificate); err != nil {
			return err
		}
	} else if size := certificate.Checkpoint.Size; size != c.Index+2 {
		return fmt.Errorf("its certificate is of size %d, its block ends at %d", size, c.Index+2)
	} else if err := quorum.Check(signature.Direct{}, certificate); err != nil {
		return err
	}
	h.Configurations = append(h.Configurations, *c)
	return nil
}

func open(p *recordv1.ProvenRecord) (*Configuration, error) {
	r, err := record.Parse(p.GetRecord())
	if err != nil {
		return nil, err
	}
	e := record.ToEnvelope(r.GetStatement())
	if err := e.Check(); err != nil {
		return nil, err
	}
	if e.PayloadType != record.TypeNetworkConfig {
		return nil, fmt.Errorf("it is of type %.80q, want %q", e.PayloadType, record.TypeNetworkConfig)
	}
	c := &Configuration{Message: new(recordv1.NetworkConfig), Envelope: e, Digest: e.Digest(), Index: p.GetIndex()}
	if err := record.Decode(e.Payload, record.MaxBytes, c.Message); err != nil {
		return nil, err
	}
	return c, state.CheckStatement(c.Message)
}

// follows wants the configuration to be the next, and signed by whom it takes.
func (h *History) follows(c *Configuration) error {
	header, n := c.Message.GetHeader(), len(h.Configurations)
	if got, want := header.GetSequence(), uint64(n)+1; got != want {
		return fmt.Errorf("its sequence is %d, want %d: a configuration is missing", got, want)
	}
	if n == 0 {
		if c.Index != 0 {
			return fmt.Errorf("it is record %d, a ledger begins with its configuration", c.Index)
		}
		return nil
	}
	before := h.Configurations[n-1]
	if !bytes.Equal(header.GetNetworkId(), h.NetworkID[:]) {
		return fmt.Errorf("it is of network %x, this is %s", header.GetNetworkId(), h.NetworkID)
	}
	if !bytes.Equal(header.GetPredecessor(), before.Digest[:]) {
		return fmt.Errorf("it follows configuration %x, the one before is %s", header.GetPredecessor(), before.Digest)
	}
	if c.Index <= before.Index {
		return fmt.Errorf("it is record %d, the one before is record %d", c.Index, before.Index)
	}
	parties, err := state.Parties(&state.Config{NetworkID: h.NetworkID, Digest: before.Digest, Message: before.Message}, c.Envelope)
	if err != nil {
		return err
	}
	for _, p := range parties {
		if p.Missing > 0 {
			return fmt.Errorf("%d signatures of %s are missing", p.Missing, p.Who)
		}
	}
	if r := c.Message.GetRecovery(); r != nil && r.GetSize() != c.Index {
		return fmt.Errorf("it continues a tree of size %d and is record %d", r.GetSize(), c.Index)
	}
	return nil
}

func included(p *recordv1.ProvenRecord, checkpoint tlog.Checkpoint) error {
	path := make([]digest.Digest, len(p.GetProof()))
	for i, hash := range p.GetProof() {
		var err error
		if path[i], err = digest.FromBytes(hash); err != nil {
			return fmt.Errorf("proof, hash %d: %w", i, err)
		}
	}
	return tlog.VerifyInclusion(tlog.LeafHash(p.GetRecord()), p.GetIndex(), checkpoint.Size, path, checkpoint.Root)
}

// compare wants the pinned epochs to be the first of the proven ones.
func compare(pinned, proven []trust.Epoch) error {
	if len(pinned) > len(proven) {
		return fmt.Errorf("%w: it has %d epochs, the history gives %d: ask another replica", ErrGap, len(pinned), len(proven))
	}
	for i, p := range pinned {
		if !bytes.Equal(p.Policy.Text(), proven[i].Policy.Text()) {
			return fmt.Errorf("%w: epoch %d is certified by\n%sin the history, by\n%sin the bundle", ErrFork, i, proven[i].Policy.Text(), p.Policy.Text())
		}
		if last := i == len(pinned)-1 && p.LastSize == 0; !last && p.LastSize != proven[i].LastSize {
			return fmt.Errorf("%w: epoch %d ends at size %d in the history, at %d in the bundle", ErrFork, i, proven[i].LastSize, p.LastSize)
		}
	}
	return nil
}
