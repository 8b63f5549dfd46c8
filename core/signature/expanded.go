package signature

import (
	"sync"

	voi "github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
)

// expandedKeys bounds a generation of the expanded keys: about 1.6 KiB each, so
// 26 MiB in both.
const expandedKeys = 8192

// expansions are the points of Ed25519 keys that were used lately, for the whole
// process: a meter or replica signs again and again under one key, and finding its
// point costs a third of a check in a batch. They follow from the key's bytes alone, so
// nothing depends on what is kept (rule B4).
var expansions = expanded{young: make(map[Key]*voi.ExpandedPublicKey)}

type expanded struct {
	mu         sync.Mutex                     // guards the rest
	young, old map[Key]*voi.ExpandedPublicKey // when young is full, old is dropped
}

// of is an Ed25519 key's point, whatever its predicate; false for bytes that are none, under which no
// signature verifies.
func (e *expanded) of(key Key) (*voi.ExpandedPublicKey, bool) {
	e.mu.Lock()
	point, ok := e.young[key]
	if !ok {
		if point, ok = e.old[key]; ok {
			e.insert(key, point)
		}
	}
	e.mu.Unlock()
	if ok {
		return point, true
	}
	point, err := voi.NewExpandedPublicKey(voi.PublicKey(key.Raw()))
	if err != nil {
		return nil, false
	}
	e.mu.Lock()
	e.insert(key, point)
	e.mu.Unlock()
	return point, true
}

// insert needs mu.
func (e *expanded) insert(key Key, point *voi.ExpandedPublicKey) {
	if len(e.young) >= expandedKeys {
		e.old, e.young = e.young, make(map[Key]*voi.ExpandedPublicKey, expandedKeys)
	}
	e.young[key] = point
}
