package profile

import (
	"strings"
)

// checkCallGraph refuses direct and mutual recursion. With it, the call depth is
// at most MaxFunctions, so no engine's stack limit can be reached and no engine
// difference can hide there.
func (m *Module) checkCallGraph(r *reader) {
	const (
		untouched = iota
		open      // on the current path
		done      // reaches no cycle
	)
	state := make([]uint8, len(m.functions))
	var path []uint32
	var visit func(index uint32)
	visit = func(index uint32) { // depth at most MaxFunctions: a cycle ends it
		state[index] = open
		path = append(path, index)
		for _, callee := range m.functions[index].calls {
			if r.err != nil {
				return // one cycle is told, not each call that closes one
			}
			switch state[callee] {
			case open:
				r.fail(ReasonRecursion, m.functions[index].code.start, cycle(path, callee), "functions that never reach themselves")
			case untouched:
				visit(callee)
			}
		}
		path = path[:len(path)-1]
		state[index] = done
	}
	for i := range m.functions {
		if r.err == nil && state[i] == untouched {
			visit(uint32(i))
		}
	}
}

// cycle shows the call path from the repeated function back to it.
func cycle(path []uint32, repeated uint32) string {
	var b strings.Builder
	b.WriteString("the calls ")
	shown := false
	for _, index := range path {
		if shown = shown || index == repeated; shown {
			b.WriteString(sprint("%d -> ", index))
		}
	}
	b.WriteString(sprint("%d", repeated))
	return b.String()
}
