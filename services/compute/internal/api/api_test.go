package api

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/lacre-metrology/lacre/core/reason"
	computev1 "github.com/lacre-metrology/lacre/gen/lacre/compute/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/follower"
	"github.com/lacre-metrology/lacre/platform/rpcerror"
)

// unread is a ledger of which nothing is certified yet.
type unread struct{}

var errUnread = errors.New("not read yet")

func (unread) Snapshot() (*follower.Snapshot, error)                    { return nil, errUnread }
func (unread) Wait(context.Context, uint64) (*follower.Snapshot, error) { return nil, errUnread }
func (unread) Report(*recordv1.EventReport) error                       { return nil }

func TestWorkIsBoundedInBytes(t *testing.T) {
	s := New(unread{}, unread{}, nil, nil, slog.New(slog.DiscardHandler))
	request := &computev1.EndorseRequest{Algorithm: make([]byte, 32), Samples: []*computev1.SignedSample{{RawVector: make([]byte, 1000)}}}
	if !s.room.TryAcquire(maxHeld - overhead - 999) {
		t.Fatal("no room at the start")
	}
	if _, err := s.Endorse(t.Context(), request); reason.Of(err) != reason.Overloaded || rpcerror.Delay(err) == 0 {
		t.Errorf("one byte too many: %v", err)
	}
	s.room.Release(1)
	for range 3 { // the room is given back each time
		if _, err := s.Endorse(t.Context(), request); !errors.Is(err, errUnread) {
			t.Errorf("with room: %v", err)
		}
	}
}

func TestNothingIsInstalledBeforeTheLedgerIsRead(t *testing.T) {
	s := New(unread{}, unread{}, nil, nil, slog.New(slog.DiscardHandler))
	if _, err := s.InstallAlgorithm(t.Context(), &computev1.InstallAlgorithmRequest{Module: []byte("x")}); !errors.Is(err, errUnread) {
		t.Errorf("got %v", err)
	}
}
