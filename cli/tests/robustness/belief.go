package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/lacre-metrology/lacre/cli/internal/change"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/governance"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/trust"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	"github.com/lacre-metrology/lacre/meter"
)

// belief is what clients verify with: the trust bundle that was pinned at the
// founding, extended by the configurations that followed it.
type belief struct {
	trust    *trust.Bundle
	verifier *meter.Verifier
}

func (n *network) trusted() *trust.Bundle { return n.belief.Load().trust }

// configurations is the file that `lacre trust update` keeps beside the bundle.
func (n *network) configurations() string { return filepath.Join(n.live(), change.HistoryFile) }

// keptTrust is the bundle of the network's directory.
func (n *network) keptTrust() (*trust.Bundle, error) {
	text, err := os.ReadFile(n.TrustPath())
	if err != nil {
		return nil, err
	}
	return trust.Parse(text)
}

// readTrust believes that bundle.
func (n *network) readTrust() error {
	bundle, err := n.keptTrust()
	if err != nil {
		return err
	}
	n.believe(bundle)
	return nil
}

func (n *network) believe(bundle *trust.Bundle) {
	n.belief.Store(&belief{trust: bundle, verifier: meter.NewVerifier(bundle)})
}

// learnPatience bounds how long a client looks for the configuration that it
// lacks to verify what it was given: a replica that has it may be cut off or dead.
const learnPatience = 20 * time.Second

// receipt verifies a receipt as a client does: with the bundle that it has, and if
// that does not do, with the one that follows from it.
func (n *network) receipt(text []byte, of digest.Digest) (r *receipt.Receipt, err error) {
	err = n.verifying(func(v *meter.Verifier) error { r, err = v.Receipt(text, of); return err })
	return r, err
}

// head verifies a gateway's proof of the newest block.
func (n *network) head(proof []byte) (b meter.KnownBlock, err error) {
	err = n.verifying(func(v *meter.Verifier) error { b, err = v.Head(proof); return err })
	return b, err
}

func (n *network) verifying(verify func(*meter.Verifier) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), learnPatience)
	defer cancel()
	for {
		err := verify(n.belief.Load().verifier)
		if err == nil || !n.changing.Load() {
			return err
		}
		known := len(n.trusted().Epochs())
		why := n.learn(ctx)
		if len(n.trusted().Epochs()) > known {
			continue
		}
		if wait(ctx, againAfter) != nil {
			return errors.Join(err, why)
		}
	}
}

// learn asks the replicas for configurations that follow the bundle; none is
// believed.
func (n *network) learn(ctx context.Context) error {
	clients, closing, err := n.connect()
	if err != nil {
		return err
	}
	defer closing()
	var failures []error
	for _, client := range clients {
		failures = append(failures, n.learnFrom(ctx, client))
	}
	return errors.Join(failures...)
}

func (n *network) learnFrom(ctx context.Context, client ledgerv1.LedgerServiceClient) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	history, err := change.Fetch(ctx, client)
	if err != nil {
		return err
	}
	before := n.belief.Load()
	verified, err := governance.Verify(history, before.trust)
	if err != nil {
		return err
	}
	if len(verified.Trust.Epochs()) > len(before.trust.Epochs()) {
		n.believe(verified.Trust)
	}
	return nil
}
