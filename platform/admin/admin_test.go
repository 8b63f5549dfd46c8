package admin_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lacre-metrology/lacre/platform/admin"
)

// served runs a port and returns its base URL and a function that stops it and gives Run's error.
func served(t *testing.T, config admin.Config, ready func() map[string]bool) (base string, stop func() error) {
	t.Helper()
	server, err := admin.New(config, admin.Options{
		Service: "ledger", NodeID: "replica-a", Formats: map[string]int{"proposal": 1},
		Registry: admin.NewRegistry(), Ready: ready, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return "http://" + server.Addr().String(), stop
}

// do sends a request; host replaces the Host header unless it is empty.
func do(t *testing.T, method, url, host string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	request.Host = host
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Error(err)
	}
	return response.StatusCode, string(text)
}

func TestPortAnswersAndNeverChanges(t *testing.T) {
	base, _ := served(t, admin.Config{Listen: "127.0.0.1:0"}, nil)
	for _, c := range []struct {
		method, path, host string
		status             int
		says               string
	}{
		{"GET", "/metrics", "", 200, "lacre_build_info{"},
		{"GET", "/metrics", "", 200, "go_goroutines "},
		{"GET", "/metrics", "", 200, "process_cpu_seconds_total "},
		{"GET", "/debug/pprof/", "", 200, "goroutine"},
		{"GET", "/debug/pprof/heap?debug=1", "", 200, "heap profile"},
		{"GET", "/debug/pprof/goroutine?debug=1", "", 200, "goroutine profile"},
		{"GET", "/debug/pprof/profile?seconds=1200", "", 400, "at most 120"},
		{"GET", "/livez", "", 200, `"alive"`},
		{"GET", "/readyz", "", 200, `"ready":true`},
		{"HEAD", "/readyz", "", 200, ""},
		{"GET", "/", "", 404, "not found"},
		{"GET", "/metrics", "localhost:9", 200, "go_goroutines "},
		{"GET", "/metrics", "[::1]:9", 200, "go_goroutines "},
		{"POST", "/metrics", "", 405, "only GET and HEAD"},
		{"DELETE", "/debug/pprof/heap", "", 405, "only GET and HEAD"},
		{"GET", "/metrics", "rebound.example:80", 421, "not a loopback address"},
		{"GET", "/debug/pprof/heap", "192.0.2.1", 421, "not a loopback address"},
	} {
		t.Run(c.method+" "+c.path+" "+c.host, func(t *testing.T) {
			status, body := do(t, c.method, base+c.path, c.host)
			if status != c.status || !strings.Contains(body, c.says) {
				t.Errorf("answered %d %.300q, want %d with %q", status, body, c.status, c.says)
			}
		})
	}
}

func TestReadyNamesEachService(t *testing.T) {
	var ready atomic.Bool
	base, _ := served(t, admin.Config{Listen: "127.0.0.1:0"}, func() map[string]bool {
		return map[string]bool{"": true, "lacre.ledger.v1.LedgerService": ready.Load()}
	})
	if status, body := do(t, "GET", base+"/readyz", ""); status != 503 || !strings.Contains(body, `"lacre.ledger.v1.LedgerService":false`) {
		t.Errorf("not ready: %d %s", status, body)
	}
	if status, body := do(t, "GET", base+"/livez", ""); status != 200 {
		t.Errorf("alive though not ready: %d %s", status, body)
	}
	ready.Store(true)
	if status, body := do(t, "GET", base+"/readyz", ""); status != 200 || !strings.Contains(body, `"ready":true`) {
		t.Errorf("ready: %d %s", status, body)
	}
}

func TestVersionIsJSON(t *testing.T) {
	base, _ := served(t, admin.Config{Listen: "127.0.0.1:0"}, nil)
	_, body := do(t, "GET", base+"/version", "")
	var got admin.Version
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	if got.Service != "ledger" || got.Node != "replica-a" || got.Version == "" || !strings.HasPrefix(got.Go, "go") || got.Formats["proposal"] != 1 {
		t.Errorf("version is %+v", got)
	}
}

// A trace of a minute and a half ends, complete, when the node stops: one that was cut off would end with an error.
func TestStopEndsProfiles(t *testing.T) {
	base, stop := served(t, admin.Config{Listen: "127.0.0.1:0"}, nil)
	type result struct {
		status int
		body   string
	}
	traced := make(chan result, 1)
	go func() {
		status, body := do(t, "GET", base+"/debug/pprof/trace?seconds=90", "")
		traced <- result{status, body}
	}()
	for running := false; !running && t.Context().Err() == nil; {
		_, goroutines := do(t, "GET", base+"/debug/pprof/goroutine?debug=1", "")
		running = strings.Contains(goroutines, "net/http/pprof.Trace")
	}
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if got := <-traced; got.status != 200 || !strings.HasPrefix(got.body, "go 1.") {
		t.Errorf("the trace is answered with %d %.100q", got.status, got.body)
	}
}

func TestListensOnLoopbackUnlessToldOtherwise(t *testing.T) {
	for _, c := range []struct {
		config admin.Config
		says   string // "" is accepted
	}{
		{admin.Config{}, ""},
		{admin.Config{Listen: "127.0.0.1:7403"}, ""},
		{admin.Config{Listen: "[::1]:7403"}, ""},
		{admin.Config{Listen: "localhost:7403"}, ""},
		{admin.Config{Listen: "127.8.9.1:0"}, ""},
		{admin.Config{Listen: ":7403", Public: true}, ""},
		{admin.Config{Listen: ":7403"}, "not a loopback address"},
		{admin.Config{Listen: "0.0.0.0:7403"}, "not a loopback address"},
		{admin.Config{Listen: "[::]:7403"}, "not a loopback address"},
		{admin.Config{Listen: "192.0.2.7:7403"}, "public: true"},
		{admin.Config{Listen: "replica.example:7403"}, "not a loopback address"},
		{admin.Config{Listen: "7403"}, "missing port"},
	} {
		err := c.config.Validate()
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v, want %q", c.config, err, c.says)
		}
		if _, other := admin.New(c.config, admin.Options{Registry: admin.NewRegistry()}); err != nil && other == nil {
			t.Errorf("%+v listens though it is refused", c.config)
		}
	}
}

func TestNoAddressMeansNoPort(t *testing.T) {
	server, err := admin.New(admin.Config{}, admin.Options{Registry: admin.NewRegistry()})
	if err != nil || server.Addr() != nil {
		t.Fatalf("listens on %v (%v)", server.Addr(), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := server.Run(ctx); err != nil {
		t.Error(err)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
}

func TestCloseReleasesThePort(t *testing.T) {
	server, err := admin.New(admin.Config{Listen: "127.0.0.1:0"}, admin.Options{Registry: admin.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := net.Listen("tcp", server.Addr().String()) //nolint:noctx // binding a local address does not block.
	if err != nil {
		t.Fatalf("the port is still held: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
