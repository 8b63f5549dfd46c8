package tlog

import (
	"bytes"
	"slices"
	"strings"
)

// MaxCosignatures bounds a certificate; a policy has at most as many witnesses.
const MaxCosignatures = 64

// MaxCertificateSize bounds a certificate's text, so that it fits a record.
const MaxCertificateSize = 24 << 10

// Certificate is a checkpoint with the signatures that a policy wants: exactly
// one log signature and its q cosignatures, as one signed note (rule B2). That
// they are q, and whose, is for Policy.Check to say.
type Certificate struct {
	Checkpoint   Checkpoint
	Log          LogSignature
	Cosignatures []Cosignature // ascending by distinct name
}

// NewCertificate sorts the cosignatures and checks the form (*FormatError). It
// keeps none of the caller's slices. Policy.Assemble picks exactly q first.
func NewCertificate(checkpoint Checkpoint, log LogSignature, cosignatures []Cosignature) (*Certificate, error) {
	c := &Certificate{Checkpoint: checkpoint, Log: log, Cosignatures: slices.Clone(cosignatures)}
	slices.SortFunc(c.Cosignatures, func(a, b Cosignature) int { return strings.Compare(a.Name, b.Name) })
	if err := c.check(); err != nil {
		return nil, err
	}
	if n := len(c.Text()); n > MaxCertificateSize {
		return nil, malformed("certificate", 0, "%d bytes, at most %d", n, MaxCertificateSize)
	}
	return c, nil
}

// check covers what the text alone does not force.
func (c *Certificate) check() error {
	if err := c.Checkpoint.Check(); err != nil {
		return err
	}
	if c.Log.Name != c.Checkpoint.Origin {
		return malformed("certificate", 5, "log signature of %q, the origin is %q", c.Log.Name, c.Checkpoint.Origin)
	}
	if n := len(c.Cosignatures); n == 0 || n > MaxCosignatures {
		return malformed("certificate", 0, "%d cosignatures, want 1 to %d", n, MaxCosignatures)
	}
	for i, s := range c.Cosignatures {
		if !validName(s.Name) {
			return malformed("certificate", 6+i, "cosigner name %q", s.Name)
		}
		if i > 0 && s.Name <= c.Cosignatures[i-1].Name {
			return malformed("certificate", 6+i, "cosigner %q after %q, want ascending distinct names", s.Name, c.Cosignatures[i-1].Name)
		}
	}
	return nil
}

// Text is the signed note: body, empty line, one line for each signature.
func (c *Certificate) Text() []byte { return c.appendText(make([]byte, 0, c.textSize())) }

// textSize guesses how long the text is, in bytes: names of 60 bytes keep to it.
func (c *Certificate) textSize() int { return 128 + 192*(1+len(c.Cosignatures)) }

func (c *Certificate) appendText(b []byte) []byte {
	b = append(c.Checkpoint.appendBody(b), '\n')
	b = append(c.Log.appendLine(b), '\n')
	for _, s := range c.Cosignatures {
		b = append(s.appendLine(b), '\n')
	}
	return b
}

// ParseCertificate reads what Text writes of a well-formed certificate, and
// nothing else (*FormatError). It verifies no signature.
func ParseCertificate(text []byte) (*Certificate, error) {
	if len(text) > MaxCertificateSize {
		return nil, malformed("certificate", 0, "%d bytes, at most %d", len(text), MaxCertificateSize)
	}
	end := bytes.Index(text, []byte("\n\n"))
	if end < 0 {
		return nil, malformed("certificate", 0, "no empty line after the checkpoint")
	}
	checkpoint, err := ParseCheckpoint(text[:end+1])
	if err != nil {
		return nil, err
	}
	lines, ok := splitLines(string(text[end+2:]))
	if !ok || len(lines) < 2 || len(lines) > 1+MaxCosignatures {
		return nil, malformed("certificate", 0, "want one log signature and 1 to %d cosignatures, each line ended by a newline", MaxCosignatures)
	}
	c := &Certificate{Checkpoint: checkpoint, Cosignatures: make([]Cosignature, len(lines)-1)}
	if c.Log, err = ParseLogSignature(lines[0]); err != nil {
		return nil, err
	}
	for i, line := range lines[1:] {
		if c.Cosignatures[i], err = ParseCosignature(line); err != nil {
			return nil, err
		}
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	if !isWrittenAs(text, c.appendText) {
		return nil, malformed("certificate", 0, "not the canonical form")
	}
	return c, nil
}

// MedianTime is the lower median of the cosignatures' time stamps, in seconds
// since the Epoch (rule C4). It is 0 for a certificate without cosignatures,
// which no parser returns.
//
// Among q = 2F+1 stamps in ascending order it is the one at position F (from
// 0): F are at or below it and F at or above it. At most F cosigners lie, so
// at least one honest stamp is at or above the median and one at or below: it
// lies between the earliest and the latest honest clock, whatever the liars
// sign, and they can push it neither into the future nor into the past. For a
// larger or even q the lower of the two middle ones is taken: an error then
// makes time slow, never fast.
func (c *Certificate) MedianTime() uint64 {
	if len(c.Cosignatures) == 0 {
		return 0
	}
	stamps := make([]uint64, len(c.Cosignatures))
	for i, s := range c.Cosignatures {
		stamps[i] = s.TimestampUnix
	}
	slices.Sort(stamps)
	return stamps[(len(stamps)-1)/2]
}
