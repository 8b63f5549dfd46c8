package tiles

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// What a slow reader has not taken yet is bounded: many slow readers of large
// bundles must not use up the replica's memory.
func TestBodiesThatWaitForSlowReadersAreBounded(t *testing.T) {
	const slow = 12
	l := newLedgerOf(t, 256, 60_000)
	h := Handler(l.config())
	release := make(chan struct{})
	written := make(chan int, slow)
	held := make(chan *slowWriter, slow)
	for range slow {
		go func() {
			w := &slowWriter{ResponseRecorder: httptest.NewRecorder(), release: release, held: held}
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://replica.example/tile/entries/000", http.NoBody))
			written <- w.Code
		}()
	}
	// Each is either held up in its writing or was told to come again.
	bodies, busy := 0, 0
	for bodies+busy < slow {
		if w := <-held; w.Code == http.StatusOK {
			bodies++
		} else {
			busy++
		}
	}
	if limit := maxHeldBytes / (256 * 60_000); bodies < 1 || bodies > limit {
		t.Errorf("%d bundles of 15 MB are held at once, want 1 to %d", bodies, limit)
	}
	// Small resources are to be had meanwhile.
	for _, path := range []string{"/checkpoint", "/tile/0/000", "/tile/entries/000.p/1"} {
		if got := ask(h, http.MethodGet, path); got.Code != http.StatusOK {
			t.Errorf("%s beside slow readers: status %d", path, got.Code)
		}
	}
	close(release)
	for range slow {
		<-written
	}
	if got := ask(h, http.MethodGet, "/tile/entries/000"); got.Code != http.StatusOK || got.Body.Len() != 256*(60_000+2) {
		t.Errorf("after the slow readers went: status %d, %d bytes", got.Code, got.Body.Len())
	}
}

// slowWriter stops at the first byte until it is released.
type slowWriter struct {
	*httptest.ResponseRecorder
	release chan struct{}
	held    chan *slowWriter
}

func (w *slowWriter) Write(b []byte) (int, error) {
	w.held <- w
	<-w.release
	return w.ResponseRecorder.Write(b)
}
