package tiles

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	sumdb "golang.org/x/mod/sumdb/tlog"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

// ledger is a stored log of small leaves, beside another project's tree of the
// same leaves.
type ledger struct {
	store  *storage.Store
	dir    string
	leaves [][]byte
	theirs []sumdb.Hash // as sumdb/tlog stores a tree
	tree   *tlog.Range

	certified uint64 // what Newest says; 0 is nothing
	wrongRoot bool
	damage    error // the last that Guard saw
}

// newLedger has count leaves in blocks of irregular size, most of them not in
// memory any more.
func newLedger(t *testing.T, count int) *ledger { return newLedgerOf(t, count, 0) }

// newLedgerOf has leaves of so many bytes; 0 is short ones.
func newLedgerOf(t *testing.T, count, leafBytes int) *ledger {
	t.Helper()
	const seed = 7
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	l := &ledger{dir: t.TempDir(), tree: tlog.NewRange()}
	var err error
	if l.store, err = storage.Open(l.dir, storage.Options{CacheBytes: 1 << 16}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.store.Close() })
	var batch storage.Batch
	for height := uint64(0); len(l.leaves) < count; height++ {
		b := storage.Block{Ref: state.BlockRef{Height: height, FirstIndex: l.tree.Size(), BlockTimeUnixNano: 1}}
		for range min(1+random.IntN(1500), count-len(l.leaves)) {
			leaf := fmt.Appendf(nil, "leaf %d %0*d", len(l.leaves), random.IntN(40), 0)
			if leafBytes > 0 {
				leaf = append(leaf, make([]byte, leafBytes-len(leaf))...)
			}
			l.leaves = append(l.leaves, leaf)
			b.Leaves = append(b.Leaves, leaf)
			b.LeafHashes = append(b.LeafHashes, tlog.LeafHash(leaf))
			stored, err := sumdb.StoredHashes(int64(len(l.leaves)-1), leaf, sumdb.HashReaderFunc(l.stored))
			if err != nil {
				t.Fatal(err)
			}
			l.theirs = append(l.theirs, stored...)
		}
		b.Nodes = storage.Extend(l.tree, b.LeafHashes)
		b.Ref.Size, b.Ref.Root = l.tree.Size(), l.tree.Root()
		batch.Blocks = append(batch.Blocks, b)
	}
	if err := l.store.Commit(batch); err != nil {
		t.Fatal(err)
	}
	l.certified = l.tree.Size()
	return l
}

func (l *ledger) stored(indexes []int64) ([]sumdb.Hash, error) {
	var out []sumdb.Hash
	for _, i := range indexes {
		out = append(out, l.theirs[i])
	}
	return out, nil
}

// Newest is a certificate of which only the checkpoint matters here.
func (l *ledger) newest() (*tlog.Certificate, error) {
	if l.certified == 0 {
		return nil, reason.New(reason.NotCertified, "no block is certified yet")
	}
	tree, err := tlog.RangeAt(l.store, l.certified)
	if err != nil {
		return nil, err
	}
	c := &tlog.Certificate{Checkpoint: tlog.Checkpoint{Origin: "example.org/log", Size: l.certified, Root: tree.Root()}}
	if l.wrongRoot {
		c.Checkpoint.Root[0] ^= 1
	}
	return c, nil
}

func (l *ledger) guard(ctx context.Context, read func(context.Context) error) error {
	err := read(ctx)
	var lost *storage.DataLossError
	if errors.As(err, &lost) {
		l.damage = lost
	}
	return err
}

func (l *ledger) config() Config {
	return Config{Store: l.store, Newest: l.newest, Guard: l.guard, Log: slog.New(slog.DiscardHandler)}
}

