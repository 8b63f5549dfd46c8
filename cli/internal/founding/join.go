package founding

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lacre-metrology/lacre/core/receipt"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/config"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/services/ledger"
)

// ErrJoined says that the organisation is of a network already.
var ErrJoined = errors.New("joined already")

// own finds the organisation that was initialised in dir, and its member file.
func own(dir string) (*Member, []byte, error) {
	names, err := standing(dir)
	if err != nil {
		return nil, nil, err
	}
	var found []string
	for _, name := range names {
		if strings.HasSuffix(name, memberSuffix) {
			found = append(found, name)
		}
	}
	if len(found) != 1 {
		return nil, nil, fmt.Errorf("%s holds %d member files, want one: \"lacre init %s --organisation ID ...\" makes it", dir, len(found), dir)
	}
	return ReadMember(filepath.Join(dir, found[0]))
}

// Join takes an assembled network into an organisation's directory: it verifies
// all of it, compares what it says of this organisation with the keys that lie
// here, writes each node's configuration, and begins its replicas' ledgers. It
// happens once.
func Join(dir, networkDir, networkID string, operator Admin) (*Book, *Report, error) {
	if b, err := ReadBook(dir); err == nil {
		return nil, nil, fmt.Errorf("%w: %s holds a node of network %s, id %s; nothing was changed", ErrJoined, dir, b.Name, b.NetworkID)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, nil, err
	}
	m, text, err := own(dir)
	if err != nil {
		return nil, nil, err
	}
	d, files, report, err := assembled(networkDir, networkID)
	if err != nil {
		return nil, report, err
	}
	if err := isOwn(d, dir, m, text); err != nil {
		return nil, report, err
	}
	if err := operator.check(m); err != nil {
		return nil, report, err
	}
	f := &Founded{Draft: d, Genesis: files.Genesis, Trust: report.trust, Book: d.Book()}
	return f.Book, report, f.install(dir, operator, m.Organisation)
}

// assembled reads a directory that "lacre network assemble" wrote, and verifies all of it.
func assembled(networkDir, networkID string) (*Draft, Files, *Report, error) {
	files, err := ReadFiles(networkDir)
	if err != nil {
		return nil, files, nil, err
	}
	for name, text := range map[string][]byte{TrustFile: files.Trust, BookFile: files.Book, DraftFile: files.Draft} {
		if text == nil {
			return nil, files, nil, fmt.Errorf("%s holds no %s: want the directory that \"lacre network assemble\" wrote", networkDir, name)
		}
	}
	report := Verify(files, networkID)
	if report.Verdict == receipt.Refuted {
		return nil, files, report, fmt.Errorf("network in %s: refuted", networkDir)
	}
	d, err := ParseDraft(files.Draft)
	return d, files, report, err
}

// isOwn wants the network to have this organisation as it is here: its member
// file, and the keys of the files.
func isOwn(d *Draft, dir string, m *Member, text []byte) error {
	entry := d.member(m.Organisation)
	if entry == nil {
		return fmt.Errorf("network %s has no organisation %s", d.Terms.Name, m.Organisation)
	}
	if err := d.hasEntry(m.Organisation, text); err != nil {
		return err
	}
	var failures []error
	for _, n := range m.Nodes {
		keys := []struct {
			file string
			want PublicKey
		}{{"tls.pem", n.TLSKey}, {"signing.pem", n.SigningKey}}
		if recordv1.Role(n.Role) == recordv1.Role_ROLE_REPLICA {
			keys = append(keys, []struct {
				file string
				want PublicKey
			}{{"cosigner.pem", n.CosignerKey}, {"log.pem", n.LogKey}}...)
		}
		for _, k := range keys {
			path := filepath.Join(NodeDir(dir, n.ID), k.file)
			key, err := identity.ReadKey(path)
			if err == nil && publicOf(key) != k.want {
				err = fmt.Errorf("%s holds public key %x, the member file has %x", path, publicOf(key).Raw(), k.want.Raw())
			}
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

// install sets up the nodes of organisations in dir, where their keys lie: each
// one's configuration, each replica's ledger, and the public files, network.json
// last.
func (f *Founded) install(dir string, operator Admin, organisations ...string) error {
	public, err := f.public(dir)
	if err != nil {
		return err
	}
	last := len(public) - 1
	if err := createSame(public[:last]...); err != nil {
		return err
	}
	for _, n := range f.Book.Nodes {
		if !slices.Contains(organisations, n.Organisation) {
			continue
		}
		if err := f.setUp(dir, n, operator); err != nil {
			return err
		}
	}
	return create(public[last])
}

// setUp writes a node's configuration and begins a replica's ledger.
func (f *Founded) setUp(dir string, n Node, operator Admin) error {
	c, text, err := f.Book.configText(dir, n, operator, false)
	if err != nil {
		return err
	}
	if err := createSame(file{ConfigPath(dir, n.ID), text, 0o600}); err != nil {
		return err
	}
	if replica, ok := c.(*ledger.Config); ok {
		return begin(*replica)
	}
	return nil
}

// configText is config, and as a file.
func (b *Book) configText(dir string, n Node, operator Admin, pinned bool) (any, []byte, error) {
	port, err := operator.of(n)
	if err != nil {
		return nil, nil, err
	}
	c, err := b.config(dir, n, port, pinned)
	if err != nil {
		return nil, nil, err
	}
	if err := config.Validate(c); err != nil {
		return nil, nil, fmt.Errorf("configuration of %s: %w", n.ID, err)
	}
	text, err := config.Example(c)
	return c, text, err
}

// begin begins a replica's ledger.
func begin(c ledger.Config) error {
	err := ledger.Init(c, slog.New(slog.DiscardHandler))
	if errors.Is(err, ledger.ErrInitialised) {
		return fmt.Errorf("%w. An earlier init was interrupted: if this replica has never been started, remove %s and run init again", err, c.DataDir)
	}
	return err
}

// createSame writes files, and leaves alone one that an interrupted attempt
// wrote with the same content.
func createSame(files ...file) error {
	for _, f := range files {
		if standing, err := os.ReadFile(f.path); err == nil && bytes.Equal(standing, f.content) {
			continue
		}
		err := create(f)
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%w: %s stands with another content. If an interrupted init wrote it (for another network, or with other flags), remove it and run init again", ErrStanding, f.path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Install is for networks whose organisations share one directory: development.
func (f *Founded) Install(dir string, operator Admin) error {
	organisations := make([]string, len(f.Draft.Members))
	for i, m := range f.Draft.Members {
		organisations[i] = m.Organisation
	}
	return f.install(dir, operator, organisations...)
}
