package outbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
)

// Entry is one signed sample as the outbox keeps it.
type Entry struct {
	Sample    *sample.Sample
	Signature []byte // signature.Size bytes
	RawVector []byte // encoded; its digest is the header's
}

// magic opens every file of a sample, and says its version.
const magic = "lacre/outbox/v1\n"

// stem is the part of a file that holds the chain together, under a checksum of
// its own, so that a damaged raw vector does not cost the chain's head:
//
//	magic || header length (2 bytes, big-endian) || header || signature || SHA-256 of all that
//
// The raw vector follows to the end of the file; the header has its digest.
func (e *Entry) stem() []byte {
	b := make([]byte, 0, len(magic)+2+len(e.Sample.Bytes)+signature.Size+sha256.Size)
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(e.Sample.Bytes))) // at most sample.MaxHeaderBytes
	b = append(b, e.Sample.Bytes...)
	b = append(b, e.Signature...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// Size is the length of the entry's file in bytes.
func (e *Entry) Size() int64 {
	return int64(len(magic) + 2 + len(e.Sample.Bytes) + signature.Size + sha256.Size + len(e.RawVector))
}

// parseStem reads a stem and returns what follows it.
func parseStem(b []byte) (*Entry, []byte, error) {
	rest, ok := bytes.CutPrefix(b, []byte(magic))
	if !ok || len(rest) < 2 {
		return nil, nil, fmt.Errorf("the file does not begin with %q", magic)
	}
	size := int(binary.BigEndian.Uint16(rest))
	end := len(magic) + 2 + size + signature.Size
	if size > sample.MaxHeaderBytes || len(b) < end+sha256.Size {
		return nil, nil, fmt.Errorf("the file has %d bytes, a header of %d does not fit", len(b), size)
	}
	if sum := sha256.Sum256(b[:end]); !bytes.Equal(sum[:], b[end:end+sha256.Size]) {
		return nil, nil, fmt.Errorf("header has checksum %x, the file says %x", sum[:4], b[end:end+4])
	}
	s, err := sample.Parse(b[len(magic)+2 : end-signature.Size])
	if err != nil {
		return nil, nil, err
	}
	return &Entry{Sample: s, Signature: b[end-signature.Size : end]}, b[end+sha256.Size:], nil
}

// parseEntry reads a whole file.
func parseEntry(b []byte) (*Entry, error) {
	e, raw, err := parseStem(b)
	if err != nil {
		return nil, err
	}
	e.RawVector = raw
	if err := e.checkRaw(); err != nil {
		return nil, err
	}
	return e, nil
}

func (e *Entry) checkRaw() error {
	if n := len(e.RawVector); n > record.MaxRawVectorBytes {
		return fmt.Errorf("raw vector has %d bytes, the limit is %d", n, record.MaxRawVectorBytes)
	}
	if got := sample.DigestRaw(e.RawVector); got != e.Sample.RawDigest {
		return fmt.Errorf("raw vector has digest %s, header says %s", got.Short(), e.Sample.RawDigest.Short())
	}
	return nil
}

// Head is the newest link of the meter's chain; the zero Head precedes the
// first sample.
type Head struct {
	Counter            uint64
	Digest             digest.Digest
	CapturedAtUnixNano int64
}

func headOf(e *Entry) Head {
	return Head{Counter: e.Sample.Counter, Digest: e.Sample.Digest, CapturedAtUnixNano: e.Sample.CapturedAtUnixNano}
}
