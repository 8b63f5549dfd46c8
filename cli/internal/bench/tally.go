package bench

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/core/receipt"
)

// maxExamples bounds the failures that a report shows in full.
const maxExamples = 10

// tally counts what happened. It is safe for concurrent use.
type tally struct {
	begun, verified, valid  atomic.Int64 // measurements; valid: with a measured value
	sentBytes, receiptBytes atomic.Int64 // of their samples and receipts
	inFlight                atomic.Int64 // begun and without an answer
	reconnects              atomic.Int64 // calls or streams without an answer
	unsent                  atomic.Int64 // arrivals of an open loop for which there was no room or time; what could not be signed

	mu       sync.Mutex // guards the rest
	sheds    map[string]int64
	refusals map[string]int64
	badness  int64  // receipts that did not verify
	broken   string // why the last call or stream broke
	examples []string
}

// certify counts a verified receipt.
func (t *tally) certify(r *receipt.Receipt, size int) {
	t.verified.Add(1)
	t.receiptBytes.Add(int64(size))
	if r.Result.Code == abi.CodeValid {
		t.valid.Add(1)
	}
}

// shed counts a transient refusal, after which the client sends again.
func (t *tally) shed(reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sheds == nil {
		t.sheds = make(map[string]int64)
	}
	t.sheds[reason]++
}

// refuse counts a permanent refusal: every sample is good, so none is expected.
func (t *tally) refuse(reason, example string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.refusals == nil {
		t.refusals = make(map[string]int64)
	}
	t.refusals[reason]++
	t.example("refused with " + reason + ": " + example)
}

// unsigned counts a measurement that the generator could not even sign.
func (t *tally) unsigned(err error) {
	t.unsent.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.example("not sent: " + err.Error())
}

// bad counts a receipt or an endorsement set that did not verify.
func (t *tally) bad(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.badness++
	t.example("not verified: " + err.Error())
}

// broke counts a call or stream that ended without an answer.
func (t *tally) broke(err error) {
	t.reconnects.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.broken = fmt.Sprint(err)
}

// example keeps a line for the report. The caller holds mu.
func (t *tally) example(line string) {
	if len(t.examples) < maxExamples {
		t.examples = append(t.examples, line)
	}
}
