package evidence_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	_ "gocloud.dev/blob/s3blob" // as lacre-ingest links it

	"github.com/lacre-metrology/lacre/core/digest"
	sealing "github.com/lacre-metrology/lacre/core/evidence"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/services/ingest/internal/evidence"
)

const accessKey = "AKIDEXAMPLE"

// s3 serves the protocol over HTTP with one bucket, to whoever signs with the
// access key; it gives the URL of the bucket and a way to end it.
func s3(t *testing.T) (location func(bucket string) string, stop func()) {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("plates"); err != nil {
		t.Fatal(err)
	}
	served := gofakes3.New(backend).Server()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Authorization"), "Credential="+accessKey+"/") {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
			return
		}
		served.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", accessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	return func(bucket string) string {
		return "s3://" + bucket + "?" + url.Values{"region": {"us-east-1"}, "endpoint": {server.URL}, "use_path_style": {"true"}}.Encode()
	}, server.Close
}

func seal(t *testing.T, content []byte) (sealed []byte, piece digest.Digest, recipient []byte) {
	t.Helper()
	seed := digest.Plain([]byte("authority"))
	key, err := ecdh.X25519().NewPrivateKey(seed[:])
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	p, err := sealing.Seal(&out, key.PublicKey().Bytes(), sealing.Context{MeterID: "meter-01", MediaType: "image/jpeg"}, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), p.Digest, key.PublicKey().Bytes()
}

// The store is the same in a directory and behind the S3 protocol.
func TestStore(t *testing.T) {
	location, _ := s3(t)
	for name, where := range map[string]string{"directory": t.TempDir(), "s3": location("plates")} {
		t.Run(name, func(t *testing.T) {
			s, err := evidence.OpenStore(t.Context(), where)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			testStore(t, s)
		})
	}
}

func testStore(t *testing.T, s *evidence.Store) {
	ctx := t.Context()
	small, smallPiece, recipient := seal(t, []byte("a plate"))
	large, largePiece, _ := seal(t, bytes.Repeat([]byte("plate "), 3<<20)) // 18 MiB: several parts of an upload
	wantAbsent := func(what string, piece digest.Digest) {
		t.Helper()
		if there, err := s.Has(ctx, piece); there || err != nil {
			t.Errorf("%s: it is there: %v, %v", what, there, err)
		}
		if _, err := s.Read(ctx, piece); reason.Of(err) != reason.NotFound {
			t.Errorf("%s: read: %v", what, err)
		}
		if _, err := s.Recipient(ctx, piece); reason.Of(err) != reason.NotFound {
			t.Errorf("%s: recipient: %v", what, err)
		}
	}
	broken := errors.New("the line is cut")
	for name, c := range map[string]struct {
		size int64
		body io.Reader
		want error
	}{
		"less than announced": {int64(len(large)) + 1, bytes.NewReader(large), reason.New(reason.DigestMismatch, "")},
		"more than announced": {int64(len(large)) - 1, bytes.NewReader(large), reason.New(reason.TooLarge, "")},
		"other bytes":         {int64(len(small)), bytes.NewReader(small), reason.New(reason.DigestMismatch, "")},
		"cut off":             {int64(len(large)), io.MultiReader(bytes.NewReader(large[:12<<20]), iotest.ErrReader(broken)), broken},
	} {
		if err := s.Put(ctx, largePiece, c.size, c.body); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		wantAbsent(name, largePiece)
	}
	for piece, sealed := range map[digest.Digest][]byte{smallPiece: small, largePiece: large} {
		for range 2 { // the same again changes nothing
			if err := s.Put(ctx, piece, int64(len(sealed)), bytes.NewReader(sealed)); err != nil {
				t.Fatal(err)
			}
		}
		r, err := s.Read(ctx, piece)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, sealed) {
			t.Errorf("read %d bytes of %d: %v", len(got), len(sealed), err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if got, err := s.Recipient(ctx, piece); err != nil || !bytes.Equal(got, recipient) {
			t.Errorf("recipient %x (%v)", got, err)
		}
	}
	for range 2 { // what is not there is none to remove
		if err := s.Erase(ctx, smallPiece); err != nil {
			t.Error(err)
		}
		wantAbsent("erased", smallPiece)
	}
	if there, err := s.Has(ctx, largePiece); !there || err != nil {
		t.Errorf("the other piece is gone: %v", err)
	}
}

// A bucket that cannot be used says why at the start, and what helps; credentials
// in its URL are not repeated.
func TestUnusableBucket(t *testing.T) {
	location, stop := s3(t)
	refused := func(where string, wants ...string) {
		t.Helper()
		s, err := evidence.OpenStore(context.WithoutCancel(t.Context()), where)
		if err == nil {
			t.Errorf("%s opened: %v", where, s.Close())
			return
		}
		for _, want := range append(wants, "Remedy: ") {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q in it", where, err, want)
			}
		}
		if strings.Contains(err.Error(), "region=us-east-1") {
			t.Errorf("the URL's query is repeated: %v", err)
		}
	}
	refused(location("nothing"), "s3://nothing: ", "make the bucket")
	refused("nosuch://bucket", "driver")
	t.Setenv("AWS_ACCESS_KEY_ID", "ANOTHER")
	refused(location("plates"), "AWS_ACCESS_KEY_ID")
	t.Setenv("AWS_ACCESS_KEY_ID", accessKey)
	stop()
	refused(location("plates"), "answers from here")
}
