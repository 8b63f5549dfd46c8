package fsm

import (
	"bytes"
	"hash/maphash"
	"slices"
	"sync"

	"github.com/lacre-metrology/lacre/core/state"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
)

// expected are submissions that this replica, while it leads, has parsed and
// handed in, so that it does not parse them again when they come back ordered.
// What was parsed counts only for an entry that holds the very same bytes: each
// is compared, so it can say nothing else than parsing again would. The keeping
// is bounded by the calls that are under way, each of which forgets its own.
type expected struct {
	mu sync.Mutex
	of map[uint64][]*expectation // by the first record
}

type expectation struct {
	submission *replicav1.Submission // never changed
	parsed     *state.Submission
}

// expectSeed spreads first records; what differs between processes is only speed.
var expectSeed = maphash.MakeSeed()

// Expect keeps what was parsed of a submission, which nobody changes any more,
// until forget is called.
func (m *Machine) Expect(submission *replicav1.Submission, parsed *state.Submission) (forget func()) {
	e, added := &m.expected, &expectation{submission: submission, parsed: parsed}
	key := maphash.Bytes(expectSeed, submission.GetRecords()[0])
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.of == nil {
		e.of = make(map[uint64][]*expectation)
	}
	e.of[key] = append(e.of[key], added)
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.of[key] = slices.DeleteFunc(e.of[key], func(x *expectation) bool { return x == added })
		if len(e.of[key]) == 0 {
			delete(e.of, key)
		}
	}
}

// parse is what was parsed of the same bytes, or Parse.
func (e *expected) parse(s *replicav1.Submission) *state.Submission {
	if len(s.GetRecords()) > 0 {
		key := maphash.Bytes(expectSeed, s.GetRecords()[0])
		e.mu.Lock()
		candidates := slices.Clone(e.of[key])
		e.mu.Unlock()
		for _, c := range candidates {
			if slices.EqualFunc(c.submission.GetRecords(), s.GetRecords(), bytes.Equal) &&
				slices.EqualFunc(c.submission.GetRawVectors(), s.GetRawVectors(), bytes.Equal) {
				return c.parsed
			}
		}
	}
	return Parse(s)
}
