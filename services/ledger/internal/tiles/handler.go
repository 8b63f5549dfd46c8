package tiles

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

const (
	// maxReads is how many requests read and compress at once, if there are
	// twice as many processors: they and the disk are first of all the replica's
	// own. A read holds at most a bundle, 15 MB.
	maxReads = 4
	// readWait is how long a request waits for its turn.
	readWait = 5 * time.Second

	// maxHeldBytes is how much of bodies waits for slow readers to take it. Only
	// bodies above smallBytes count, so that those cannot keep anybody from
	// checkpoints and tiles: 512 small ones are 32 MB.
	maxHeldBytes = 128 << 20
	smallBytes   = 64 << 10

	// A checkpoint's time stamps are refreshed each second (rule C2).
	cacheCheckpoint = "public, max-age=1"
	cacheTile       = "public, max-age=31536000, immutable"
	cacheNothing    = "no-store"

	typeText   = "text/plain; charset=utf-8"
	typeBinary = "application/octet-stream"
)

// resource is what a path names.
type resource struct {
	body      []byte
	mediaType string
	cache     string
	tagged    []byte // what the entity tag is of
	tag       string // the entity tag, for the coding that is asked for
	gzip      bool   // may be compressed
	zipped    bool   // body is compressed
	unchanged bool   // the reader has it
}

var (
	errNoSuchPath = errors.New("no such path: want /checkpoint, /tile/<L>/<N>[.p/<W>] or /tile/entries/<N>[.p/<W>]")
	errQuery      = fmt.Errorf("%w; none takes a query", errNoSuchPath)
	errBusy       = errors.New("too many readers at once, try again")
)

type handler struct {
	Config
	turns chan struct{}
	held  atomic.Int64 // bytes of bodies that are being written
}

// Handler answers requests. It is safe for concurrent use.
func Handler(c Config) http.Handler {
	reads := min(max(runtime.GOMAXPROCS(0)/2, 1), maxReads)
	return &handler{Config: c, turns: make(chan struct{}, reads)}
}

// ServeHTTP answers one request.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Access-Control-Allow-Origin", "*") // a verifier in a browser reads this too
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed, "only GET and HEAD")
		return
	}
	found, err := h.find(r)
	if err == nil && r.Method == http.MethodGet {
		var release func()
		if release, err = h.hold(len(found.body)); err == nil {
			defer release()
		}
	}
	if err != nil {
		h.answerError(w, r, err)
		return
	}
	header.Set("Content-Type", found.mediaType)
	header.Set("Cache-Control", found.cache)
	header.Set("ETag", found.tag)
	if found.gzip {
		header.Set("Vary", "Accept-Encoding")
	}
	if found.unchanged {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if found.zipped {
		header.Set("Content-Encoding", "gzip")
	}
	if found.body != nil {
		header.Set("Content-Length", strconv.Itoa(len(found.body)))
	}
	if r.Method == http.MethodHead {
		return
	}
	if _, err := w.Write(found.body); err != nil {
		h.Log.DebugContext(r.Context(), "a reader of tiles went away", "path", r.URL.Path, "error", err)
	}
}

// hold counts a body in that is about to be written.
func (h *handler) hold(size int) (release func(), err error) {
	n := int64(size)
	if n <= smallBytes {
		return func() {}, nil
	}
	release = func() { h.held.Add(-n) }
	if h.held.Add(n) > maxHeldBytes {
		release()
		return nil, errBusy
	}
	return release, nil
}

// find makes the resource that a request names.
func (h *handler) find(r *http.Request) (found resource, err error) {
	path := r.URL.Path
	if r.URL.EscapedPath() != path {
		return resource{}, errNoSuchPath // an escaped path is another name for one resource
	}
	if r.URL.RawQuery != "" || r.URL.ForceQuery {
		return resource{}, errQuery // so is one with a query, and a cache in front would ask for each anew
	}
	var tile Tile
	if path != "/checkpoint" {
		if tile, err = ParsePath(path); err != nil {
			return resource{}, fmt.Errorf("%w (%w)", errNoSuchPath, err)
		}
	}
	leave, err := h.enter(r.Context())
	if err != nil {
		return resource{}, err
	}
	defer leave()
	err = h.Guard(r.Context(), func(context.Context) (err error) {
		if tile.Width == 0 {
			found, err = h.checkpoint()
		} else {
			found, err = h.tile(tile)
		}
		return err
	})
	if err == nil {
		found.prepare(r)
	}
	return found, err
}

