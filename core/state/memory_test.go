package state

import (
	"testing"

	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

// remembered is an empty state with a memory.
type remembered struct {
	View
	memory *Memory
	values map[string][]byte
}

func (r remembered) Get(key []byte) ([]byte, error) { return r.values[string(key)], nil }
func (r remembered) Memory() *Memory                { return r.memory }

// A page of counters is forgotten when its meter begins the next: of pages there
// are more and more, and nobody reads an old one but a sample that comes late.
func TestMemoryForgetsFullPages(t *testing.T) {
	view := remembered{memory: NewMemory(1 << 20), values: make(map[string][]byte)}
	meters := []string{"a", "b", "c"}
	most := 0
	for counter := range uint64(20 * CountersPerPage) {
		b := &Block{reader: newReader(view)}
		for _, meter := range meters {
			if err := b.setIndexOf(meter, counter, counter+7); err != nil {
				t.Fatal(err)
			}
		}
		writes, err := b.writes()
		if err != nil || len(writes) != len(meters) {
			t.Fatalf("%d writes, %v", len(writes), err)
		}
		for _, w := range writes {
			view.values[string(w.Key)] = w.Value
		}
		most = max(most, view.memory.bytes)
		if len(view.memory.young) != len(meters) {
			t.Fatalf("%d pages are remembered behind counter %d of %d meters", len(view.memory.young), counter, len(meters))
		}
	}
	for _, counter := range []uint64{5, 20*CountersPerPage - 1} { // an old page can be read again
		page, err := message[statev1.CounterPage](lookup(view), PageKey("a", counter))
		if err != nil || page.GetIndexPlusOne()[counter%CountersPerPage] != counter+7+1 {
			t.Errorf("the page of counter %d is %v (%v)", counter, page, err)
		}
	}
	view.memory.forget(PageKey("a", 5))
	held := 0
	for _, d := range view.memory.young {
		held += len(d.value)
	}
	if view.memory.bytes != held || most > 4*len(meters)*200 {
		t.Errorf("%d bytes are counted, %d are held, the most were %d", view.memory.bytes, held, most)
	}
}
