package storage

import (
	"bytes"
	"errors"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
)

// Rule C1: the lock commits with its block, is for that very tree, and its
// height strictly increases.
func TestC1_LockStandsForItsBlockAndRises(t *testing.T) {
	for name, spoil := range map[string]func(b *Block){
		"other root":           func(b *Block) { b.Lock.Root[0] ^= 1 },
		"other size":           func(b *Block) { b.Lock.Size-- },
		"height below":         func(b *Block) { b.Lock.Height-- },
		"no cosignature":       func(b *Block) { b.Cosignature = nil },
		"cosignature, no lock": func(b *Block) { b.Lock = Lock{} },
	} {
		t.Run(name, func(t *testing.T) {
			s := mustOpen(t, t.TempDir(), small())
			m := newMaker(t, 5)
			must(t, s.Commit(m.batch(m.block(1, 200, 20))))
			before := s.Lock()
			b := m.block(1, 200, 20)
			spoil(&b)
			var refused *BatchError
			if err := s.Commit(m.batch(b)); !errors.As(err, &refused) {
				t.Fatalf("got %v, want a refusal", err)
			}
			if s.Lock() != before {
				t.Fatalf("the lock is %+v, was %+v", s.Lock(), before)
			}
		})
	}
	t.Run("a replica that does not sign keeps its lock", func(t *testing.T) {
		dir := t.TempDir()
		s := mustOpen(t, dir, small())
		m := newMaker(t, 6)
		must(t, s.Commit(m.batch(m.block(1, 200, 20))))
		lock, cosignature := s.Lock(), s.Cosignature()
		b := m.block(1, 200, 20)
		b.Lock, b.Cosignature = Lock{}, nil
		must(t, s.Commit(m.batch(b)))
		must(t, s.Close())
		s = mustOpen(t, dir, small())
		if s.Lock() != lock || !bytes.Equal(s.Cosignature(), cosignature) {
			t.Fatalf("lock %+v with %q, want %+v with %q", s.Lock(), s.Cosignature(), lock, cosignature)
		}
		if c, err := s.CosignatureAt(1); err != nil || c != nil {
			t.Fatalf("cosignature of an unsigned block: %q, %v", c, err)
		}
		mustVerify(t, s)
	})
}

// Rule C2: exact signature bytes are served again, and only the newest changes.
func TestC2_CosignaturesAreServedAgainExactly(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, small())
	m := newMaker(t, 7)
	a, b := m.block(1, 200, 20), m.block(1, 200, 20)
	must(t, s.Commit(m.batch(a, b)))
	must(t, s.RefreshCosignature(b.Lock, []byte("refreshed\n")))
	for range 2 {
		for height, want := range []string{string(a.Cosignature), "refreshed\n"} {
			got, err := s.CosignatureAt(uint64(height))
			if err != nil || string(got) != want {
				t.Fatalf("cosignature of %d is %q, %v, want %q", height, got, err, want)
			}
		}
		must(t, s.Close())
		s = mustOpen(t, dir, small())
	}
	var refused *BatchError
	if err := s.RefreshCosignature(a.Lock, []byte("x")); !errors.As(err, &refused) {
		t.Fatalf("refreshing an older lock: %v", err)
	}
}

// Rule R2: each applied index keeps its entry's digest, for the newest 16,384.
func TestR2_EntryDigestsAreKept(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{MapBytes: 1 << 20})
	m := newMaker(t, 8)
	var b Batch
	for range 10 {
		b.Entries, b.AppliedIndex = nil, m.applied+2000
		for m.applied < b.AppliedIndex {
			m.applied++
			b.Entries = append(b.Entries, Entry{Index: m.applied, Digest: digest.Of(digest.Entry, number(m.applied))})
		}
		must(t, s.Commit(b))
	}
	for range 2 {
		for index, want := range map[uint64]bool{0: false, 1: false, 20000 - entriesKept: false, 20000 - entriesKept + 1: true, 12345: true, 20000: true, 20001: false} {
			d, ok, err := s.EntryDigest(index)
			if err != nil || ok != want || (ok && d != digest.Of(digest.Entry, number(index))) {
				t.Fatalf("entry %d: %v %v %v, want %v", index, d, ok, err, want)
			}
		}
		if r := mustVerify(t, s); r.Values < entriesKept {
			t.Fatalf("%d values checked", r.Values)
		}
		must(t, s.Close())
		s = mustOpen(t, dir, Options{MapBytes: 1 << 20})
	}
}

func TestCertificates(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, small())
	if _, ok, err := s.NewestCertificate(); ok || err != nil {
		t.Fatalf("a certificate in an empty store: %v %v", ok, err)
	}
	m := newMaker(t, 9)
	fill(t, s, m, 10)
	must(t, s.PutCertificates([]Certificate{{3, []byte("three")}, {7, []byte("seven")}}))
	must(t, s.PutCertificates([]Certificate{{5, []byte("five")}, {7, []byte("other")}}))
	for range 2 {
		for height, want := range []string{3: "three", 4: "", 5: "five", 7: "seven", 8: ""} {
			if got, err := s.Certificate(uint64(height)); err != nil || string(got) != want {
				t.Fatalf("certificate of %d is %q, %v, want %q", height, got, err, want)
			}
		}
		if c, ok, err := s.NewestCertificate(); err != nil || !ok || c.Height != 7 || string(c.Note) != "seven" {
			t.Fatalf("newest is %+v %v %v", c, ok, err)
		}
		if c, ok, err := s.CertificateFrom(4); err != nil || !ok || c.Height != 5 {
			t.Fatalf("the first that covers 4 is %+v %v %v", c, ok, err)
		}
		if _, ok, err := s.CertificateFrom(8); err != nil || ok {
			t.Fatalf("something covers 8: %v", err)
		}
		mustVerify(t, s)
		must(t, s.Close())
		s = mustOpen(t, dir, small())
	}
	var refused *BatchError
	if err := s.PutCertificates([]Certificate{{10, []byte("ten")}}); !errors.As(err, &refused) {
		t.Fatalf("a certificate of a block that is not there: %v", err)
	}
}
