package founding

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// Verify names what is wrong with a genesis that the ledger itself would take,
// and with the files beside it.
func TestVerifyNamesWhatIsWrong(t *testing.T) {
	_, f, dir := founded(t)
	files, err := ReadFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	id := f.Draft.NetworkID().String()
	genesis := func(change func(g *recordv1.Genesis)) []byte {
		g := new(recordv1.Genesis)
		if err := wire.Decode(f.Genesis, g); err != nil {
			t.Fatal(err)
		}
		change(g)
		return wire.MustEncode(g)
	}
	swap := func(name string, old, replacement []byte) Files {
		g := files
		target := map[string]*[]byte{TrustFile: &g.Trust, BookFile: &g.Book, DraftFile: &g.Draft}[name]
		*target = bytes.Replace(*target, old, replacement, 1)
		return g
	}
	for name, c := range map[string]struct {
		files Files
		id    string
		check string
		says  string
		want  receipt.Verdict
	}{
		"whole":                  {files, id, "", "", receipt.Verified},
		"genesis alone":          {Files{Genesis: f.Genesis}, id, "", "", receipt.Verified},
		"without an id":          {files, "", "network id", "not given", receipt.Undecidable},
		"another id":             {files, strings.Repeat("00", 32), "network id", "given was 00", receipt.Refuted},
		"another time":           {Files{Genesis: genesis(func(g *recordv1.Genesis) { g.BlockTimeUnixNano++ })}, id, "genesis", "the time was changed", receipt.Refuted},
		"a lost endorser":        {Files{Genesis: genesis(func(g *recordv1.Genesis) { g.Records = g.Records[:len(g.Records)-1] }), Draft: files.Draft}, id, "draft", "10 statements follow", receipt.Refuted},
		"a lost replica":         {Files{Genesis: genesis(func(g *recordv1.Genesis) { g.Records = append(g.Records[:1], g.Records[2:]...) })}, id, "genesis", "replica", receipt.Refuted},
		"an unasked member":      {Files{Genesis: genesis(func(g *recordv1.Genesis) { g.Records[0] = withoutSignature(t, g.Records[0]) })}, id, "signatures", "has not signed", receipt.Refuted},
		"another quorum":         {swap(TrustFile, []byte("quorum"), []byte("quorun")), id, "trust bundle", "not the bundle", receipt.Refuted},
		"another address":        {swap(BookFile, []byte("127.0.0.1"), []byte("127.0.0.9")), id, BookFile, "not the address book", receipt.Refuted},
		"another draft":          {swap(DraftFile, []byte("roads"), []byte("river")), id, "draft", "is not the configuration", receipt.Refuted},
		"a book of another node": {Files{Genesis: f.Genesis, Book: bytes.Replace(files.Book, []byte("operator-1"), []byte("operator-9"), 1)}, id, BookFile, "operator-1", receipt.Refuted},
		"a book that draws":      {Files{Genesis: f.Genesis, Book: bytes.Replace(files.Book, []byte("roads"), []byte(`\u001b[2J`), 1)}, id, BookFile, `"\x1b[2J.example"`, receipt.Refuted},
		"a book with a tail":     {Files{Genesis: f.Genesis, Book: append(bytes.Clone(files.Book), '}')}, id, BookFile, "something follows", receipt.Refuted},
		"nothing":                {Files{}, id, "genesis", "", receipt.Refuted},
	} {
		r := Verify(c.files, c.id)
		if r.Verdict != c.want {
			t.Errorf("%s: %v, want %v:\n%s", name, r.Verdict, c.want, r.Text())
			continue
		}
		for _, check := range r.Checks {
			if check.Verdict == receipt.Verified {
				continue
			}
			if check.Name != c.check || !strings.Contains(check.Detail, c.says) {
				t.Errorf("%s: %s is %v (%s), want %s with %q alone", name, check.Name, check.Verdict, check.Detail, c.check, c.says)
			}
		}
	}
}

// withoutSignature takes one signature from the configuration: a majority stays.
func withoutSignature(t *testing.T, leaf []byte) []byte {
	t.Helper()
	r, err := record.Parse(leaf)
	if err != nil {
		t.Fatal(err)
	}
	e := record.ToEnvelope(r.GetStatement())
	e.Signatures = e.Signatures[1:]
	if leaf, err = record.FromEnvelope(e); err != nil {
		t.Fatal(err)
	}
	return leaf
}

// A flipped bit of a genesis is refuted.
func TestVerifyRefusesFlippedBits(t *testing.T) {
	_, f, _ := founded(t)
	id := f.Draft.NetworkID().String()
	for at := 0; at < len(f.Genesis); at += 29 {
		flipped := bytes.Clone(f.Genesis)
		flipped[at] ^= 1 << (at % 8)
		if r := Verify(Files{Genesis: flipped}, id); r.Verdict != receipt.Refuted {
			t.Fatalf("byte %d, bit %d: %v\n%s", at, at%8, r.Verdict, r.Text())
		}
	}
}

// An organisation joins only what it signed, with the keys that lie there.
func TestJoinRefusesWhatIsNotItsOwn(t *testing.T) {
	list, f, dir := founded(t)
	stranger := initialised(t, "stranger", recordv1.Role_ROLE_REPLICA)
	_, _, err := Join(stranger.dir, dir, "", nil)
	want(t, "a stranger", err, "no organisation stranger")
	_, report, err := Join(list[0].dir, dir, strings.Repeat("00", 32), nil)
	if want(t, "another id", err, "refuted"); report == nil || report.Verdict != receipt.Refuted {
		t.Errorf("no report of what is refuted")
	}
	key := filepath.Join(NodeDir(list[0].dir, "university-0"), "cosigner.pem")
	kept, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(filepath.Join(NodeDir(list[0].dir, "university-0"), "log.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, other, 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err = Join(list[0].dir, dir, "", nil)
	want(t, "an exchanged key file", err, "cosigner.pem holds public key", "the member file has")
	if _, err := ReadBook(list[0].dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refused join left network.json: %v", err)
	}
	if err := os.WriteFile(key, kept, 0o600); err != nil {
		t.Fatal(err)
	}
	// An attempt that was interrupted before its replica began is continued.
	if err := os.WriteFile(filepath.Join(list[0].dir, GenesisFile), f.Genesis, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Join(list[0].dir, dir, "", nil); err != nil {
		t.Errorf("an interrupted attempt is not continued: %v", err)
	}
	// One that was interrupted after it is refused with the remedy.
	if err := os.Remove(filepath.Join(list[0].dir, BookFile)); err != nil {
		t.Fatal(err)
	}
	_, _, err = Join(list[0].dir, dir, "", nil)
	want(t, "an interrupted begin", err, "initialised already", "remove "+filepath.Join(NodeDir(list[0].dir, "university-0"), "data"))
}
