package signature

import (
	"sync"

	"github.com/lacre-metrology/lacre/core/digest"
)

// cacheShards bounds contention between cores; a power of two.
const cacheShards = 16

// Cache is a Verifier that remembers positive answers (rule B4): the key of an
// entry is the digest of (tagged public key, signed bytes, signature), so an
// entry says exactly what a fresh computation would. Negative answers are
// not kept: they would let a stranger fill the memory with garbage.
//
// It is bounded: each shard holds two generations, and when the young one is
// full the old one is dropped. An entry in use moves back to the young one.
type Cache struct {
	shards [cacheShards]cacheShard
}

type cacheShard struct {
	mu    sync.Mutex
	limit int                        // entries of a generation; constant
	young map[digest.Digest]struct{} // guarded by mu
	old   map[digest.Digest]struct{} // guarded by mu
}

// NewCache makes a cache of at most about entries positive answers (at least
// two for each shard), 32 bytes each and the map's overhead.
func NewCache(entries int) *Cache {
	c := &Cache{}
	for i := range c.shards {
		c.shards[i].limit = max(1, entries/(2*cacheShards))
		c.shards[i].young = make(map[digest.Digest]struct{})
	}
	return c
}

// Verify implements Verifier.
func (c *Cache) Verify(kind Kind, key Key, message, sig []byte) bool {
	if len(sig) != Size || key.Kind() != kind {
		return false
	}
	id := checkID(key, message, sig)
	if c.has(id) {
		return true
	}
	if !Verify(kind, key, message, sig) {
		return false
	}
	c.add(id)
	return true
}

// Len is the number of answers kept.
func (c *Cache) Len() int {
	n := 0
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		n += len(s.young) + len(s.old)
		s.mu.Unlock()
	}
	return n
}

// checkID names a check. The kind is the key's tag, so it is covered.
func checkID(key Key, message, sig []byte) digest.Digest {
	return digest.OfFields(digest.SignatureCheck, key.Bytes(), message, sig)
}

func (c *Cache) shard(id digest.Digest) *cacheShard {
	return &c.shards[id[0]&(cacheShards-1)]
}

func (c *Cache) has(id digest.Digest) bool {
	s := c.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.young[id]; ok {
		return true
	}
	if _, ok := s.old[id]; ok {
		delete(s.old, id)
		s.insert(id)
		return true
	}
	return false
}

func (c *Cache) add(id digest.Digest) {
	s := c.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.insert(id)
}

// insert needs mu.
func (s *cacheShard) insert(id digest.Digest) {
	if len(s.young) >= s.limit {
		s.old, s.young = s.young, make(map[digest.Digest]struct{}, s.limit)
	}
	s.young[id] = struct{}{}
}
