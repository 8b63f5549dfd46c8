package tracing_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/lacre-metrology/lacre/platform/tracing"
	"github.com/lacre-metrology/lacre/platform/tracing/tracingtest"
)

func open(t *testing.T, c tracing.Config, metrics prometheus.Registerer) *tracing.Traces {
	t.Helper()
	traces, err := tracing.New(c, tracing.Options{Service: "test", NodeID: "node-a", Metrics: metrics, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return traces
}

// What is ended before the end is sent by the end.
func TestRunFlushesAtTheEnd(t *testing.T) {
	collector := tracingtest.New(t)
	metrics := prometheus.NewRegistry()
	traces := open(t, tracing.Config{Endpoint: collector.Address, Plaintext: true, Ratio: 1}, metrics)
	ctx, first := traces.Start(t.Context(), "first")
	_, second := traces.Below(ctx, "second")
	second.End(errors.New("it failed"))
	traces.Past(ctx, "past", time.Unix(1, 0), time.Unix(2, 0))
	first.End(nil)
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if err := traces.Run(stopped); err != nil {
		t.Fatal(err)
	}
	byName := map[string]tracingtest.Span{}
	for _, s := range collector.Spans() {
		byName[s.Name] = s
	}
	root := byName["first"]
	if root.Node != "node-a" || root.Service != "lacre-test" || root.Parent != "" || root.Error != "" {
		t.Errorf("first is %+v", root)
	}
	if s := byName["second"]; s.Parent != root.ID || s.Trace != root.Trace || s.Error != "error: it failed" {
		t.Errorf("second is %+v", s)
	}
	if s := byName["past"]; s.Parent != root.ID || s.Began != 1e9 || s.Ended != 2e9 {
		t.Errorf("past is %+v", s)
	}
	if got := counts(t, metrics); got["ended"] != 3 || got["sent"] != 3 || got["failed"] != 0 {
		t.Errorf("counted %v", got)
	}
}

func counts(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if f.GetName() == "lacre_trace_spans_total" {
			for _, m := range f.GetMetric() {
				got[label(m)] = m.GetCounter().GetValue()
			}
		}
	}
	return got
}

func label(m *dto.Metric) string { return m.GetLabel()[0].GetValue() }

// A batch is below one of the spans that it is for and linked with every other, and nothing when nobody looks.
func TestBatchIsLinkedWithAll(t *testing.T) {
	collector := tracingtest.New(t)
	traces := open(t, tracing.Config{Endpoint: collector.Address, Plaintext: true, Ratio: 1}, nil)
	spans := make([]tracing.Span, 4) // the first is of a sample that nobody traces
	for i := 1; i < len(spans); i++ {
		_, spans[i] = traces.Start(t.Context(), "sample")
	}
	ctx, batch := traces.Batch(t.Context(), "batch", spans)
	if !trace.SpanFromContext(ctx).IsRecording() {
		t.Error("the batch's context does not have its span")
	}
	if _, none := traces.Batch(t.Context(), "none", spans[:1]); none.Recording() {
		t.Error("a batch of samples that nobody traces is traced")
	}
	batch.End(nil)
	for _, s := range spans {
		s.End(nil)
	}
	if err := traces.Close(); err != nil {
		t.Fatal(err)
	}
	var found tracingtest.Span
	for _, s := range collector.Spans() {
		if s.Name == "batch" {
			found = s
		}
	}
	var linked, parents int
	for _, s := range collector.Spans() {
		if s.ID == found.Parent {
			parents++
		}
		if len(s.Links) == 1 && s.Links[0] == found.ID {
			linked++
		}
	}
	if parents != 1 || linked != 2 || len(found.Links) != 2 {
		t.Errorf("%d parents, %d samples linked with the batch, the batch with %d; want 1, 2, 2", parents, linked, len(found.Links))
	}
}

// Who sends a trace decides neither how much is recorded nor that it begins with a call.
func TestSampling(t *testing.T) {
	collector := tracingtest.New(t)
	const low, high = "00-0000000000000001%s-0000000000000001-%s", "ffffffffffffffff"
	parent := func(suffix, flags string) string {
		return strings.Replace(strings.Replace(low, "%s", suffix, 1), "%s", flags, 1)
	}
	for name, c := range map[string]struct {
		ratio  float64
		parent string
		want   bool
	}{
		"a trace of its own":                           {1, "", true},
		"a caller that records, within the ratio":      {0.5, parent("0000000000000001", "01"), true},
		"a caller that records, beyond the ratio":      {0.5, parent(high, "01"), false},
		"a caller that records, everything is":         {1, parent(high, "01"), true},
		"a caller that does not record":                {1, parent("0000000000000001", "00"), false},
		"something that is no parent begins a trace":   {1, "00-zz", true},
		"a parent of another length begins a trace":    {1, parent("0000000000000001", "01") + "-more", true},
		"by default a hundredth is recorded, not this": {0, parent(high, "01"), false},
	} {
		t.Run(name, func(t *testing.T) {
			traces := open(t, tracing.Config{Endpoint: collector.Address, Plaintext: true, Ratio: c.ratio}, nil)
			defer traces.Close()
			_, span := traces.Start(traces.FromParent(t.Context(), c.parent), "span")
			if span.Recording() != c.want {
				t.Errorf("recorded %v, want %v", span.Recording(), c.want)
			}
		})
	}
}

// Switched off, nothing is made and everything may be called.
func TestOff(t *testing.T) {
	traces := open(t, tracing.Config{}, nil)
	if traces != nil {
		t.Fatal("without an endpoint there are traces")
	}
	allocations := testing.AllocsPerRun(100, func() {
		ctx, span := traces.Start(t.Context(), "off")
		_, below := traces.Below(ctx, "off")
		traces.Past(ctx, "off", time.Time{}, time.Time{})
		_ = traces.FromParent(ctx, "")
		below.End(nil)
		span.End(nil)
	})
	if allocations != 0 {
		t.Errorf("switched off, a span allocates %v times", allocations)
	}
	if err := errors.Join(traces.Run(t.Context()), traces.Close()); err != nil {
		t.Error(err)
	}
	traces.ServerOption()
	traces.DialOption()
}

// A collector that takes connections and says nothing, and one that is not there, hold nobody up: spans end at once,
// the queue drops what it cannot hold, and the end is bounded.
func TestADeadCollectorHoldsNobodyUp(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // connections wait in its backlog
	if err != nil {
		t.Fatal(err)
	}
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	for name, address := range map[string]string{"silent": silent.Addr().String(), "gone": gone.Addr().String(), "no such name": "collector.invalid:4317"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			metrics := prometheus.NewRegistry()
			traces := open(t, tracing.Config{Endpoint: address, Plaintext: true, Ratio: 1}, metrics)
			const many = 20000 // several times what the queue holds
			for range many {
				_, span := traces.Start(t.Context(), "span")
				span.End(nil)
			}
			if err := traces.Close(); err != nil { // returns: within its own deadline
				t.Error(err)
			}
			if got := counts(t, metrics); got["ended"] != many || got["sent"] != 0 {
				t.Errorf("counted %v, want %d ended and none sent", got, many)
			}
		})
	}
	t.Cleanup(func() { _ = silent.Close() })
}

