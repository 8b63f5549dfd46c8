package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/lacre-metrology/lacre/core/digest"
)

// slot is a place of the ledger: one counter of one meter. The model of the
// ledger is that each slot is written once, for ever: the first sample that is
// accepted stays.
type slot struct {
	meter   string
	counter uint64
}

// input is what was asked of a slot.
type input struct {
	slot
	write  bool
	sample digest.Digest // of a write
}

// output is what came of it.
type output struct {
	unknown bool          // a write that was never answered
	lost    bool          // a write that was refused because another sample is there
	found   digest.Digest // of a read; zero for an empty slot
}

// history is what clients asked and were told. It is safe for concurrent use.
type history struct {
	began time.Time

	mu         sync.Mutex
	clients    int
	operations []porcupine.Operation
	open       map[int]int // operation by client, for writes without an answer
}

func newHistory() *history { return &history{began: time.Now(), open: make(map[int]int)} }

func (h *history) now() int64 { return int64(time.Since(h.began)) }

// begin notes that something is asked; the client asks nothing else until end.
func (h *history) begin(in input) (client int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	client = h.clients
	h.clients++
	h.open[client] = len(h.operations)
	h.operations = append(h.operations, porcupine.Operation{ClientId: client, Input: in, Call: h.now()})
	return client
}

// end notes the answer.
func (h *history) end(client int, out output) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i, ok := h.open[client]
	if !ok {
		return
	}
	delete(h.open, client)
	h.operations[i].Output, h.operations[i].Return = out, h.now()
}

// drop forgets what was asked: a read that failed says nothing.
func (h *history) drop(client int) {
	h.end(client, output{unknown: true})
}

// verdict is what the checker found.
type verdict struct {
	Operations int      `json:"operations"`
	Illegal    []string `json:"illegal,omitempty"`
	Unknown    int      `json:"undecided,omitempty"` // slots for which the time did not do
}

// check looks for an order of the operations in which each took effect at one
// moment between its call and its answer.
func (h *history) check(patience time.Duration) verdict {
	h.mu.Lock()
	defer h.mu.Unlock()
	end := h.now()
	bySlot := make(map[slot][]porcupine.Operation)
	v := verdict{}
	for i, o := range h.operations {
		in := o.Input.(input) //nolint:errcheck,forcetypeassert // begin puts nothing else in.
		out, answered := o.Output.(output)
		if !answered {
			out = output{unknown: true}
		}
		if out.unknown {
			if !in.write {
				continue
			}
			o.Return = end // it may take effect at any time, or never
		}
		o.Output, o.ClientId = out, i
		bySlot[in.slot] = append(bySlot[in.slot], o)
		v.Operations++
	}
	for s, operations := range bySlot {
		switch porcupine.CheckOperationsTimeout(model, operations, patience) {
		case porcupine.Illegal:
			v.Illegal = append(v.Illegal, fmt.Sprintf("meter %s counter %d: %s", s.meter, s.counter, describe(operations)))
		case porcupine.Unknown:
			v.Unknown++
		case porcupine.Ok:
		}
	}
	return v
}

// model is one slot: the digest in it, zero while it is empty.
var model = porcupine.Model{
	Init: func() any { return digest.Zero },
	Step: func(state, in, out any) (bool, any) {
		held, asked, answer := state.(digest.Digest), in.(input), out.(output) //nolint:errcheck,forcetypeassert // check puts nothing else in.
		switch {
		case !asked.write:
			return answer.found == held, held
		case answer.unknown && held.IsZero():
			return true, asked.sample // that it never took effect is an order in which it comes last
		case answer.unknown:
			return true, held
		case answer.lost:
			return !held.IsZero() && held != asked.sample, held
		case held.IsZero():
			return true, asked.sample
		default:
			return held == asked.sample, held
		}
	},
}

func describe(operations []porcupine.Operation) string {
	text := ""
	for _, o := range operations {
		in, out := o.Input.(input), o.Output.(output) //nolint:errcheck,forcetypeassert // check puts nothing else in.
		what := "read " + out.found.Short()
		switch {
		case in.write && out.unknown:
			what = "write " + in.sample.Short() + " unanswered"
		case in.write && out.lost:
			what = "write " + in.sample.Short() + " refused as another"
		case in.write:
			what = "write " + in.sample.Short() + " acknowledged"
		}
		text += fmt.Sprintf("[%.3f..%.3f %s] ", time.Duration(o.Call).Seconds(), time.Duration(o.Return).Seconds(), what)
	}
	return text
}
