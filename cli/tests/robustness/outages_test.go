package main

import (
	"reflect"
	"testing"
	"time"
)

// at is a moment of a made-up run.
func at(seconds int) time.Time {
	return time.Date(2026, 11, 28, 0, 0, seconds, 0, time.UTC)
}

// From when on a quorum was there, untouched, until a write came.
func TestFromWhenOnEnoughNodesWereThere(t *testing.T) {
	sets := choose([]string{"a", "b", "c", "d"}, 3, []string{"gateway"})
	if want := [][]string{{"gateway", "a", "b", "c"}, {"gateway", "a", "b", "d"}, {"gateway", "a", "c", "d"}, {"gateway", "b", "c", "d"}}; !reflect.DeepEqual(sets, want) {
		t.Fatalf("sets of three are %v, want %v", sets, want)
	}
	died := outage{nodes: []string{"a"}, from: at(10), until: at(60)} // the leader, at 10
	for name, c := range map[string]struct {
		others []outage
		want   time.Time
	}{
		"only the leader is out":             {nil, at(10)},
		"another was back before":            {[]outage{{nodes: []string{"b"}, from: at(1), until: at(9)}}, at(10)},
		"another goes after the write":       {[]outage{{nodes: []string{"b"}, from: at(31)}}, at(10)},
		"another comes back":                 {[]outage{{nodes: []string{"b"}, from: at(1), until: at(14)}}, at(14)},
		"another goes and comes back":        {[]outage{{nodes: []string{"b"}, from: at(12), until: at(13)}}, at(13)},
		"two, one after the other":           {[]outage{{nodes: []string{"b"}, from: at(9), until: at(13)}, {nodes: []string{"c"}, from: at(20), until: at(22)}}, at(22)},
		"another stays out":                  {[]outage{{nodes: []string{"c"}, from: at(11)}}, at(30)},
		"another comes back after the write": {[]outage{{nodes: []string{"c"}, from: at(11), until: at(40)}}, at(30)},
		"the gateway is out":                 {[]outage{{nodes: []string{"gateway"}, from: at(2), until: at(20)}}, at(20)},
		"the way between two":                {[]outage{{nodes: []string{"b", "d"}, from: at(2), until: at(17)}}, at(17)},
		"the way to the leader":              {[]outage{{nodes: []string{"b", "a"}, from: at(2), until: at(17)}}, at(10)},
		"a node that is not needed":          {[]outage{{nodes: []string{"approval"}, from: at(2)}}, at(10)},
		"who is needed changes":              {[]outage{{from: at(2), until: at(15)}}, at(15)},

		"one is out before and after a while": {[]outage{{nodes: []string{"d"}, from: at(1), until: at(11)}, {nodes: []string{"d"}, from: at(15), until: at(16)}}, at(16)},
	} {
		o := outages{list: append([]outage{died}, c.others...)}
		if got := o.whole(sets, at(10), at(30)); !got.Equal(c.want) {
			t.Errorf("%s: enough were there from second %d on, want %d", name, got.Second(), c.want.Second())
		}
	}
	back := outages{list: []outage{{nodes: []string{"a"}, from: at(10), until: at(12)}, {nodes: []string{"b"}, from: at(11)}}}
	if got := back.whole(sets, at(10), at(30)); !got.Equal(at(12)) {
		t.Errorf("with the old leader back enough were there from second %d on, want 12", got.Second())
	}
}

// One cause begins and ends one outage, however often it is said.
func TestAnOutageIsOfOneCause(t *testing.T) {
	var o outages
	o.end("nothing began")
	o.begin("kill", "a")
	o.begin("kill", "a")
	o.begin("pause", "a")
	o.end("kill")
	if len(o.list) != 2 || o.list[0].until.IsZero() || !o.list[1].until.IsZero() {
		t.Errorf("noted %v, want one that is over and one that lasts", o.list)
	}
	o.begin("kill", "a")
	if len(o.list) != 3 {
		t.Errorf("noted %v, want a third", o.list)
	}
	o.forget()
	o.end("kill")
	if len(o.list) != 0 {
		t.Errorf("%v are left of another seed", o.list)
	}
}

// A link that is cut or slow is an outage of the way between its ends.
func TestALinkNotesWhenItIsOut(t *testing.T) {
	var o outages
	l, err := newLink("a", "b", echoing(t))
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	l.outages = &o
	l.set(1, linkState{there: true})
	l.set(2, linkState{delay: time.Millisecond})
	l.heal(1)
	l.heal(2)
	l.heal(2)
	if len(o.open) != 0 || len(o.list) == 0 {
		t.Fatalf("after all was healed %v are noted, %d last", o.list, len(o.open))
	}
	for i, each := range o.list {
		if !reflect.DeepEqual(each.nodes, []string{"a", "b"}) || i > 0 && each.from.Before(o.list[i-1].until) {
			t.Errorf("noted %v", o.list)
		}
	}
}

// The first write after a death is the first answer to what was signed after it.
func TestFirstWrites(t *testing.T) {
	acks := []acknowledged{{signed: at(9), at: at(11)}, {signed: at(12), at: at(18)}, {signed: at(13), at: at(16)}}
	r := new(result)
	r.firstWrites([]death{{at: at(10)}, {at: at(10), perhaps: true}, {at: at(15)}}, acks, func(_ [][]string, from, _ time.Time) time.Time {
		return from.Add(2 * time.Second)
	})
	if want := []firstWrite{{Ms: 6000, WholeMs: 4000}}; !reflect.DeepEqual(r.FirstWrites, want) || r.NoWrite != 1 {
		t.Errorf("%v and %d without, want %v and one", r.FirstWrites, r.NoWrite, want)
	}
}
