package tiles

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// The server over a socket: HEAD has the length and no body, oversized headers
// are refused, and it ends when told.
func TestServer(t *testing.T) {
	l := newLedger(t, 300)
	s, err := Listen("127.0.0.1:0", l.config())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	base := "http://" + s.Addr().String()

	do := func(method, path string, header http.Header) (*http.Response, []byte) {
		t.Helper()
		r, err := http.NewRequestWithContext(ctx, method, base+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = header
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response, body
	}
	_, tile := do(http.MethodGet, "/tile/0/000", nil)
	head, none := do(http.MethodHead, "/tile/0/000", nil)
	if len(tile) != 8192 || head.ContentLength != 8192 || len(none) != 0 || head.StatusCode != http.StatusOK {
		t.Errorf("GET has %d bytes; HEAD says %d and has %d", len(tile), head.ContentLength, len(none))
	}
	head, none = do(http.MethodHead, "/tile/entries/000", http.Header{"Accept-Encoding": {"gzip"}})
	if head.StatusCode != http.StatusOK || head.Header.Get("Content-Encoding") != "gzip" || head.ContentLength != -1 || len(none) != 0 {
		t.Errorf("HEAD of a compressed bundle: status %d, length %d, %v", head.StatusCode, head.ContentLength, head.Header)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/checkpoint", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Big", strings.Repeat("x", 64<<10))
	// The refusal may not reach who is still sending.
	if response, err := http.DefaultClient.Do(r); err == nil {
		_ = response.Body.Close()
		if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("a header of 64 KiB: status %d", response.StatusCode)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	stop()
	if err := <-ended; err != nil && ctx.Err() == nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", s.Addr().String()); err == nil {
		_ = c.Close()
		t.Error("it still listens")
	}
}
