package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// indexesKept and groupsKeptBytes bound what readers of packed segments share
	// in memory: the index of a file takes some 100 KiB, a group 16 KiB.
	indexesKept     = 64
	groupsKeptBytes = 8 << 20
)

// packed is what readers know of a store's packed segments: all up to a number.
// It is safe for concurrent use.
type packed struct {
	dir       string
	cold      atomic.Uint32                              // raw vectors of segments 1 to cold are in cold storage
	dropped   atomic.Uint32                              // raw vectors of segments 1 to dropped are gone
	coldBytes atomic.Int64                               // of those
	away      Cold                                       // nil if none is configured
	timeout   time.Duration                              // of one request to it
	count     atomic.Uint32                              // segments 1 to count are packed
	of        func(number uint32) (packedSegment, error) // what was committed of one
	mu        sync.Mutex                                 // guards what follows
	index     recently[packedFileKey, *packedIndex]      // of files
	groups    recently[packedGroupKey, *unpacked]        // of files
}

type packedFileKey struct {
	number uint32
	kind   kind
}

type packedGroupKey struct {
	packedFileKey
	group int
}

// unpacked is a group's content.
type unpacked struct {
	first   uint64
	content []byte
}

// item is the bytes of a leaf's item in a group; nil if it has none.
func (u *unpacked) item(leaf uint64) (found []byte, err error) {
	err = items(u.first, u.content, func(at uint64, b []byte) bool {
		if at == leaf {
			found = b
		}
		return at < leaf
	})
	return found, err
}

// packedFile reads one packed file. It is not safe for concurrent use.
type packedFile struct {
	name  string // or where it is in cold storage
	file  io.ReaderAt
	index *packedIndex
	at    int       // the group that last is
	last  *unpacked // nil before the first
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) }

// lostIn is damage of a packed file at an offset.
func lostIn(name string, offset int64, what string, cause error) *DataLossError {
	return &DataLossError{Height: None, Index: None, File: name, Offset: offset, What: what, Cause: cause}
}

// open opens a packed file; its index comes from memory if shared is set and it
// is there.
func (p *packed) open(number uint32, k kind, shared bool) (*packedFile, error) {
	f := &packedFile{name: packedName(number, k)}
	if err := f.attach(p, number, k, shared); err != nil {
		return nil, err
	}
	key := packedFileKey{number, k}
	if shared {
		p.mu.Lock()
		f.index, _ = p.index.get(key)
		p.mu.Unlock()
	}
	if f.index != nil {
		return f, nil
	}
	if err := f.readIndex(p, number, k); err != nil {
		f.close()
		return nil, err
	}
	if shared {
		p.mu.Lock()
		p.index.put(key, f.index, 1, indexesKept)
		p.mu.Unlock()
	}
	return f, nil
}

// attach opens the file, here or in cold storage.
func (f *packedFile) attach(p *packed, number uint32, k kind, shared bool) error {
	if p.isDropped(number, k) {
		return errDropped
	}
	if p.isCold(number, k) {
		return f.fromCold(p, number, shared)
	}
	file, err := os.Open(packedPath(p.dir, number, k))
	switch {
	case err == nil:
		f.file = file
		return nil
	case scarce(err):
		return fmt.Errorf("%s: %w: %w", f.name, ErrScarce, err)
	case missing(err) && p.isDropped(number, k): // meanwhile
		return errDropped
	case missing(err) && p.isCold(number, k): // it was moved meanwhile
		return f.fromCold(p, number, shared)
	}
	return lostIn(f.name, None, "the packed segment cannot be opened", err)
}

func (p *packed) isCold(number uint32, k kind) bool {
	return k == kindRawVector && number <= p.cold.Load() && number > p.dropped.Load()
}

func (p *packed) isDropped(number uint32, k kind) bool {
	return k == kindRawVector && number <= p.dropped.Load()
}

// fromCold makes f read the object of cold storage; single reads ask for what
// they need, walks for more at once.
func (f *packedFile) fromCold(p *packed, number uint32, shared bool) error {
	committed, err := p.of(number)
	if err != nil {
		return err
	}
	name, ahead := coldName(number, committed.raws), int64(coldAhead)
	if shared {
		ahead = 0
	}
	if f.name = name; p.away != nil {
		f.name = p.away.Where(name)
	}
	f.file = p.object(name, committed.raws.bytes, ahead)
	return nil
}