func ask(h http.Handler, method, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://replica.example"+path, http.NoBody)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// entriesOf reads a bundle as the specification writes it.
func entriesOf(t *testing.T, bundle []byte) (entries [][]byte) {
	t.Helper()
	for len(bundle) > 0 {
		n := int(binary.BigEndian.Uint16(bundle))
		entries = append(entries, bundle[2:][:n])
		bundle = bundle[2+n:]
	}
	return entries
}

// pathOf is the specification's name of another project's tile.
func pathOf(tile sumdb.Tile) string { return "/" + strings.Replace(tile.Path(), "tile/8/", "tile/", 1) }

// Every tile that a tree of three levels has, full and partial, is the one that
// golang.org/x/mod/sumdb/tlog computes, and every bundle holds the leaves.
func TestTilesAreTheTreeThatOthersCompute(t *testing.T) {
	const size = 65536 + 3*256 + 77
	l := newLedger(t, size)
	h := Handler(l.config())
	levels := map[int]int{}
	for _, tile := range sumdb.NewTiles(8, 0, size) {
		levels[tile.L]++
		want, err := sumdb.ReadTileData(tile, sumdb.HashReaderFunc(l.stored))
		if err != nil {
			t.Fatal(err)
		}
		got := ask(h, http.MethodGet, pathOf(tile))
		if got.Code != http.StatusOK || !bytes.Equal(got.Body.Bytes(), want) {
			t.Fatalf("%s: status %d and %d bytes, want the %d that the other project computes", pathOf(tile), got.Code, got.Body.Len(), len(want))
		}
		if tile.L != 0 {
			continue
		}
		path := strings.Replace(pathOf(tile), "/tile/0/", "/tile/entries/", 1)
		bundle := ask(h, http.MethodGet, path)
		entries := entriesOf(t, bundle.Body.Bytes())
		if bundle.Code != http.StatusOK || len(entries) != tile.W {
			t.Fatalf("%s: status %d with %d entries, want %d", path, bundle.Code, len(entries), tile.W)
		}
		for i, entry := range entries {
			if index := int(tile.N)*256 + i; !bytes.Equal(entry, l.leaves[index]) {
				t.Fatalf("%s: entry %d is %q, leaf %d is %q", path, i, entry, index, l.leaves[index])
			}
		}
	}
	if want := map[int]int{0: 260, 1: 2, 2: 1}; levels[0] != want[0] || levels[1] != want[1] || levels[2] != want[2] {
		t.Errorf("compared %v tiles by level, want %v", levels, want)
	}
}

// A tile once partial is served at that width for ever, and each width is a
// prefix of the full one.
func TestPartialTilesStay(t *testing.T) {
	l := newLedger(t, 700)
	h := Handler(l.config())
	full := ask(h, http.MethodGet, "/tile/0/000").Body.Bytes()
	for width := 1; width < 256; width++ {
		got := ask(h, http.MethodGet, "/tile/0/000.p/"+strconv.Itoa(width)).Body.Bytes()
		if !bytes.Equal(got, full[:32*width]) {
			t.Fatalf("width %d has %d bytes, want the first %d of the full tile", width, len(got), 32*width)
		}
	}
	for size := uint64(1); size <= 700; size++ {
		l.certified = size
		for _, tile := range sumdb.NewTiles(8, 0, int64(size))[max(0, len(sumdb.NewTiles(8, 0, int64(size)))-2):] {
			want, err := sumdb.ReadTileData(tile, sumdb.HashReaderFunc(l.stored))
			if err != nil {
				t.Fatal(err)
			}
			if got := ask(h, http.MethodGet, pathOf(tile)); got.Code != http.StatusOK || !bytes.Equal(got.Body.Bytes(), want) {
				t.Fatalf("size %d: %s has status %d", size, pathOf(tile), got.Code)
			}
		}
	}
}

// Leaves that are stored and not certified are served by no path.
func TestC3_NothingBeyondTheCertifiedTree(t *testing.T) {
	l := newLedger(t, 1000)
	h := Handler(l.config())
	beyond := []string{"/tile/0/001.p/45", "/tile/0/001", "/tile/0/002.p/1", "/tile/0/003.p/200", "/tile/1/000.p/2", "/tile/1/000", "/tile/2/000.p/1", "/tile/8/000.p/1", "/tile/63/000.p/1"}
	l.certified = 300
	for _, path := range beyond {
		for _, p := range []string{path, strings.Replace(path, "/tile/0/", "/tile/entries/", 1)} {
			got := ask(h, http.MethodGet, p)
			if got.Code != http.StatusNotFound || got.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("%s of 300 certified leaves: status %d, %q", p, got.Code, got.Header().Get("Cache-Control"))
			}
		}
	}
	for _, path := range []string{"/tile/0/001.p/44", "/tile/entries/001.p/44", "/tile/1/000.p/1"} {
		if got := ask(h, http.MethodGet, path); got.Code != http.StatusOK {
			t.Errorf("%s of 300 certified leaves: status %d", path, got.Code)
		}
	}
	l.certified = 0
	for _, path := range []string{"/checkpoint", "/tile/0/000.p/1", "/tile/entries/000"} {
		if got := ask(h, http.MethodGet, path); got.Code != http.StatusServiceUnavailable || got.Header().Get("Retry-After") == "" {
			t.Errorf("%s before the first certificate: status %d", path, got.Code)
		}
	}
}

