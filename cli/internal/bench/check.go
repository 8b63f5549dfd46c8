package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
)

// Losses is what should not be, and whether it was. All zero is a good run.
type Losses struct {
	Unanswered  int64 `json:"unanswered"`    // begun, and neither receipt nor refusal came in time
	Refused     int64 `json:"refused"`       // for ever, though every sample was good
	NotVerified int64 `json:"not_verified"`  // receipts or endorsement sets
	NotOnLedger int64 `json:"not_on_ledger"` // acknowledged with a receipt, and no leaf of a certified block
	Differing   int64 `json:"differing"`     // on the ledger as another sample than the meter signed
	Gaps        int64 `json:"gaps"`          // counters that the ledger lacks below a meter's newest
	Unsent      int64 `json:"unsent"`        // arrivals of an open loop, and samples, that the generator could not send
}

// Any says whether the run failed.
func (l Losses) Any() bool { return l != Losses{} }

// ledgerReader is what the comparison reads of a replica.
type ledgerReader interface {
	ListMeasurements(ctx context.Context, in *ledgerv1.ListMeasurementsRequest, opts ...grpc.CallOption) (*ledgerv1.ListMeasurementsResponse, error)
}

// checkWidth is how many meters are compared at a time; pageSize is the most that
// a replica gives.
const checkWidth, pageSize = 4, 1000

// compare reads every meter's measurements and compares them with what was
// acknowledged. leaves is how many measurements the ledger has.
func compare(ctx context.Context, replica ledgerReader, senders []*sender, t *tally) (losses Losses, leaves int64, err error) {
	var mu sync.Mutex
	err = parallel(ctx, checkWidth, len(senders), func(i int) error {
		s := senders[i]
		onLedger, err := listed(ctx, replica, s.id)
		if err != nil {
			return fmt.Errorf("measurements of meter %s: %w", s.id, err)
		}
		one := s.compare(onLedger, t)
		mu.Lock()
		defer mu.Unlock()
		leaves += int64(len(onLedger))
		losses.add(one)
		return nil
	})
	return losses, leaves, err
}

func (l *Losses) add(o Losses) {
	l.Unanswered += o.Unanswered
	l.Refused += o.Refused
	l.NotOnLedger += o.NotOnLedger
	l.Differing += o.Differing
	l.Gaps += o.Gaps
}

// compare judges one meter.
func (s *sender) compare(onLedger map[uint64]digest.Digest, t *tally) (l Losses) {
	s.mu.Lock()
	defer s.mu.Unlock()
	newest := uint64(0)
	for counter := range onLedger {
		newest = max(newest, counter)
	}
	note := func(format string, args ...any) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.example(fmt.Sprintf("meter %s: ", s.id) + fmt.Sprintf(format, args...))
	}
	for i, signed := range s.samples {
		counter := uint64(i) + 1
		found, has := onLedger[counter]
		if has && found != signed {
			l.Differing++
			note("counter %d is sample %s on the ledger, the meter signed %s", counter, found.Short(), signed.Short())
		}
		if !has && counter < newest {
			l.Gaps++
			note("the ledger has counter %d and lacks %d", newest, counter)
		}
		switch s.fates[i] {
		case certified:
			if !has {
				l.NotOnLedger++
				note("counter %d has a receipt, and the ledger lacks it", counter)
			}
		case refused:
			l.Refused++
		case unanswered:
			l.Unanswered++
			note("counter %d has no answer", counter)
		}
	}
	for counter := range onLedger {
		if counter > uint64(len(s.samples)) {
			l.Differing++
			note("counter %d is on the ledger, and the meter never signed it", counter)
		}
	}
	return l
}

// listed is a meter's measurements on the ledger: samples by counter.
func listed(ctx context.Context, replica ledgerReader, meterID string) (map[uint64]digest.Digest, error) {
	found := make(map[uint64]digest.Digest)
	for token := ""; ; {
		page, err := replica.ListMeasurements(ctx, &ledgerv1.ListMeasurementsRequest{MeterId: meterID, FromCounter: 1, PageSize: pageSize, PageToken: token})
		if err != nil {
			return nil, err
		}
		for _, m := range page.GetMeasurements() {
			r, err := record.Parse(m.GetRecord())
			if err != nil {
				return nil, err
			}
			signed, err := sample.Parse(r.GetMeasurement().GetHeader())
			if err != nil {
				return nil, err
			}
			if _, twice := found[signed.Counter]; twice {
				return nil, fmt.Errorf("counter %d is listed twice", signed.Counter)
			}
			if signed.MeterID != meterID {
				return nil, fmt.Errorf("record %d is of meter %s", m.GetIndex(), signed.MeterID)
			}
			found[signed.Counter] = signed.Digest
		}
		if token = page.GetNextPageToken(); token == "" {
			return found, nil
		}
	}
}

var errBehind = errors.New("no replica that runs has caught up")