func (f *packedFile) readIndex(p *packed, number uint32, k kind) error {
	committed, err := p.of(number)
	if err != nil {
		return err
	}
	size := committed.file(k).bytes
	if file, ok := f.file.(*os.File); ok {
		info, err := file.Stat()
		if err != nil {
			return lostIn(f.name, None, "the packed segment cannot be looked at", err)
		}
		size = info.Size()
	}
	if want := committed.file(k).bytes; size != want {
		return lostIn(f.name, min(size, want), fmt.Sprintf("the packed segment has %d bytes, %d are committed", size, want), nil)
	}
	f.index, err = readPackedIndex(f.file, number, k, size)
	if unreachable := (unreachableError{}); errors.As(err, &unreachable) {
		return unreachable.error
	}
	if errors.Is(err, ErrAbsent) {
		return lostIn(f.name, None, "the raw vectors of the segment are not in cold storage any more", err)
	}
	if err != nil {
		// Wherever the error is: what it spoils is the file from its start.
		return lostIn(f.name, 0, "the packed segment's index: "+err.Error(), nil)
	}
	return nil
}

// readPackedIndex reads header and index of a file of size bytes.
func readPackedIndex(r io.ReaderAt, number uint32, k kind, size int64) (*packedIndex, error) {
	if size < packedHeaderBytes+packedTrailerBytes {
		return nil, fmt.Errorf("%d bytes are too few", size)
	}
	header, trailer := make([]byte, packedHeaderBytes), make([]byte, packedTrailerBytes)
	if _, err := r.ReadAt(header, 0); err != nil {
		return nil, fmt.Errorf("the header cannot be read: %w", err)
	}
	if _, err := r.ReadAt(trailer, size-packedTrailerBytes); err != nil {
		return nil, fmt.Errorf("the trailer cannot be read: %w", err)
	}
	entries, err := packedTrailer(trailer, size)
	if err != nil {
		return nil, err
	}
	tail := make([]byte, entries+packedTrailerBytes)
	if _, err := r.ReadAt(tail, size-int64(len(tail))); err != nil {
		return nil, fmt.Errorf("the index cannot be read: %w", err)
	}
	return decodePackedIndex(number, k, header, tail, size)
}

func (f *packedFile) close() {
	if file, ok := f.file.(*os.File); ok {
		_ = file.Close() // only read from
	}
}

// group returns the content of a group: the one before again, from memory if
// shared is set and it is there, or from the file.
func (f *packedFile) group(p *packed, n int, shared bool) (*unpacked, error) {
	if f.last != nil && f.at == n {
		return f.last, nil
	}
	key := packedGroupKey{packedFileKey{f.index.number, f.index.kind}, n}
	if shared {
		p.mu.Lock()
		u, ok := p.groups.get(key)
		p.mu.Unlock()
		if ok {
			return u, nil
		}
	}
	g := f.index.groups[n]
	stored := make([]byte, g.stored)
	if read, err := f.file.ReadAt(stored, g.at); err != nil {
		if unreachable := (unreachableError{}); errors.As(err, &unreachable) {
			return nil, unreachable.error
		}
		lost := lostIn(f.name, g.at, fmt.Sprintf("the group has %d bytes, %d can be read", g.stored, read), nil)
		if !isEOF(err) {
			lost.Cause = err
		}
		return nil, lost
	}
	content, err := f.index.unpackGroup(n, stored)
	if err != nil {
		return nil, lostIn(f.name, g.at, err.Error(), nil)
	}
	f.at, f.last = n, &unpacked{first: g.first, content: content}
	if shared {
		p.mu.Lock()
		p.groups.put(key, f.last, len(content), groupsKeptBytes)
		p.mu.Unlock()
	}
	return f.last, nil
}

// read returns the bytes of a leaf's item, which has length bytes; the error is
// a *DataLossError without a height.
func (f *packedFile) read(p *packed, leaf uint64, length uint32, shared bool) ([]byte, error) {
	n, ok := f.index.find(leaf)
	if !ok {
		return nil, lostIn(f.name, packedHeaderBytes, fmt.Sprintf("the %s of leaf %d is in no group", f.index.kind, leaf), nil)
	}
	u, err := f.group(p, n, shared)
	if err != nil {
		return nil, err
	}
	b, err := u.item(leaf)
	if err == nil && len(b) != int(length) {
		err = fmt.Errorf("want a %s of leaf %d with %d bytes, the group has %d", f.index.kind, leaf, length, len(b))
	}
	if err != nil {
		return nil, lostIn(f.name, f.index.groups[n].at, err.Error(), nil)
	}
	return clone(b), nil // a caller that keeps one item does not keep its group
}

// missing tells whether an error is that a file is not there.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