// prepare makes a resource's tag and body what a request asks for.
func (found *resource) prepare(r *http.Request) {
	zip := found.gzip && acceptsGzip(r)
	found.tag = entityTag(found.tagged, zip)
	switch {
	case matches(r.Header.Values("If-None-Match"), found.tag):
		found.body, found.unchanged = nil, true
	case zip && r.Method == http.MethodHead:
		found.body, found.zipped = nil, true // its length is not worth the work
	case zip:
		found.body, found.zipped = compressed(found.body), true
	}
}

// enter waits for a turn to read.
func (h *handler) enter(ctx context.Context) (leave func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, readWait)
	defer cancel()
	select {
	case h.turns <- struct{}{}:
		return func() { <-h.turns }, nil
	case <-ctx.Done():
		return nil, errBusy
	}
}

func (h *handler) checkpoint() (resource, error) {
	certificate, err := h.Newest()
	if err != nil {
		return resource{}, err
	}
	text := certificate.Text()
	return resource{body: text, tagged: text, mediaType: typeText, cache: cacheCheckpoint}, nil
}

func (h *handler) tile(t Tile) (resource, error) {
	certificate, err := h.Newest()
	if err != nil {
		return resource{}, err
	}
	certified := certificate.Checkpoint
	if !t.within(certified.Size) {
		return resource{}, reason.New(reason.NotFound, "%s is not within the certified %d leaves", t.Path(), certified.Size)
	}
	hashes, err := hashesOf(h.Store, t, certified)
	if err != nil {
		return resource{}, err
	}
	body := concatenated(hashes)
	found := resource{body: body, tagged: body, mediaType: typeBinary, cache: cacheTile}
	if t.Entries {
		found.gzip = true // and tagged stays: the hashes determine the leaves
		found.body, err = bundleOf(h.Store, t, hashes)
	}
	return found, err
}

// answerError says what is wrong, and to whom: nothing here may be cached.
func (h *handler) answerError(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, errNoSuchPath), reason.Of(err) == reason.NotFound:
		refuse(w, http.StatusNotFound, err.Error())
	case errors.Is(err, errBusy), errors.Is(err, storage.ErrScarce), reason.Of(err) == reason.NotCertified, reason.Of(err) == reason.NotReady:
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusServiceUnavailable, err.Error())
	default:
		h.Log.ErrorContext(r.Context(), "a tile could not be read", "path", r.URL.Path, "error", err)
		refuse(w, http.StatusInternalServerError, "this replica cannot read its ledger; ask another")
	}
}

func refuse(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", typeText)
	w.Header().Set("Cache-Control", cacheNothing)
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n")) // nobody is left to tell
}

func entityTag(of []byte, zip bool) string {
	sum := sha256.Sum256(of)
	if zip {
		return fmt.Sprintf(`"%x-gzip"`, sum[:16]) // other bytes, other tag
	}
	return fmt.Sprintf(`"%x"`, sum[:16])
}

// matches is RFC 9110 section 13.1.2; tags contain no comma here.
func matches(headers []string, tag string) bool {
	for _, header := range headers {
		for candidate := range strings.SplitSeq(header, ",") {
			candidate = strings.TrimPrefix(strings.TrimSpace(candidate), "W/")
			if candidate == tag || candidate == "*" {
				return true
			}
		}
	}
	return false
}

// acceptsGzip is RFC 9110 section 12.5.3, for the one coding there is here.
func acceptsGzip(r *http.Request) bool {
	for _, header := range r.Header.Values("Accept-Encoding") {
		for item := range strings.SplitSeq(header, ",") {
			coding, weight, _ := strings.Cut(item, ";")
			if strings.EqualFold(strings.TrimSpace(coding), "gzip") {
				_, q, given := strings.Cut(weight, "=")
				value, err := strconv.ParseFloat(strings.TrimSpace(q), 64)
				return !given || err == nil && value > 0
			}
		}
	}
	return false
}

func compressed(body []byte) []byte {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level exists
	}
	_, _ = w.Write(body) // a buffer takes everything
	_ = w.Close()
	return out.Bytes()
}