func TestHeaders(t *testing.T) {
	l := newLedger(t, 300)
	h := Handler(l.config())
	for _, c := range []struct{ path, mediaType, cache string }{
		{"/checkpoint", "text/plain; charset=utf-8", "public, max-age=1"},
		{"/tile/0/000", "application/octet-stream", "public, max-age=31536000, immutable"},
		{"/tile/0/001.p/44", "application/octet-stream", "public, max-age=31536000, immutable"},
		{"/tile/entries/000", "application/octet-stream", "public, max-age=31536000, immutable"},
	} {
		got := ask(h, http.MethodGet, c.path)
		for name, want := range map[string]string{
			"Content-Type": c.mediaType, "Cache-Control": c.cache, "X-Content-Type-Options": "nosniff",
			"Access-Control-Allow-Origin": "*", "Content-Length": strconv.Itoa(got.Body.Len()),
		} {
			if value := got.Header().Get(name); value != want {
				t.Errorf("%s: %s is %q, want %q", c.path, name, value, want)
			}
		}
		tag := got.Header().Get("ETag")
		if again := ask(h, http.MethodGet, c.path, "If-None-Match", `"other", W/`+tag); again.Code != http.StatusNotModified || again.Body.Len() != 0 || again.Header().Get("Cache-Control") != c.cache {
			t.Errorf("%s asked again under %s: status %d with %d bytes", c.path, tag, again.Code, again.Body.Len())
		}
		if other := ask(h, http.MethodGet, c.path, "If-None-Match", `"other"`); other.Code != http.StatusOK {
			t.Errorf("%s under another tag: status %d", c.path, other.Code)
		}
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions, "PROPFIND"} {
			if got := ask(h, method, c.path); got.Code != http.StatusMethodNotAllowed || got.Header().Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: status %d", method, c.path, got.Code)
			}
		}
	}
	if a, b := ask(h, http.MethodGet, "/tile/0/000").Header().Get("ETag"), ask(h, http.MethodGet, "/tile/0/000.p/255").Header().Get("ETag"); a == b {
		t.Errorf("two tiles have one tag %s", a)
	}
}

func TestOtherPathsAreNotFound(t *testing.T) {
	l := newLedger(t, 300)
	h := Handler(l.config())
	for _, path := range append([]string{"/checkpoint?", "/checkpoint?a=1", "/tile/0/000?1", "/tile/0/%30%30%30", "/%63heckpoint", "/tile%2F0/000", "/index.html", "/metrics"}, refusedPaths...) {
		if path == "" || !strings.HasPrefix(path, "/") || strings.Contains(path, " ") {
			continue // no request target
		}
		if got := ask(h, http.MethodGet, path); got.Code != http.StatusNotFound || got.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: status %d", path, got.Code)
		}
	}
}

