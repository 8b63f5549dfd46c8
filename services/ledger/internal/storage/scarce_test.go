//go:build unix

package storage

import (
	"errors"
	"syscall"
	"testing"
)

// A process that may open no more files has lost no data: whoever opens many
// connections must not make a replica end as damaged.
func TestFilesThatCannotBeOpenedNowAreNoDataLoss(t *testing.T) {
	m := newMaker(t, 11)
	s, err := Open(t.TempDir(), Options{CacheBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range 3 {
		if err := s.Commit(m.batch(m.block(2, 300, 50))); err != nil {
			t.Fatal(err)
		}
	}
	visit := func(uint64, []byte) error { return nil }
	reads := map[string]func() error{
		"Record":    func() error { _, err := s.Record(1); return err },
		"Records":   func() error { return s.Records(0, 2, visit) },
		"RawVector": func() error { _, err := s.RawVector(1); return err },
		"Load":      func() error { _, err := s.Load(0); return err },
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := limit
	none.Cur = 0
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	failed := make(map[string]error)
	for name, read := range reads {
		failed[name] = read()
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	for name, err := range failed {
		var lost *DataLossError
		if !errors.Is(err, ErrScarce) || !errors.Is(err, syscall.EMFILE) || errors.As(err, &lost) {
			t.Errorf("%s without a file to open: %v, want %v and no data loss", name, err, ErrScarce)
		}
	}
	for name, read := range reads {
		if err := read(); err != nil {
			t.Errorf("%s afterwards: %v", name, err)
		}
	}
}
