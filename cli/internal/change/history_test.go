package change_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/cli/internal/change"
	"github.com/lacre-metrology/lacre/cli/internal/founding"
	"github.com/lacre-metrology/lacre/core/governance"
	"github.com/lacre-metrology/lacre/core/trust"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// vector is core/testdata/configurations.json: two changes after the founding.
type vector struct {
	Pinned         string `json:"pinned"`
	Configurations []byte `json:"configurations"`
	Extended       string `json:"extended"`
}

func golden(t *testing.T) (v vector, h *recordv1.ConfigurationHistory) {
	t.Helper()
	b, err := os.ReadFile("../../../core/testdata/configurations.json")
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err == nil {
		h, err = governance.Parse(v.Configurations)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v, h
}

// pages is a replica that gives so many configurations at a time.
type pages struct {
	ledgerv1.LedgerServiceClient
	history *recordv1.ConfigurationHistory
	each    uint64
	next    func(from uint64) uint64 // in the place of what is right
	err     error
}

func (p pages) ListConfigurations(_ context.Context, r *ledgerv1.ListConfigurationsRequest, _ ...grpc.CallOption) (*ledgerv1.ListConfigurationsResponse, error) {
	if p.err != nil {
		return nil, p.err
	}
	from := r.GetFromSequence()
	all := p.history.GetConfigurations()
	to := min(from-1+p.each, uint64(len(all)))
	part, err := governance.Encode(&recordv1.ConfigurationHistory{Configurations: all[min(from-1, to):to]})
	if err != nil {
		return nil, err
	}
	next := to + 1
	if to == uint64(len(all)) {
		next = 0
	}
	if p.next != nil {
		next = p.next(from)
	}
	return &ledgerv1.ListConfigurationsResponse{History: part, NextSequence: next}, nil
}

func TestFetchTakesAllPages(t *testing.T) {
	_, want := golden(t)
	for each := uint64(1); each <= 4; each++ {
		got, err := change.Fetch(t.Context(), pages{history: want, each: each})
		if err != nil || !proto.Equal(got, want) {
			t.Errorf("%d at a time: %d of %d configurations, %v", each, len(got.GetConfigurations()), len(want.GetConfigurations()), err)
		}
	}
	lost := errors.New("the replica is gone")
	if _, err := change.Fetch(t.Context(), pages{err: lost}); !errors.Is(err, lost) {
		t.Errorf("got %v", err)
	}
}

// A replica that never comes to an end holds nobody for ever.
func TestFetchEndsWithAReplicaThatDoesNot(t *testing.T) {
	_, h := golden(t)
	for name, next := range map[string]func(uint64) uint64{
		"the same again": func(from uint64) uint64 { return from },
		"back":           func(uint64) uint64 { return 1 },
	} {
		if _, err := change.Fetch(t.Context(), pages{history: h, each: 1, next: next}); err == nil || !strings.Contains(err.Error(), "goes on at") {
			t.Errorf("%s: %v", name, err)
		}
	}
	endless := &recordv1.ConfigurationHistory{}
	for range trust.MaxEpochs + 2 {
		endless.Configurations = append(endless.Configurations, h.GetConfigurations()[0])
	}
	if _, err := change.Fetch(t.Context(), pages{history: endless, each: 100}); err == nil {
		t.Error("more configurations than a bundle holds are taken")
	}
}

// What is kept is verified each time by the bundle beside it; a history of another
// network, or bytes that are none, are refused and name the file.
func TestKeptIsWhatWasProven(t *testing.T) {
	v, h := golden(t)
	dir := t.TempDir()
	path := filepath.Join(dir, founding.TrustFile)
	if kept, err := change.Kept(dir); kept != nil || err != nil {
		t.Errorf("an empty directory holds %v, %v", kept, err)
	}
	pinned, err := trust.Parse([]byte(v.Pinned))
	if err != nil {
		t.Fatal(err)
	}
	verified, err := governance.Verify(h, pinned)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pinned.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := change.Keep(path, h, verified); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != v.Extended {
		t.Errorf("the bundle beside it is\n%s\nwant\n%s", b, v.Extended)
	}
	kept, err := change.Kept(dir)
	if err != nil || kept.InForce().Digest != verified.InForce().Digest {
		t.Errorf("kept is %v, %v", kept, err)
	}
	// A crash between the two files leaves the older bundle, which is good.
	if err := os.WriteFile(path, pinned.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if kept, err = change.Kept(dir); err != nil || kept.InForce().Digest != verified.InForce().Digest {
		t.Errorf("with the older bundle %v, %v", kept, err)
	}
	history := filepath.Join(dir, change.HistoryFile)
	for name, spoil := range map[string]func(){
		"rubbish": func() { must(t, os.WriteFile(history, []byte("rubbish"), 0o600)) },
		"another network's bundle": func() {
			must(t, os.WriteFile(history, v.Configurations, 0o600))
			other, err := os.ReadFile("../../../core/testdata/trust.bundle")
			must(t, err)
			must(t, os.WriteFile(path, other, 0o600))
		},
		"no bundle": func() { must(t, os.Remove(path)) },
	} {
		must(t, os.WriteFile(history, v.Configurations, 0o600))
		must(t, os.WriteFile(path, pinned.Bytes(), 0o600))
		spoil()
		if kept, err := change.Kept(dir); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v, %v", name, kept, err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
