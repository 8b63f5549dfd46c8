package api

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	ingestv1 "github.com/lacre-metrology/lacre/gen/lacre/ingest/v1"
)

// A sample of a stream is answered once, whatever comes first: its answer, maybe
// before anybody waits for it, or the time after which PENDING is said.
func TestEachSampleOfAStreamIsAnsweredOnce(t *testing.T) {
	const after = time.Minute
	id := digest.Plain([]byte("a sample"))
	receipt := &ingestv1.SubmitResponse{Sample: id.Bytes(), Answer: &ingestv1.SubmitResponse_Receipt{Receipt: &ingestv1.Receipt{}}}
	for name, c := range map[string]struct {
		answered []time.Duration // when, from the beginning; a negative one is before until
		pending  bool
	}{
		"at once":         {answered: []time.Duration{-1}},
		"in time":         {answered: []time.Duration{after / 2}},
		"twice":           {answered: []time.Duration{-1, after / 2}},
		"never":           {pending: true},
		"after the bound": {answered: []time.Duration{2 * after}, pending: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			out := &answers{some: make(chan struct{}, 1)}
			o := &owed{out: out}
			begun := time.Now()
			for _, at := range c.answered {
				if at < 0 {
					o.settle(receipt)
				} else {
					time.AfterFunc(at, func() { o.settle(receipt) })
				}
			}
			o.until(id, after)
			<-out.some
			got := out.take(nil)
			if len(got) != 1 || (got[0].GetPending() != nil) != c.pending || digest.Digest(got[0].GetSample()) != id {
				t.Errorf("%s: %v", name, got)
			}
			if waited := time.Since(begun); c.pending != (waited == after) {
				t.Errorf("%s: answered after %v", name, waited)
			}
			<-time.After(3 * after)
			synctest.Wait()
			if again := out.take(got); len(again) > 0 || len(out.some) > 0 {
				t.Errorf("%s: another answer: %v", name, again)
			}
		})
	}
}
