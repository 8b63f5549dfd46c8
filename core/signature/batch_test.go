package signature

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

// makeChecks gives n checks of mixed kinds over few keys; every one is valid.
func makeChecks(t testing.TB, n int, of ...Kind) []Check {
	t.Helper()
	checks := make([]Check, n)
	for i := range checks {
		kind := of[i%len(of)]
		signer, key := signerOf(t, kind, fmt.Sprint("meter ", i%7))
		message := fmt.Appendf(nil, "message %d", i)
		sig, err := Sign(signer, kind, message)
		if err != nil {
			t.Fatal(err)
		}
		checks[i] = Check{kind, key, message, sig}
	}
	return checks
}

func TestB4_BatchAndCacheAnswerAsVerifyDoes(t *testing.T) {
	const seed = 41
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, seed))
	_, unsafe := signerOf(t, Ed25519ZIP215, "x")
	unsafe = mustKey(t, Ed25519ZIP215, append([]byte{2}, unsafe.Raw()[1:]...)) // most likely no point
	for round := range 12 {
		checks := makeChecks(t, 1+random.IntN(60), kinds...)
		for i := range checks {
			if round%3 == 0 || random.IntN(5) > 0 {
				continue
			}
			switch c := &checks[i]; random.IntN(6) {
			case 0:
				c.Signature = bytes.Clone(c.Signature)
				c.Signature[random.IntN(Size)] ^= 1 << random.IntN(8)
			case 1:
				c.Message = append(c.Message, 'x')
			case 2:
				c.Signature = c.Signature[:random.IntN(Size)]
			case 3:
				c.Kind = Kind(random.IntN(5))
			case 4:
				c.Key = unsafe
			case 5:
				c.Key = Key{}
			}
		}
		want := make([]bool, len(checks))
		for i, c := range checks {
			want[i] = Verify(c.Kind, c.Key, c.Message, c.Signature)
		}
		cache := NewCache(1 << 10)
		for pass, got := range [][]bool{VerifyBatch(checks), VerifyBatchOn(0, checks), VerifyBatchOn(3, checks), cache.VerifyBatch(checks), cache.VerifyBatch(checks)} {
			for i := range checks {
				if got[i] != want[i] {
					t.Errorf("round %d pass %d check %d (%v): batch says %v, Verify %v", round, pass, i, checks[i].Kind, got[i], want[i])
				}
			}
		}
		for i, c := range checks {
			if got := cache.Verify(c.Kind, c.Key, c.Message, c.Signature); got != want[i] {
				t.Errorf("round %d check %d: cache says %v, Verify %v", round, i, got, want[i])
			}
		}
	}
}

func TestB4_CacheKeepsPositiveAnswersOnly(t *testing.T) {
	cache := NewCache(1 << 10)
	for _, c := range makeChecks(t, 6, kinds...) {
		before := cache.Len()
		flipped := bytes.Clone(c.Signature)
		flipped[3] ^= 1
		if cache.Verify(c.Kind, c.Key, c.Message, flipped) || cache.Len() != before {
			t.Errorf("%v: a bad signature was accepted or kept", c.Kind)
		}
		for range 2 {
			if !cache.Verify(c.Kind, c.Key, c.Message, c.Signature) || cache.Len() != before+1 {
				t.Errorf("%v: a good signature was refused or kept %d times", c.Kind, cache.Len()-before)
			}
		}
		// With the answer kept, every part of its name still counts.
		_, other := signerOf(t, c.Kind, "somebody else")
		switch {
		case cache.Verify(c.Kind, c.Key, c.Message, flipped):
			t.Errorf("%v: another signature hit the entry", c.Kind)
		case cache.Verify(c.Kind, c.Key, append(bytes.Clone(c.Message), 0), c.Signature):
			t.Errorf("%v: another message hit the entry", c.Kind)
		case cache.Verify(c.Kind, other, c.Message, c.Signature):
			t.Errorf("%v: another key hit the entry", c.Kind)
		}
		for _, kind := range kinds {
			if kind != c.Kind && cache.Verify(kind, c.Key, c.Message, c.Signature) {
				t.Errorf("%v: the entry was hit as %v", c.Kind, kind)
			}
		}
	}
}

func TestB4_CacheIsBounded(t *testing.T) {
	const entries = 64
	cache := NewCache(entries)
	for _, c := range makeChecks(t, 5*entries, Ed25519) {
		cache.Verify(c.Kind, c.Key, c.Message, c.Signature)
		if n := cache.Len(); n > entries {
			t.Fatalf("%d answers kept, bound %d", n, entries)
		}
	}
	if cache.Len() < entries/4 {
		t.Errorf("only %d of %d places used", cache.Len(), entries)
	}
}

func TestCacheIsSafeForConcurrentUse(t *testing.T) {
	checks := makeChecks(t, 40, kinds...)
	cache := NewCache(32) // evicts all the time
	var group sync.WaitGroup
	for g := range 4 {
		group.Go(func() {
			for i := range checks {
				c := checks[(i+g*10)%len(checks)]
				if !cache.Verify(c.Kind, c.Key, c.Message, c.Signature) {
					t.Errorf("goroutine %d: check %d refused", g, i)
				}
			}
			for i, ok := range cache.VerifyBatch(checks) {
				if !ok {
					t.Errorf("goroutine %d: batch check %d refused", g, i)
				}
			}
		})
	}
	group.Wait()
}

// An Ed25519 key in memory gives the bytes of the standard library, whatever the message.
func TestSignIsTheStandardLibrarys(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 0))
	for i := range 500 {
		key := ed25519Signer(fmt.Sprint("meter ", i))
		message := make([]byte, random.IntN(300))
		for j := range message {
			message[j] = byte(random.Uint32())
		}
		for _, kind := range []Kind{Ed25519, Ed25519ZIP215} {
			got, err := Sign(key, kind, message)
			if want := ed25519.Sign(key, message); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("message %x under %v: %x (%v), the standard library gives %x", message, kind, got, err, want)
			}
		}
	}
}
