package tlog

import (
	"bytes"
	"encoding/base64"
	"strconv"

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
	if err := p.checkPlace(); err != nil {
		return err
	}
	return p.Certificate.check()
}

// checkPlace is check for a certificate that is well formed, or missing.
func (p *Proof) checkPlace() error {
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
	return nil
}

// Text is the canonical form.
func (p *Proof) Text() []byte {
	return p.Certificate.appendText(p.appendHead(make([]byte, 0, p.headSize()+p.Certificate.textSize())))
}

// headSize is how long appendHead's text is at most, in bytes.
func (p *Proof) headSize() int {
	return len(ProofHeader) + len("\nextra \nindex \n\n") + base64.StdEncoding.EncodedLen(len(p.Extra)) + 20 + 45*len(p.Path)
}

// appendHead writes what stands before the certificate, with the empty line.
func (p *Proof) appendHead(b []byte) []byte {
	b = append(b, ProofHeader+"\n"...)
	if len(p.Extra) > 0 {
		b = append(base64.StdEncoding.AppendEncode(append(b, "extra "...), p.Extra), '\n')
	}
	b = append(strconv.AppendUint(append(b, "index "...), p.Index, 10), '\n')
	for _, h := range p.Path {
		b = append(base64.StdEncoding.AppendEncode(b, h[:]), '\n')
	}
	return append(b, '\n')
}

// ParseProof reads what Text writes of a well-formed proof, and nothing else
// (*FormatError). It verifies nothing.
func ParseProof(text []byte) (*Proof, error) { return (*Certificates)(nil).ParseProof(text) }

// ParseProof is the package's ParseProof; a certificate that is known is not
// parsed again. Nobody changes the proof's certificate, which others may share.
func (known *Certificates) ParseProof(text []byte) (*Proof, error) {
	if len(text) > MaxProofSize {
		return nil, malformed("proof", 0, "%d bytes, at most %d", len(text), MaxProofSize)
	}
	end := bytes.Index(text, []byte("\n\n"))
	if end < 0 {
		return nil, malformed("proof", 0, "no empty line before the checkpoint")
	}
	head, note := text[:end+2], text[end+2:]
	if n := 1 + bytes.Count(text[:end], newline); n > 3+maxProofHashes {
		return nil, malformed("proof", 0, "%d lines before the checkpoint, at most %d", n, 3+maxProofHashes)
	}
	line, rest, more := bytes.Cut(text[:end], newline)
	if string(line) != ProofHeader {
		return nil, malformed("proof", 1, "%.60q, want %q", line, ProofHeader)
	}
	p, number := new(Proof), 1
	next := func() { // the next line; nothing past the end
		line, rest, more = bytes.Cut(rest, newline)
		number++
	}
	next()
	if encoded, has := bytes.CutPrefix(line, []byte("extra ")); has {
		var ok bool
		if p.Extra, ok = decodeBase64(encoded); !ok || len(p.Extra) == 0 {
			return nil, malformed("proof", number, "extra data is not standard base64 of at least one byte")
		}
		next()
	}
	decimal, has := bytes.CutPrefix(line, []byte("index "))
	index, ok := parseDecimal(string(decimal))
	if !has || !ok {
		return nil, malformed("proof", number, "%.60q is not \"index \" and a decimal number", line)
	}
	p.Index = index
	if more {
		p.Path = make([]digest.Digest, 1+bytes.Count(rest, newline))
	}
	for i := range p.Path {
		if next(); !decodeExactly(p.Path[i][:], line) {
			return nil, malformed("proof", number, "%.60q is not the base64 of a hash", line)
		}
	}
	var err error
	if p.Certificate, err = known.Parse(note); err != nil {
		return nil, err
	}
	if err := p.checkPlace(); err != nil {
		return nil, err
	}
	// The certificate is in its one form, so what is left is before it.
	if !isWrittenAs(head, p.appendHead) {
		return nil, malformed("proof", 0, "not the canonical form")
	}
	return p, nil
}

var newline = []byte{'\n'}

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
