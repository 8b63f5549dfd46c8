package storage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"os"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Rest is called between two pieces of work that wait for nobody, with the time
// that the work before took. It returns early, with an error, when ctx ends.
type Rest func(ctx context.Context, worked time.Duration) error

// pacer calls a Rest now and then.
type pacer struct {
	rest  Rest
	since time.Time
}

// workSlice is how long work goes on between two rests.
const workSlice = 2 * time.Millisecond

func newPacer(rest Rest) *pacer { return &pacer{rest: rest, since: time.Now()} }

func (p *pacer) pause(ctx context.Context) error {
	if err := ctx.Err(); err != nil || p.rest == nil {
		return err
	}
	worked := time.Since(p.since)
	if worked < workSlice {
		return nil
	}
	err := p.rest(ctx, worked)
	p.since = time.Now()
	return err
}

// packedSum is what is known of a packed file: its length and the SHA-256 of
// its bytes, as sha256sum prints it.
type packedSum struct {
	bytes  int64
	digest [sha256.Size]byte
}

// packer writes one packed file. It is not safe for concurrent use. After an
// error it is of no further use.
type packer struct {
	index   packedIndex
	file    segmentFile
	name    string
	pacer   *pacer
	encoder *zstd.Encoder // nil without compression
	content []byte        // of the group that is being filled
	first   uint64        // its first leaf
	last    uint64        // its last
	at      int64         // where it will lie
	buffer  []byte        // not yet written
	written int64
	sum     hash.Hash
	items   uint64
	bytes   int64 // of items
}

func newPacker(file segmentFile, number uint32, k kind, p *pacer) (*packer, error) {
	w := &packer{
		index: packedIndex{number: number, kind: k, compression: compressionOf(k)},
		file:  file, name: packedName(number, k), pacer: p, at: packedHeaderBytes, sum: sha256.New(),
	}
	if w.index.compression == compressionZstd {
		var err error
		// The group's own checksum covers the frame.
		w.encoder, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
		if err != nil {
			return nil, fmt.Errorf("pack: %w", err)
		}
	}
	w.buffer = packedHeader(number, k, w.index.compression)
	return w, nil
}

// add appends an item; leaves ascend.
func (w *packer) add(ctx context.Context, leaf uint64, b []byte) error {
	if len(w.content) > 0 && len(w.content)+len(b) > packedGroupBytes {
		if err := w.endGroup(ctx); err != nil {
			return err
		}
	}
	step := leaf - w.last
	if len(w.content) == 0 {
		w.first, step = leaf, 0
	}
	w.content, w.last = appendItem(w.content, step, b), leaf
	w.items, w.bytes = w.items+1, w.bytes+int64(len(b))
	return nil
}

// endGroup stores the group, after unpacking it again: the plain bytes will be
// gone, so what cannot be read must not take their place.
func (w *packer) endGroup(ctx context.Context) error {
	stored := w.content
	if w.encoder != nil {
		stored = w.encoder.EncodeAll(w.content, nil)
	}
	n := len(w.index.groups)
	w.index.groups = append(w.index.groups, packedGroup{
		first: w.first, stored: uint32(len(stored)), length: uint32(len(w.content)),
		crc: w.index.groupCRC(w.first, stored), at: w.at,
	})
	again, err := w.index.unpackGroup(n, stored)
	if err != nil || !bytes.Equal(again, w.content) {
		return fmt.Errorf("pack %s: group %d does not unpack as it was packed: %w", w.name, n, err)
	}
	w.at += int64(len(stored))
	w.buffer = append(w.buffer, stored...)
	w.content = w.content[:0]
	if len(w.buffer) >= flushBytes {
		if err := w.flush(); err != nil {
			return err
		}
	}
	return w.pacer.pause(ctx)
}

// flush writes what was gathered and makes it durable: in small pieces, so that
// a commit's own sync finds little to wait for.
func (w *packer) flush() error {
	if _, err := w.file.WriteAt(w.buffer, w.written); err != nil {
		return fmt.Errorf("pack %s at byte %d: %w", w.name, w.written, err)
	}
	_, _ = w.sum.Write(w.buffer) // a hash never fails
	w.written += int64(len(w.buffer))
	w.buffer = w.buffer[:0]
	return w.file.Sync()
}

// finish writes the rest; the file's bytes are durable when it returns, its name
// is not.
func (w *packer) finish(ctx context.Context) (packedSum, error) {
	if len(w.content) > 0 {
		if err := w.endGroup(ctx); err != nil {
			return packedSum{}, err
		}
	}
	w.buffer = append(w.buffer, w.index.encode()...)
	if err := w.flush(); err != nil {
		return packedSum{}, err
	}
	s := packedSum{bytes: w.written}
	w.sum.Sum(s.digest[:0])
	return s, nil
}

// sumFile reads a whole file and returns what it holds.
func sumFile(ctx context.Context, path string, p *pacer) (packedSum, error) {
	f, err := os.Open(path)
	if err != nil {
		return packedSum{}, err
	}
	defer f.Close() //nolint:errcheck // only read from.
	h, b, s := sha256.New(), make([]byte, flushBytes), packedSum{}
	for {
		n, err := f.ReadAt(b, s.bytes)
		_, _ = h.Write(b[:n]) // a hash never fails
		s.bytes += int64(n)
		if n < len(b) {
			if err != nil && !isEOF(err) {
				return s, err
			}
			h.Sum(s.digest[:0])
			return s, nil
		}
		if err := p.pause(ctx); err != nil {
			return s, err
		}
	}
}
