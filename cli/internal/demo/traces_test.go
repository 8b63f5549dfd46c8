package demo

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/cli/internal/founding"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/tracing/tracingtest"
)

// whole is what a measurement's trace must hold: for each span the one above it, and who makes it.
var whole = []struct{ name, parent, role string }{
	{"meter.sample", "", "meter"},
	{"gateway.sample", "meter.sample", "gateway"},
	{"gateway.batch", "gateway.sample", "gateway"},
	{"gateway.endorse", "gateway.batch", "gateway"},
	{"lacre.compute.v1.ComputeService/Endorse", "gateway.endorse", "gateway"},
	{"lacre.compute.v1.ComputeService/Endorse", "lacre.compute.v1.ComputeService/Endorse", "endorser"},
	{"endorse.admit", "lacre.compute.v1.ComputeService/Endorse", "endorser"},
	{"endorse.sandbox", "lacre.compute.v1.ComputeService/Endorse", "endorser"},
	{"endorse.sign", "lacre.compute.v1.ComputeService/Endorse", "endorser"},
	{"gateway.submit", "gateway.batch", "gateway"},
	{"lacre.ledger.v1.LedgerService/Submit", "gateway.submit", "gateway"},
	{"lacre.ledger.v1.LedgerService/Submit", "lacre.ledger.v1.LedgerService/Submit", "replica"},
	{"ledger.order", "", "replica"},
	{"ledger.apply", "", "replica"},
	{"ledger.certify", "", "replica"},
	{"ledger.reply", "", "replica"},
	{"gateway.reply", "gateway.batch", "gateway"},
}

// TestOneTraceFromMeterToLedger runs a real network with every measurement
// traced to a real collector: one trace goes from the meter's SDK through the
// gateway and the endorsers to the leader and back, each span within the one
// above it; a sample that shared its batch is linked with it.
func TestOneTraceFromMeterToLedger(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	collector := tracingtest.New(t)
	d := &demo{Options: Options{Dir: t.TempDir(), Meters: 2, Passes: 60}.withDefaults()}
	var err error
	if d.network, _, err = devnet.LoadOrCreate(d.Dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	roles := map[string]string{"meter": "meter"}
	for role, name := range map[recordv1.Role]string{recordv1.Role_ROLE_REPLICA: "replica", recordv1.Role_ROLE_ENDORSER: "endorser", recordv1.Role_ROLE_GATEWAY: "gateway"} {
		for _, node := range d.network.ByRole(role) {
			roles[node.ID] = name
			traceTo(t, founding.ConfigPath(d.Dir, node.ID), collector.Address)
		}
	}
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpoint(collector.Address), otlptracegrpc.WithInsecure())
	if err != nil {
		t.Fatal(err)
	}
	meters := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.instance.id", "meter"))))
	d.Tracer = meters.Tracer("test")

	running, stop := context.WithCancel(ctx)
	stopped := make(chan error, 1)
	go func() { stopped <- d.network.Run(running, d.Log) }()
	if err := d.network.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	for _, step := range []func(context.Context) error{d.approve, d.register, d.drive} {
		if err := step(ctx); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := <-stopped; err != nil { // every node has sent what it had
		t.Fatal(err)
	}
	if err := meters.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}

	spans := collector.Spans()
	byID := make(map[string]tracingtest.Span, len(spans))
	traces := make(map[string][]tracingtest.Span)
	for _, s := range spans {
		byID[s.ID] = s
		traces[s.Trace] = append(traces[s.Trace], s)
	}
	var complete, shared, samples int
	var best []tracingtest.Span
	for _, trace := range traces {
		for _, s := range trace {
			if parent, known := byID[s.Parent]; s.Parent != "" && (!known || parent.Trace != s.Trace) {
				t.Fatalf("%s of %s is below %q, which nobody sent", s.Name, s.Node, s.Parent)
			}
			switch s.Name {
			case "meter.sample":
				samples++
			case "gateway.sample":
				if len(s.Links) > 0 {
					shared++
					if batch := byID[s.Links[0]]; batch.Name != "gateway.batch" || !slices.Contains(batch.Links, s.ID) {
						t.Errorf("a sample is linked with %q, which is linked with %d samples, not with it", batch.Name, len(batch.Links))
					}
				}
			}
		}
		if missing := lacks(trace, byID, roles); missing == "" {
			complete++
			best = trace
		}
	}
	if samples < 60 {
		t.Errorf("%d samples were sent, want at least 60", samples)
	}
	if complete == 0 || shared == 0 {
		t.Fatalf("%d traces are whole and %d samples shared a batch, want some of each; of %d traces one:\n%s",
			complete, shared, len(traces), tracingtest.Draw(longest(traces)))
	}
	t.Logf("%d samples, %d traces, %d spans, %d whole, %d samples linked with another's batch; one of them:\n%s",
		samples, len(traces), len(spans), complete, shared, tracingtest.Draw(best))
}

// traceTo turns tracing on in a node's configuration.
func traceTo(t *testing.T, path, collector string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	on := fmt.Sprintf("tracing:\n  endpoint: %s\n  plaintext: true\n  ratio: 1\n", collector)
	before, after, found := strings.Cut(string(text), "tracing:\n")
	if found {
		lines := strings.SplitAfter(after, "\n")
		for len(lines) > 0 && strings.HasPrefix(lines[0], " ") {
			lines = lines[1:]
		}
		after = strings.Join(lines, "")
	}
	if err := os.WriteFile(path, []byte(before+on+after), 0o600); err != nil {
		t.Fatal(err)
	}
}

// lacks names the first span that a whole trace has and this one has not.
func lacks(trace []tracingtest.Span, byID map[string]tracingtest.Span, roles map[string]string) string {
	for _, want := range whole {
		if !slices.ContainsFunc(trace, func(s tracingtest.Span) bool {
			parent := byID[s.Parent]
			return s.Name == want.name && (want.parent == "" || parent.Name == want.parent) && roles[s.Node] == want.role &&
				s.Error == "" && s.Began <= s.Ended && (s.Parent == "" || parent.Began <= s.Began)
		}) {
			return want.name
		}
	}
	return ""
}

func longest(traces map[string][]tracingtest.Span) (most []tracingtest.Span) {
	for _, trace := range traces {
		if len(trace) > len(most) {
			most = trace
		}
	}
	return most
}