// Spans go over TLS unless the configuration says otherwise, to a collector whose certificate the named authority signed.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca, own := write("ca.pem", "CERTIFICATE", certificate), write("key.pem", "PRIVATE KEY", key)
	authorities := x509.NewCertPool()
	parsed, err := x509.ParseCertificate(certificate)
	if err != nil {
		t.Fatal(err)
	}
	authorities.AddCert(parsed)
	collector := tracingtest.New(t, grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: private}}, ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS13,
	})))
	for name, c := range map[string]struct {
		config tracing.Config
		want   int
	}{
		"trusted":           {tracing.Config{CA: ca, Certificate: ca, Key: own}, 1},
		"shows nothing":     {tracing.Config{CA: ca}, 0},
		"signed by unknown": {tracing.Config{Certificate: ca, Key: own}, 0},
		"plaintext":         {tracing.Config{Plaintext: true}, 0},
	} {
		c.config.Endpoint, c.config.Ratio = collector.Address, 1
		before := len(collector.Spans())
		traces := open(t, c.config, nil)
		_, span := traces.Start(t.Context(), "span")
		span.End(nil)
		if err := traces.Close(); err != nil {
			t.Error(err)
		}
		if got := len(collector.Spans()) - before; got != c.want {
			t.Errorf("%s: %d spans came, want %d", name, got, c.want)
		}
	}
}

func TestValidate(t *testing.T) {
	for text, c := range map[string]tracing.Config{
		"ratio: 1.5":            {Ratio: 1.5},
		"ratio: -1":             {Ratio: -1},
		"endpoint: ":            {Endpoint: "collector.example"},
		"plaintext: true, and ": {Endpoint: "a:1", Plaintext: true, CA: "ca.pem"},
		"give both or neither":  {Endpoint: "a:1", Key: "key.pem"},
		"ca: open ":             {Endpoint: "a:1", CA: "/absent.pem"},
		"certificate: open ":    {Endpoint: "a:1", Certificate: "/absent.pem", Key: "/absent.key"},
	} {
		if _, err := tracing.New(c, tracing.Options{}); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: %v, want %q", c, err, text)
		}
	}
}

// The cost of a measurement that is not traced, at a node whose tracing is off and at one whose ratio passes it over.
func BenchmarkSpan(b *testing.B) {
	off, err := tracing.New(tracing.Config{}, tracing.Options{})
	if err != nil {
		b.Fatal(err)
	}
	rare, err := tracing.New(tracing.Config{Endpoint: "127.0.0.1:1", Plaintext: true, Ratio: 1e-9}, tracing.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer rare.Close()
	for name, traces := range map[string]*tracing.Traces{"off": off, "passed over": rare} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				_, span := traces.Start(b.Context(), "sample")
				span.End(nil)
			}
		})
	}
}
