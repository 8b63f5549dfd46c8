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
	return append(p.appendHead(make([]byte, 0, p.headSize()+len(certificate))), certificate...)
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
func ParseProof(text []byte) (*Proof, error) {
	if len(text) > MaxProofSize {
		return nil, malformed("proof", 0, "%d bytes, at most %d", len(text), MaxProofSize)
	}
	end := bytes.Index(text, []byte("\n\n"))
	if end < 0 {
		return nil, malformed("proof", 0, "no empty line before the checkpoint")
	}
	head, note := text[:end+2], text[end+2:]
	lines := strings.Split(string(text[:end]), "\n")
	if len(lines) > 3+maxProofHashes {
		return nil, malformed("proof", 0, "%d lines before the checkpoint, at most %d", len(lines), 3+maxProofHashes)
	}
	if lines[0] != ProofHeader {
		return nil, malformed("proof", 1, "%.60q, want %q", lines[0], ProofHeader)
	}
	p, at := new(Proof), 1
	var ok bool
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
	if hashes := lines[at+1:]; len(hashes) > 0 {
		p.Path = make([]digest.Digest, len(hashes))
		for i, line := range hashes {
			if !decodeExactly(p.Path[i][:], line) {
				return nil, malformed("proof", at+2+i, "%.60q is not the base64 of a hash", line)
			}
		}
	}
	var err error
	if p.Certificate, err = ParseCertificate(note); err != nil {
		return nil, err
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	// The certificate is in its one form, so what is left is before it.
	if !bytes.Equal(p.appendHead(make([]byte, 0, p.headSize())), head) {
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
