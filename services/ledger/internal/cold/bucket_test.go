package cold_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	_ "gocloud.dev/blob/s3blob" // as lacre-ledger links it

	"github.com/lacre-metrology/lacre/services/ledger/internal/cold"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

// s3 serves the protocol over HTTP with the bucket "vectors".
func s3(t *testing.T) (location func(bucket, prefix string) string, stop func()) {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("vectors"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(server.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	return func(bucket, prefix string) string {
		query := url.Values{"region": {"us-east-1"}, "endpoint": {server.URL}, "use_path_style": {"true"}}
		if prefix != "" {
			query.Set("prefix", prefix)
		}
		return "s3://" + bucket + "?" + query.Encode()
	}, server.Close
}

func open(t *testing.T, location string) *cold.Bucket {
	t.Helper()
	b, err := cold.Open(t.Context(), location)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// Objects are whole or absent, and read in parts, in a directory and behind the
// S3 protocol.
func TestBucket(t *testing.T) {
	location, _ := s3(t)
	for name, where := range map[string]string{"directory": t.TempDir() + "/cold", "file": "file://" + t.TempDir() + "/cold", "s3": location("vectors", "replica-01/")} {
		t.Run(name, func(t *testing.T) {
			b, ctx := open(t, where), t.Context()
			if err := b.Check(ctx); err != nil {
				t.Fatal(err)
			}
			content := bytes.Repeat([]byte("0123456789"), 700_000) // more than one part of an upload
			broken := errors.New("the line is cut")
			for what, from := range map[string]io.Reader{
				"cut off":   io.MultiReader(bytes.NewReader(content[:6<<20]), iotest.ErrReader(broken)),
				"too short": bytes.NewReader(content[:100]),
			} {
				if err := b.Put(ctx, "1.raw", from, int64(len(content))); err == nil {
					t.Errorf("%s is stored", what)
				}
				if got, err := b.Range(ctx, "1.raw", 0, 10); !errors.Is(err, storage.ErrAbsent) {
					t.Errorf("%s: %q is there (%v)", what, got, err)
				}
			}
			for range 2 {
				if err := b.Put(ctx, "1.raw", bytes.NewReader(content), int64(len(content))); err != nil {
					t.Fatal(err)
				}
			}
			for _, r := range [][2]int64{{0, 10}, {7, 1 << 20}, {int64(len(content)) - 3, 3}, {int64(len(content)) - 3, 10}} {
				got, err := b.Range(ctx, "1.raw", r[0], r[1])
				if want := content[r[0]:min(r[0]+r[1], int64(len(content)))]; err != nil || !bytes.Equal(got, want) {
					t.Errorf("bytes from %d: %d are read, want %d (%v)", r[0], len(got), len(want), err)
				}
			}
			if _, err := b.Range(ctx, "2.raw", 0, 1); !errors.Is(err, storage.ErrAbsent) {
				t.Errorf("another object: %v", err)
			}
			for range 2 { // also what is not there
				if err := b.Delete(ctx, "1.raw"); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := b.Range(ctx, "1.raw", 0, 1); !errors.Is(err, storage.ErrAbsent) {
				t.Errorf("a deleted object: %v", err)
			}
			if got := b.Where("1.raw"); !strings.HasSuffix(got, "/1.raw") || strings.Contains(got, "region") {
				t.Errorf("it is said to be at %s", got)
			}
		})
	}
}

// A bucket that is away, that is not there, or whose directory is not mounted has
// lost nothing; its URL's query is not repeated.
func TestBucketThatIsAwayHasLostNothing(t *testing.T) {
	location, stop := s3(t)
	dir := t.TempDir() + "/cold"
	unmounted := open(t, dir)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	away := func(b *cold.Bucket, check bool) {
		t.Helper()
		ctx := context.WithoutCancel(t.Context())
		if _, err := b.Range(ctx, "1.raw", 0, 1); err == nil || errors.Is(err, storage.ErrAbsent) {
			t.Errorf("an object there: %v", err)
		}
		if err := b.Delete(ctx, "1.raw"); err == nil {
			t.Error("an object of a bucket that is away counts as deleted")
		}
		if err := b.Check(ctx); check && (err == nil || !strings.Contains(err.Error(), "Remedy: ") || strings.Contains(err.Error(), "region=us-east-1")) {
			t.Errorf("the bucket: %v", err)
		}
	}
	away(unmounted, true)
	away(open(t, location("nothing", "")), true)
	b := open(t, location("vectors", ""))
	stop()
	away(b, false)
	if _, err := cold.Open(t.Context(), "nosuch://bucket"); err == nil || !strings.Contains(err.Error(), "Remedy: ") {
		t.Errorf("a strange URL: %v", err)
	}
}
