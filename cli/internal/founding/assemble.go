package founding

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"encoding/pem"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/trust"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// Founded is a network that everybody signed: what its directory holds.
type Founded struct {
	Draft   *Draft
	Genesis []byte // the file
	Trust   *trust.Bundle
	Book    *Book
}

// GenesisDigest is the SHA-256 of the genesis file: what founders compare. The
// network's id does not cover the registrations.
func (f *Founded) GenesisDigest() digest.Digest { return digest.Plain(f.Genesis) }

// Assemble makes the network of a draft and everybody's signatures. The error
// joins everything that is missing or wrong.
func Assemble(d *Draft, files ...Signatures) (*Founded, error) {
	got, err := d.collect(files)
	if err != nil {
		return nil, err
	}
	genesis := &recordv1.Genesis{BlockTimeUnixNano: d.Terms.IssuedAtUnixNano}
	for _, s := range append([]statement{d.configuration}, d.registrations...) {
		e := s.envelope()
		for _, signed := range got[s.what] {
			e.Signatures = append(e.Signatures, signed.Signatures...)
		}
		// A canonical envelope has them ascending, and a map has no order.
		slices.SortFunc(e.Signatures, func(a, b envelope.Signature) int { return strings.Compare(a.KeyID, b.KeyID) })
		leaf, err := record.FromEnvelope(e)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.what, err)
		}
		genesis.Records = append(genesis.Records, leaf)
	}
	if err := replay(genesis); err != nil {
		return nil, err
	}
	f := &Founded{Draft: d, Book: d.Book()}
	if f.Genesis, err = wire.Encode(genesis); err != nil {
		return nil, err
	}
	f.Trust, err = trustOf(d.config(), d.network)
	return f, err
}

// replay makes block 0 as every replica will.
func replay(genesis *recordv1.Genesis) error {
	block, err := state.Genesis(genesis.GetRecords(), genesis.GetBlockTimeUnixNano(), state.Options{})
	if err != nil {
		return err
	}
	_, err = block.Seal()
	return err
}

// trustOf is the trust bundle of a network that has just been founded.
func trustOf(config *recordv1.NetworkConfig, network digest.Digest) (*trust.Bundle, error) {
	policy, err := state.PolicyOf(config, network)
	if err != nil {
		return nil, err
	}
	return trust.New(trust.Epoch{Policy: policy})
}

// Write writes the network's directory, which must be empty or absent: genesis,
// trust bundle, draft, CA certificates, and last network.json.
func (f *Founded) Write(dir string) error {
	names, err := standing(dir)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		what := fmt.Sprintf("files and no %s; if an interrupted assemble left them, remove it", BookFile)
		if b, err := ReadBook(dir); err == nil {
			what = fmt.Sprintf("the network %.80q, id %.80q", b.Name, b.NetworkID)
		}
		return fmt.Errorf("%w: %s holds %s: %s", ErrStanding, dir, what, strings.Join(names, ", "))
	}
	if err := os.MkdirAll(filepath.Join(dir, caDir), 0o755); err != nil { //nolint:gosec // nothing in it is secret; it is handed to all.
		return err
	}
	var files []file
	for _, m := range f.Draft.Members {
		certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.CACertificate})
		files = append(files, file{caPath(dir, m.Organisation), certificate, 0o644})
	}
	files = append(files, file{filepath.Join(dir, DraftFile), f.Draft.Bytes(), 0o644})
	public, err := f.public(dir)
	if err != nil {
		return err
	}
	return create(append(files, public...)...)
}

// public are the files that every directory of the network has, network.json
// last: it says that the others are there.
func (f *Founded) public(dir string) ([]file, error) {
	book, err := f.Book.encode()
	return []file{
		{filepath.Join(dir, GenesisFile), f.Genesis, 0o644},
		{filepath.Join(dir, TrustFile), f.Trust.Bytes(), 0o644},
		{filepath.Join(dir, BookFile), book, 0o644},
	}, err
}