func TestBundlesAreCompressedOnRequest(t *testing.T) {
	l := newLedger(t, 300)
	h := Handler(l.config())
	plain := ask(h, http.MethodGet, "/tile/entries/000")
	if plain.Header().Get("Content-Encoding") != "" || plain.Header().Get("Vary") != "Accept-Encoding" {
		t.Errorf("unasked: %v", plain.Header())
	}
	for accept, want := range map[string]bool{"gzip": true, "br, GZIP;q=0.5": true, "gzip;q=0": false, "identity": false, "br": false, "gzip;q=x": false} {
		got := ask(h, http.MethodGet, "/tile/entries/000", "Accept-Encoding", accept)
		body := got.Body.Bytes()
		if want {
			if got.Header().Get("Content-Encoding") != "gzip" || got.Header().Get("ETag") == plain.Header().Get("ETag") || got.Header().Get("Content-Length") != strconv.Itoa(len(body)) {
				t.Errorf("%q: %v", accept, got.Header())
			}
			r, err := gzip.NewReader(bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if body, err = io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(body, plain.Body.Bytes()) {
			t.Errorf("%q: the body is another", accept)
		}
	}
	if tile := ask(h, http.MethodGet, "/tile/0/000", "Accept-Encoding", "gzip"); tile.Header().Get("Content-Encoding") != "" {
		t.Error("hashes were compressed")
	}
}

// Whatever does not lead to the certified root is damage, and not served.
func TestTilesThatDoNotLeadToTheRootAreDamage(t *testing.T) {
	l := newLedger(t, 3000)
	h := Handler(l.config())
	l.wrongRoot = true
	for _, path := range []string{"/tile/0/000", "/tile/0/001.p/3", "/tile/1/000.p/11", "/tile/0/011.p/184", "/tile/entries/003"} {
		l.damage = nil
		got := ask(h, http.MethodGet, path)
		if got.Code != http.StatusInternalServerError || got.Header().Get("Cache-Control") != "no-store" || l.damage == nil {
			t.Errorf("%s: status %d, damage %v", path, got.Code, l.damage)
		}
	}
	l.wrongRoot = false
	certificate, err := l.newest()
	if err != nil {
		t.Fatal(err)
	}
	// One wrong node anywhere in a tile, and one wrong leaf hash in a bundle.
	tile := Tile{Index: 5, Width: 256}
	hashes, err := hashesOf(l.store, tile, certificate.Checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	for i := range hashes {
		broken := append([]digest.Digest(nil), hashes...)
		broken[i][31] ^= 1
		tree, err := tlog.RangeAt(&overlay{nodes: l.store, tile: tile, hashes: broken}, certificate.Checkpoint.Size)
		if err != nil || tree.Root() == certificate.Checkpoint.Root {
			t.Fatalf("hash %d was changed and leads to the root (%v)", i, err)
		}
		var lost *storage.DataLossError
		if _, err := bundleOf(l.store, tile, broken); !errors.As(err, &lost) || lost.Index != int64(5*256+i) {
			t.Fatalf("a leaf with another hash at %d: %v", i, err)
		}
	}
}

// A bit that flipped on the disk is found on reading, and not served.
func TestDamagedLeafIsNotServed(t *testing.T) {
	l := newLedger(t, 3000)
	h := Handler(l.config())
	if got := ask(h, http.MethodGet, "/tile/entries/002"); got.Code != http.StatusOK {
		t.Fatalf("status %d", got.Code)
	}
	files, err := filepath.Glob(filepath.Join(l.dir, "segments", "*.seg"))
	if err != nil || len(files) != 1 {
		t.Fatalf("segments %v (%v)", files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, l.leaves[600])
	if at < 0 {
		t.Fatal("leaf 600 is not in the segment")
	}
	b[at] ^= 1
	if err := os.WriteFile(files[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	got := ask(h, http.MethodGet, "/tile/entries/002")
	if got.Code != http.StatusInternalServerError || got.Header().Get("ETag") != "" || bytes.Contains(got.Body.Bytes(), []byte("leaf")) || l.damage == nil {
		t.Errorf("status %d, damage %v", got.Code, l.damage)
	}
	if got := ask(h, http.MethodGet, "/tile/entries/003"); got.Code != http.StatusOK {
		t.Errorf("another bundle: status %d", got.Code)
	}
}

func TestNoTurnIsAnAnswerToo(t *testing.T) {
	l := newLedger(t, 300)
	h := &handler{Config: l.config(), turns: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/checkpoint", http.NoBody)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "1" {
		t.Errorf("status %d", w.Code)
	}
}
