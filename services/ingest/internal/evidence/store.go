// Package evidence keeps sealed evidence and gives it to authorities.
//
// Source: architecture, "Threats" ("plate image leaks"), rule N1; docs/formats.md,
// "Sealed evidence"; gocloud.dev/blob.
//
// Invariants:
//   - A piece is named by its digest. It is there whole or not at all: its size
//     is known before the first byte is taken, its digest before it appears.
//   - Nothing is kept that no authority could open, and nothing whose erasure is
//     on the ledger.
//   - No byte is given out before the record of its reading is certified.
//
// Known holes: the gateway that keeps a piece is trusted to record who reads it;
// what it could hand out otherwise is sealed. In a bucket that is not a directory here, durability is the
// provider's word.
package evidence

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

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/evidence"
	"github.com/lacre-metrology/lacre/core/reason"
)

// Store is a bucket of pieces, each under its digest in hexadecimal. It is safe
// for concurrent use.
type Store struct {
	bucket *blob.Bucket
	dir    string // of files; "" for another kind of bucket
}

// OpenStore opens a directory, which it makes, or the bucket of a URL such as
// s3://bucket?region=eu-central-1, whose driver the program links.
func OpenStore(ctx context.Context, location string) (*Store, error) {
	if strings.Contains(location, "://") {
		bucket, err := blob.OpenBucket(ctx, location)
		if err != nil {
			return nil, unusable(location, err)
		}
		if err := accessible(ctx, bucket); err != nil {
			return nil, errors.Join(unusable(location, err), bucket.Close())
		}
		return &Store{bucket: bucket}, nil
	}
	bucket, err := fileblob.OpenBucket(location, &fileblob.Options{
		CreateDir: true, DirFileMode: 0o700, NoTempDir: true, Metadata: fileblob.MetadataDontWrite,
	})
	if err != nil {
		return nil, fmt.Errorf("evidence store %s: %w", location, err)
	}
	s := &Store{bucket: bucket, dir: location}
	if err := s.dropUnfinished(); err != nil {
		return nil, errors.Join(err, bucket.Close())
	}
	return s, nil
}

// dropUnfinished removes what an upload left that a crash ended: fileblob writes a
// piece as NAME.STAMP.tmp beside where it will stand.
func (s *Store) dropUnfinished() error {
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		name, _, _ := strings.Cut(f.Name(), ".")
		if _, err := digest.Parse(name); err == nil && strings.HasSuffix(f.Name(), ".tmp") {
			if err := os.Remove(filepath.Join(s.dir, f.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// List visits the pieces that are there, with their sizes and when they were
// stored, in no order that counts.
func (s *Store) List(ctx context.Context, visit func(piece digest.Digest, size int64, at time.Time)) error {
	for list := s.bucket.List(nil); ; {
		object, err := list.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if piece, err := digest.Parse(object.Key); err == nil { // else it is not ours
			visit(piece, object.Size, object.ModTime)
		}
	}
}

// accessibleWithin is how long a bucket may take to say that it is there.
const accessibleWithin = 15 * time.Second

// accessible asks a bucket of somebody else's for its first key, so that wrong
// credentials show at the start and not at the first picture.
func accessible(ctx context.Context, bucket *blob.Bucket) error {
	ctx, cancel := context.WithTimeout(ctx, accessibleWithin)
	defer cancel()
	there, err := bucket.IsAccessible(ctx)
	if err == nil && !there {
		err = errNoBucket
	}
	return err
}

var errNoBucket = errors.New("there is no such bucket")

// unusable says what helps. A URL's query is the operator's, and not repeated.
func unusable(location string, err error) error {
	shown, _, _ := strings.Cut(location, "?")
	remedy := "see that the URL names a bucket whose driver this program links (s3://NAME?region=R&endpoint=URL&use_path_style=true), and that it answers from here"
	switch {
	case gcerrors.Code(err) == gcerrors.PermissionDenied:
		remedy = "give credentials that may list, read, write and delete in it: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
	case errors.Is(err, errNoBucket):
		remedy = "make the bucket, or correct its name and region"
	}
	return fmt.Errorf("evidence store %s: %w\n       Remedy: %s", shown, err, remedy)
}

// Close gives the bucket back.
func (s *Store) Close() error { return s.bucket.Close() }

// Has reports whether a piece is there.
func (s *Store) Has(ctx context.Context, piece digest.Digest) (bool, error) {
	return s.bucket.Exists(ctx, piece.String())
}

// Put stores what body gives, if that has the size and the digest. After an error
// nothing of it is there. Errors: TooLarge or DigestMismatch as *reason.Error,
// body's, or the bucket's.
func (s *Store) Put(ctx context.Context, piece digest.Digest, size int64, body io.Reader) error {
	abort, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := s.bucket.NewWriter(abort, piece.String(), &blob.WriterOptions{ContentType: "application/octet-stream"})
	if err != nil {
		return err
	}
	sum := digest.New(digest.Evidence)
	n, err := io.Copy(io.MultiWriter(w, sum), io.LimitReader(body, size+1))
	switch {
	case err != nil:
	case n > size:
		err = reason.New(reason.TooLarge, "more bytes came than the %d announced", size)
	case n < size || sum.Digest() != piece:
		err = reason.New(reason.DigestMismatch, "%d bytes with digest %s came, %d with %s were announced", n, sum.Digest().Short(), size, piece.Short())
	}
	if err != nil {
		cancel() // Close drops what was written
		if e := w.Close(); e == nil {
			err = errors.Join(err, s.Erase(ctx, piece))
		}
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return s.sync(piece)
}

// sync makes a file durable, because the meter then lets its copy go.
func (s *Store) sync(piece digest.Digest) error {
	if s.dir == "" {
		return nil
	}
	for _, name := range []string{filepath.Join(s.dir, piece.String()), s.dir} {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// Read opens a piece, after it was compared with its digest. Errors are
// *reason.Error NotFound or DataLoss, or the bucket's.
func (s *Store) Read(ctx context.Context, piece digest.Digest) (io.ReadCloser, error) {
	r, err := s.open(ctx, piece)
	if err != nil {
		return nil, err
	}
	got, n, err := evidence.Judge(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	if got != piece {
		return nil, reason.New(reason.DataLoss, "evidence %s: %d bytes with digest %s are stored", piece.Short(), n, got.Short())
	}
	return s.open(ctx, piece)
}

// Recipient is the key to which a piece says that it is sealed. Errors are
// *reason.Error NotFound or EvidenceUnreadable, or the bucket's.
func (s *Store) Recipient(ctx context.Context, piece digest.Digest) (_ []byte, err error) {
	r, err := s.bucket.NewRangeReader(ctx, piece.String(), 0, int64(evidence.HeaderBytes), nil)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return nil, notKept(piece)
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	head, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	return evidence.Recipient(head)
}

func notKept(piece digest.Digest) error {
	return reason.New(reason.NotFound, "evidence %s is not kept here", piece.Short())
}

func (s *Store) open(ctx context.Context, piece digest.Digest) (io.ReadCloser, error) {
	r, err := s.bucket.NewReader(ctx, piece.String(), nil)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return nil, notKept(piece)
	}
	return r, err
}

// Erase removes a piece; one that is not there is none to remove.
func (s *Store) Erase(ctx context.Context, piece digest.Digest) error {
	err := s.bucket.Delete(ctx, piece.String())
	if gcerrors.Code(err) == gcerrors.NotFound {
		return nil
	}
	return err
}
