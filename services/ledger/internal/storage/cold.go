package storage

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/lacre-metrology/lacre/core/reason"
)

// Cold keeps files of raw vectors elsewhere, each whole under a name for ever.
// It is safe for concurrent use.
type Cold interface {
	// Put stores size bytes under a name, whole or not at all, durable when it
	// returns. The same name may be put again, with the same bytes.
	Put(ctx context.Context, name string, from io.Reader, size int64) error
	// Range returns bytes of an object, fewer where it ends; ErrAbsent if there is
	// no such object.
	Range(ctx context.Context, name string, offset, length int64) ([]byte, error)
	// Delete removes an object, for ever when it returns; nothing if there is none.
	Delete(ctx context.Context, name string) error
	// Where says where an object is, for whoever must look for it.
	Where(name string) string
}

// ErrAbsent says that cold storage has no object of a name.
var ErrAbsent = errors.New("there is no such object")

const (
	// defaultColdTimeout bounds one request to cold storage.
	defaultColdTimeout = 30 * time.Second
	// coldPutTimeouts is how many times that one upload may take.
	coldPutTimeouts = 20
	// coldAhead is how much is asked for at once by whoever reads on.
	coldAhead = 1 << 20
)

// coldName is the name of a packed segment's raw vectors: two segments with the
// same bytes are the same object.
func coldName(number uint32, s packedSum) string {
	return fmt.Sprintf("%010d-%x%s", number, s.digest, packedSuffix(kindRawVector))
}

// coldObject reads one object. It is not safe for concurrent use.
type coldObject struct {
	cold    Cold
	timeout time.Duration
	name    string
	size    int64
	ahead   int64  // bytes that a request takes at least
	at      int64  // where buffer lies
	buffer  []byte // of the last request
}

// unreachableError is an answer that cold storage did not give: nothing is lost.
type unreachableError struct{ error }

// ReadAt is that of io.ReaderAt. ErrAbsent if there is no such object, a
// *reason.Error of NOT_READY if cold storage does not answer.
func (o *coldObject) ReadAt(b []byte, offset int64) (int, error) {
	if inside := offset - o.at; inside < 0 || inside+int64(len(b)) > int64(len(o.buffer)) {
		if o.cold == nil {
			return 0, unreachableError{reason.New(reason.NotReady, "%s is in cold storage, and none is configured here", o.name)}
		}
		ctx, cancel := context.WithTimeout(context.Background(), o.timeout)
		defer cancel()
		want := min(max(int64(len(b)), o.ahead), o.size-offset)
		got, err := o.cold.Range(ctx, o.name, offset, want)
		if errors.Is(err, ErrAbsent) {
			return 0, err
		}
		if err != nil {
			return 0, unreachableError{reason.New(reason.NotReady, "%s cannot be read at byte %d: %v", o.cold.Where(o.name), offset, err)}
		}
		o.at, o.buffer = offset, got
	}
	n := copy(b, o.buffer[offset-o.at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// MoveCold moves the raw vectors of the oldest packed segment that has them here
// to cold storage, if by the ledger's own time each of its blocks is older than
// after; rest paces it. Nothing that opening re-hashes moves.
//
// The object was read back and compared before the transaction that counts it;
// only then is the file removed. What fails before leaves the store as it was.
// Errors are as of Pack.
func (s *Store) MoveCold(ctx context.Context, after time.Duration, rest Rest) (done bool, err error) {
	if s.options.Cold == nil || !s.packing.TryLock() {
		return false, nil
	}
	defer s.packing.Unlock()
	t := s.recent.Load().tip
	number := max(t.cold, t.dropped) + 1
	if s.tail == nil || number >= t.packed {
		return false, nil
	}
	height, ok, err := s.endsIn(&t, number)
	if err != nil || !ok {
		return false, err
	}
	if old, err := s.olderThan(&t, height, after); err != nil || !old {
		return false, err
	}
	if err := s.upload(ctx, number, newPacer(rest)); err != nil {
		return false, err
	}
	if err := s.count(func(next *tip) { next.cold = number }); err != nil {
		return false, err
	}
	moved, err := s.packedSegment(number)
	if err != nil {
		return false, err
	}
	s.packed.coldBytes.Add(moved.raws.bytes)
	s.packed.cold.Store(number)
	return true, s.options.disk.Remove(packedPath(s.dir, number, kindRawVector))
}

// endsIn is the height of the block that reaches behind a segment, or begins there:
// no later one has anything in the segment. ok is false where nothing packed tells.
func (s *Store) endsIn(t *tip, number uint32) (height uint64, ok bool, err error) {
	for next := number + 1; next <= t.packed; next++ {
		f, err := s.packed.open(next, kindRecord, true)
		if err != nil {
			return 0, false, err
		}
		groups := f.index.groups
		f.close()
		if len(groups) == 0 {
			continue // one raw vector that needed a segment to itself
		}
		height, err := s.HeightOf(groups[0].first)
		return height, err == nil, err
	}
	return 0, false, nil
}

// olderThan tells whether a block is older than the newest by a duration, and none
// that opening re-hashes.
func (s *Store) olderThan(t *tip, height uint64, after time.Duration) (bool, error) {
	block, _, err := s.Block(height)
	if err != nil {
		return false, err
	}
	head, _ := s.Head()
	return height+recoverBlocks < t.blocks && head.BlockTimeUnixNano-block.BlockTimeUnixNano >= int64(after), nil
}

// upload stores a segment's raw vectors in cold storage and reads them back.
func (s *Store) upload(ctx context.Context, number uint32, pace *pacer) error {
	committed, err := s.packedSegment(number)
	if err != nil {
		return err
	}
	want, path, name := committed.raws, packedPath(s.dir, number, kindRawVector), coldName(number, committed.raws)
	here, err := sumFile(ctx, path, pace)
	if err != nil {
		return err
	}
	if here != want {
		return lostIn(packedName(number, kindRawVector), None, fmt.Sprintf("%d bytes with SHA-256 %x were committed, %d with %x are there", want.bytes, want.digest, here.bytes, here.digest), nil)
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // only read from.
	putting, cancel := context.WithTimeout(ctx, coldPutTimeouts*s.options.ColdTimeout)
	defer cancel()
	if err := s.options.Cold.Put(putting, name, file, want.bytes); err != nil {
		return fmt.Errorf("move %s: %w", s.options.Cold.Where(name), err)
	}
	back, sum := s.packed.object(name, want.bytes, coldAhead), sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(back, 0, want.bytes)); err != nil {
		return fmt.Errorf("read %s back: %w", s.options.Cold.Where(name), err)
	}
	if got := [sha256.Size]byte(sum.Sum(nil)); got != want.digest {
		return fmt.Errorf("%s was stored with SHA-256 %x, and is read back with %x", s.options.Cold.Where(name), want.digest, got)
	}
	return ctx.Err()
}

// object reads an object of cold storage.
func (p *packed) object(name string, size, ahead int64) *coldObject {
	return &coldObject{cold: p.away, timeout: p.timeout, name: name, size: size, ahead: ahead}
}

// ColdBytes is the size of what is in cold storage.
func (s *Store) ColdBytes() int64 { return s.packed.coldBytes.Load() }

// ColdSegments is how many segments have their raw vectors in cold storage: the
// first ones of those whose raw vectors did not expire.
func (s *Store) ColdSegments() uint32 {
	dropped := s.packed.dropped.Load()
	return max(s.packed.cold.Load(), dropped) - dropped
}
