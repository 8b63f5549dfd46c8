// Package kept is the form in which readers of the ledger keep what they
// replayed: auditors and followers, each with a magic line and parts of its own.
//
// Source: docs/formats.md, "Kept states". A file is a magic line, which names the
// reader and the version, then the parts, then the SHA-256 over all that. Numbers
// are unsigned varints, byte strings have their length as a number before them,
// digests stand bare.
//
// Invariants:
//   - State values are the bytes that the transition wrote (core/state); nothing
//     is encoded a second time.
//   - The digest at the end is against accidents: a kept file is as trustworthy
//     as the place where it lies.
//   - Reading allocates no more than the bytes that are there can fill.
package kept

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/state"
)

// ErrForm says that bytes are not what a Writer wrote.
var ErrForm = errors.New("not a kept state")

// Writer puts parts one after the other. Make it with NewWriter.
type Writer struct{ b []byte }

// NewWriter begins with a magic line, which ends in "\n".
func NewWriter(magic string) *Writer { return &Writer{b: []byte(magic)} }

// Number adds a number.
func (w *Writer) Number(v uint64) { w.b = binary.AppendUvarint(w.b, v) }

// Field adds bytes with their length.
func (w *Writer) Field(v []byte) {
	w.Number(uint64(len(v)))
	w.b = append(w.b, v...)
}

// Digest adds a digest.
func (w *Writer) Digest(d digest.Digest) { w.b = append(w.b, d[:]...) }

// Values adds state values, ascending by key.
func (w *Writer) Values(values map[string][]byte) {
	w.Number(uint64(len(values)))
	for _, k := range slices.Sorted(maps.Keys(values)) {
		w.Field([]byte(k))
		w.Field(values[k])
	}
}

// Block adds a reference to a block, and digests that the reader keeps with it.
func (w *Writer) Block(r state.BlockRef, with ...digest.Digest) {
	for _, d := range append([]digest.Digest{r.Header, r.Root, r.Config, r.Admin}, with...) {
		w.Digest(d)
	}
	for _, v := range []uint64{r.Height, uint64(r.BlockTimeUnixNano), r.FirstIndex, r.Size, r.CertifiedHeight} {
		w.Number(v)
	}
}

// Bytes is the whole. Nothing is added afterwards.
func (w *Writer) Bytes() []byte {
	sum := sha256.Sum256(w.b)
	return append(w.b, sum[:]...)
}

// Reader takes the parts off the front. Once they run out it gives zeros, and
// End says so.
type Reader struct {
	rest  []byte
	short bool
}

// Open checks the magic line and the digest (errors.Is ErrForm).
func Open(magic string, b []byte) (*Reader, error) {
	if len(b) < len(magic)+sha256.Size || string(b[:len(magic)]) != magic {
		return nil, fmt.Errorf("%w: it begins with %.40q, want %q", ErrForm, b[:min(len(b), len(magic))], magic)
	}
	body, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if got := sha256.Sum256(body); !bytes.Equal(got[:], sum) {
		return nil, fmt.Errorf("%w: SHA-256 is %x, it ends with %x", ErrForm, got[:4], sum[:4])
	}
	return &Reader{rest: body[len(magic):]}, nil
}

// End is an error unless all was read and nothing was missing. That every part
// had its one form (a number as short as it can be, keys ascending) shows only
// when the reader writes it again and compares.
func (r *Reader) End() error {
	if r.short || len(r.rest) > 0 {
		return fmt.Errorf("%w: its parts do not fit", ErrForm)
	}
	return nil
}

func (r *Reader) take(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.short, r.rest = true, nil
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

// Number reads a number.
func (r *Reader) Number() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.short, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// Field reads bytes, a part of those that Open was given.
func (r *Reader) Field() []byte { return r.take(r.Number()) }

// Digest reads a digest.
func (r *Reader) Digest() (d digest.Digest) {
	copy(d[:], r.take(digest.Size))
	return d
}

// Count reads the number of parts that follow, each of at least size bytes; 0
// when they cannot all be there.
func (r *Reader) Count(size int) uint64 {
	n := r.Number()
	if n > uint64(len(r.rest)/size) {
		r.short = true
		return 0
	}
	return n
}

// Values reads state values; they are copies.
func (r *Reader) Values() map[string][]byte {
	n := r.Count(2)
	values := make(map[string][]byte)
	for range n {
		k := string(r.Field())
		values[k] = bytes.Clone(r.Field())
	}
	return values
}

// BlockSize is the least that Block reads, with n further digests, in bytes.
func BlockSize(n int) int { return (4+n)*digest.Size + 5 }

// Block reads what Writer.Block wrote.
func (r *Reader) Block(with ...*digest.Digest) (ref state.BlockRef) {
	for _, d := range append([]*digest.Digest{&ref.Header, &ref.Root, &ref.Config, &ref.Admin}, with...) {
		*d = r.Digest()
	}
	ref.Height, ref.BlockTimeUnixNano = r.Number(), int64(r.Number())
	ref.FirstIndex, ref.Size, ref.CertifiedHeight = r.Number(), r.Number(), r.Number()
	return ref
}
