package tlog

import (
	"bytes"
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/signature"
)

// ProofHeader is the first line of a C2SP tlog-proof.
const ProofHeader = "c2sp.org/tlog-proof@v1"

// Bounds of a proof in bytes. A receipt's extra data is one record.
const (
	MaxExtraSize = 65_535
	MaxProofSize = len(ProofHeader) + 1 + len("extra \n") + (MaxExtraSize+2)/3*4 +
		len("index \n") + 19 + maxProofHashes*45 + 1 + MaxCertificateSize
)

// Proof is a C2SP tlog-proof: the leaf at Index is in the tree of the
// certificate. The canonical form is one text for one meaning; with Verify, no
// bit of it can change (rule B2) but for Extra, which is unauthenticated: use
// VerifyRecord when it is the record itself.
type Proof struct {
	Extra       []byte // at most MaxExtraSize; empty means absent
	Index       uint64 // zero-based index of the leaf
	Path        []digest.Digest
	Certificate *Certificate
}

// NewProof checks the form: index within the tree, bounds kept. It keeps the
// caller's slices.
func NewProof(extra []byte, index uint64, path []digest.Digest, certificate *Certificate) (*Proof, error) {
	p := &Proof{Extra: extra, Index: index, Path: path, Certificate: certificate}
	if err := p.check(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Proof) check() error {
	switch {
	case len(p.Extra) > MaxExtraSize:
		return malformed("proof", 2, "%d bytes of extra data, at most %d", len(p.Extra), MaxExtraSize)
	case len(p.Path) > maxProofHashes:
		return malformed("proof", 0, "%d hashes, at most %d", len(p.Path), maxProofHashes)
	case p.Certificate == nil:
		return malformed("proof", 0, "no certificate")
	case p.Index >= p.Certificate.Checkpoint.Size:
		return malformed("proof", 0, "index %d in a tree of %d leaves", p.Index, p.Certificate.Checkpoint.Size)
	}
	return p.Certificate.check()
}

// Text is the canonical form.
func (p *Proof) Text() []byte {
	certificate := p.Certificate.Text()
	b := make([]byte, 0, len(ProofHeader)+len("\nextra \nindex \n")+base64.StdEncoding.EncodedLen(len(p.Extra))+19+45*len(p.Path)+1+len(certificate))
	b = append(b, ProofHeader+"\n"...)
	if len(p.Extra) > 0 {
		b = append(base64.StdEncoding.AppendEncode(append(b, "extra "...), p.Extra), '\n')
	}
	b = append(strconv.AppendUint(append(b, "index "...), p.Index, 10), '\n')
	for _, h := range p.Path {
		b = append(base64.StdEncoding.AppendEncode(b, h[:]), '\n')
	}
	b = append(b, '\n')
	return append(b, certificate...)
}

// ParseProof reads what Text writes of a well-formed proof, and nothing else
// (*FormatError). It verifies nothing.
func ParseProof(text []byte) (*Proof, error) {
	if len(text) > MaxProofSize {
		return nil, malformed("proof", 0, "%d bytes, at most %d", len(text), MaxProofSize)
	}
	head, note, ok := strings.Cut(string(text), "\n\n")
	if !ok {
		return nil, malformed("proof", 0, "no empty line before the checkpoint")
	}
	lines := strings.Split(head, "\n")
	if len(lines) > 3+maxProofHashes {
		return nil, malformed("proof", 0, "%d lines before the checkpoint, at most %d", len(lines), 3+maxProofHashes)
	}
	if lines[0] != ProofHeader {
		return nil, malformed("proof", 1, "%.60q, want %q", lines[0], ProofHeader)
	}
	p, at := new(Proof), 1
	if encoded, has := strings.CutPrefix(lineAt(lines, at), "extra "); has {
		if p.Extra, ok = decodeBase64(encoded); !ok || len(p.Extra) == 0 {
			return nil, malformed("proof", at+1, "extra data is not standard base64 of at least one byte")
		}
		at++
	}
	decimal, has := strings.CutPrefix(lineAt(lines, at), "index ")
	if p.Index, ok = parseDecimal(decimal); !has || !ok {
		return nil, malformed("proof", at+1, "%.60q is not \"index \" and a decimal number", lineAt(lines, at))
	}
	for i, line := range lines[at+1:] {
		h, ok := decodeBase64(line)
		if !ok || len(h) != digest.Size {
			return nil, malformed("proof", at+2+i, "%.60q is not the base64 of a hash", line)
		}
		p.Path = append(p.Path, digest.Digest(h))
	}
	var err error
	if p.Certificate, err = ParseCertificate([]byte(note)); err != nil {
		return nil, err
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	if !bytes.Equal(p.Text(), text) {
		return nil, malformed("proof", 0, "not the canonical form")
	}
	return p, nil
}

// lineAt is the line, or nothing past the end.
func lineAt(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return ""
}

// Checker accepts or refuses a certificate: a Policy, or a trust bundle that
// chooses the policy by tree size.
type Checker interface {
	Check(v signature.Verifier, c *Certificate) error
}

// Verify says whether the leaf with this hash stands at Index of the certified
// tree: the checker accepts the certificate and the path leads to its root.
func (p *Proof) Verify(v signature.Verifier, checker Checker, leafHash digest.Digest) error {
	if err := p.check(); err != nil {
		return err
	}
	c := p.Certificate
	if err := VerifyInclusion(leafHash, p.Index, c.Checkpoint.Size, p.Path, c.Checkpoint.Root); err != nil {
		return err
	}
	return checker.Check(v, c)
}

// VerifyRecord is Verify for a proof whose extra data is the record itself: the
// form of a receipt. It returns the record, now authenticated.
func (p *Proof) VerifyRecord(v signature.Verifier, checker Checker) ([]byte, error) {
	if err := p.Verify(v, checker, LeafHash(p.Extra)); err != nil {
		return nil, err
	}
	return p.Extra, nil
}
