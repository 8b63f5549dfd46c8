// Package cold keeps raw vectors of old segments in a bucket.
//
// Source: architecture, "Storage and durability"; docs/formats.md, "Segments";
// gocloud.dev/blob.
//
// Invariants:
//   - An object is there whole or not at all.
//   - Nothing is deleted but what Delete is asked for: the store asks for objects whose
//     raw vectors expired, if its operator wants that.
//
// A known hole: in a bucket that is not a directory here, durability is the
// provider's word. The store reads back what it stored, before it lets its own
// copy go.
package cold

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	"gocloud.dev/gcerrors"

	"github.com/lacre-metrology/lacre/platform/durable"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

// Bucket is a storage.Cold. It is safe for concurrent use.
type Bucket struct {
	bucket *blob.Bucket
	dir    string // of files; "" for another kind of bucket
	shown  string // the location without what is secret in it
}

var _ storage.Cold = (*Bucket)(nil)

// Open opens a directory (a path, or file:// and a path), which it makes, or the bucket of a URL such as
// s3://bucket?region=eu-central-1&prefix=replica-institute/, whose driver the
// program links. It does not ask the bucket of a URL: one that is away keeps no
// replica from starting.
func Open(ctx context.Context, location string) (*Bucket, error) {
	shown, query, _ := strings.Cut(location, "?")
	if path, isFile := strings.CutPrefix(shown, "file://"); isFile {
		location, shown = path, path
	}
	if strings.Contains(location, "://") {
		bucket, err := blob.OpenBucket(ctx, location)
		if err != nil { // which repeats what may be secret
			return nil, fmt.Errorf("cold storage %s: %s\n       Remedy: name a directory, or the URL of a bucket whose driver this program links, such as s3://NAME?region=R", shown, strings.ReplaceAll(err.Error(), "?"+query, ""))
		}
		return &Bucket{bucket: bucket, shown: strings.TrimSuffix(shown, "/")}, nil
	}
	bucket, err := fileblob.OpenBucket(location, &fileblob.Options{
		CreateDir: true, DirFileMode: 0o700, NoTempDir: true, Metadata: fileblob.MetadataDontWrite,
	})
	if err != nil {
		return nil, fmt.Errorf("cold storage %s: %w", location, err)
	}
	return &Bucket{bucket: bucket, dir: location, shown: location}, nil
}

// accessibleWithin is how long a bucket may take to say that it is there.
const accessibleWithin = 15 * time.Second

// Check asks the bucket whether it is there.
func (b *Bucket) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, accessibleWithin)
	defer cancel()
	there, err := b.bucket.IsAccessible(ctx)
	if b.dir != "" {
		_, err = os.Stat(b.dir)
	}
	if err == nil && !there {
		err = errors.New("there is no such bucket, or it may not be listed")
	}
	if err != nil {
		return fmt.Errorf("cold storage %s: %w\n       Remedy: see that cold.store names the bucket, that it answers from here, and that the credentials may list, read and write in it", b.shown, err)
	}
	return nil
}

// Close gives the bucket back.
func (b *Bucket) Close() error { return b.bucket.Close() }

// Where is that of storage.Cold.
func (b *Bucket) Where(name string) string { return b.shown + "/" + name }

// Put is that of storage.Cold.
func (b *Bucket) Put(ctx context.Context, name string, from io.Reader, size int64) error {
	abort, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := b.bucket.NewWriter(abort, name, &blob.WriterOptions{ContentType: "application/octet-stream"})
	if err != nil {
		return err
	}
	n, err := io.Copy(w, from)
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes were to be stored, there are %d", size, n)
	}
	if err != nil {
		cancel() // Close drops what was written
		return errors.Join(err, w.Close())
	}
	if err := w.Close(); err != nil {
		return err
	}
	return b.sync(name)
}

// sync makes a file durable, because the replica then lets its copy go.
func (b *Bucket) sync(name string) error {
	if b.dir == "" {
		return nil
	}
	f, err := os.Open(filepath.Join(b.dir, name))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close(), durable.SyncDir(b.dir))
}

// Delete is that of storage.Cold.
func (b *Bucket) Delete(ctx context.Context, name string) error {
	err := b.bucket.Delete(ctx, name)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return b.Check(ctx) // where the whole bucket is gone, nothing is known of the object
	}
	if err != nil || b.dir == "" {
		return err
	}
	return durable.SyncDir(b.dir)
}

// Range is that of storage.Cold.
func (b *Bucket) Range(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	r, err := b.bucket.NewRangeReader(ctx, name, offset, length, nil)
	if gcerrors.Code(err) == gcerrors.NotFound {
		// Where the whole bucket is gone, it is its name that is wrong, or a mount.
		if err := b.Check(ctx); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", storage.ErrAbsent, err)
	}
	if err != nil {
		return nil, err
	}
	got := make([]byte, length)
	n, err := io.ReadFull(r, got)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil // it ends there
	}
	return got[:n], errors.Join(err, r.Close())
}
