package storage

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/bbolt"
)

// Certificate is q cosignatures on the checkpoint of one block, as an exact
// note (rule B2).
type Certificate struct {
	Height uint64
	Note   []byte
}

// PutCertificates makes certificates durable in one transaction. Heights must
// be committed blocks; where a certificate is already stored it stays, so that
// a height is answered with the same bytes for ever. Errors are as in Commit.
func (s *Store) PutCertificates(certificates []Certificate) error {
	return s.write(func() error {
		for _, c := range certificates {
			if c.Height >= s.tip.blocks || len(c.Note) == 0 {
				return &BatchError{Height: c.Height, Problem: fmt.Sprintf(
					"a certificate of %d bytes for height %d, %d blocks are committed", len(c.Note), c.Height, s.tip.blocks)}
			}
		}
		return s.update(func(tx *bbolt.Tx) error { return putCertificates(tx, certificates) })
	})
}

func putCertificates(tx *bbolt.Tx, certificates []Certificate) error {
	t, err := readCertificateTip(tx)
	if err != nil {
		return err
	}
	b, err := tableCertificates.in(tx)
	if err != nil {
		return err
	}
	for _, c := range certificates {
		key := number(c.Height)
		if b.Get(key) != nil {
			continue
		}
		if err := tableCertificates.put(b, key, sealable(c.Note)); err != nil {
			return err
		}
		if t.count == 0 || c.Height > t.newest {
			t.newest = c.Height
		}
		t.count++
	}
	return t.write(tx)
}

// Certificate returns the exact certificate of a height, or nil if there is
// none: certificates need not exist for each height, a later one covers it.
func (s *Store) Certificate(height uint64) ([]byte, error) {
	var note []byte
	err := view(s.db, func(tx *bbolt.Tx) error {
		b, err := tableCertificates.get(tx, number(height))
		note = clone(b)
		return err
	})
	return note, err
}

// NewestCertificate returns the certificate of the greatest height; ok is false
// if there is none at all.
func (s *Store) NewestCertificate() (c Certificate, ok bool, err error) {
	err = view(s.db, func(tx *bbolt.Tx) error {
		t, err := readCertificateTip(tx)
		if err != nil || t.count == 0 {
			return err
		}
		c, ok, err = certificateFrom(tx, t.newest)
		if err == nil && (!ok || c.Height != t.newest) {
			return tableCertificates.damage(number(t.newest), "the newest certificate is missing")
		}
		return err
	})
	return c, ok, err
}

// CertificateFrom returns the certificate of the lowest height at or above the
// one given: the first that covers it.
func (s *Store) CertificateFrom(height uint64) (c Certificate, ok bool, err error) {
	err = view(s.db, func(tx *bbolt.Tx) error {
		c, ok, err = certificateFrom(tx, height)
		return err
	})
	return c, ok, err
}

func certificateFrom(tx *bbolt.Tx, height uint64) (Certificate, bool, error) {
	b, err := tableCertificates.in(tx)
	if err != nil {
		return Certificate{}, false, err
	}
	key, sealed := b.Cursor().Seek(number(height))
	if key == nil {
		return Certificate{}, false, nil
	}
	note, err := tableCertificates.open(key, sealed)
	if err != nil {
		return Certificate{}, false, err
	}
	if len(key) != 8 {
		return Certificate{}, false, tableCertificates.damage(key, "the key is no height")
	}
	return Certificate{Height: binary.BigEndian.Uint64(key), Note: clone(note)}, true, nil
}
