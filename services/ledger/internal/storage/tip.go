package storage

import (
	"encoding/binary"
	"fmt"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"go.etcd.io/bbolt"
)

// tip is the newest commit in one value: everything that is one per ledger. It
// is written by each transaction, so nothing in it can lag behind the blocks.
type tip struct {
	blocks      uint64   // number of blocks; the newest has height blocks-1
	size        uint64   // leaves
	end         position // where the next frame goes
	applied     uint64   // ordering log (rule R4)
	entries     uint64   // entry digests kept
	stateKeys   uint64   // so that a key that a damaged page hides is missed
	packed      uint32   // segments 1 to packed are packed
	cold        uint32   // raw vectors of segments 1 to cold are in cold storage
	dropped     uint32   // raw vectors of segments 1 to dropped expired, and are gone
	erased      uint32   // cold storage has no objects of segments 1 to erased
	lacking     uint64   // raw vectors that had expired before their blocks came here
	pages       uint64   // of stateKeys: those in tablePages
	prunedBelow uint64   // raw vectors of lower heights may be absent, where a decision in the state says so
	lock        Lock     // rule C1
	cosignature []byte   // the newest exact signature lines over lock
}

// certificateTip counts certificates; apart from tip because they are written
// by transactions of their own.
type certificateTip struct {
	count  uint64
	newest uint64 // height; meaningless while count is 0
}

var (
	keyTip          = []byte("tip")
	keyCertificates = []byte("certificates")
)

const (
	// tipVersion is the version of the whole store: the form of its tables and
	// segments, and what the state's values mean. A program that changes either
	// raises it, so that an older one does not start on the directory.
	// Version 1 has no packed segments, version 2 none in cold storage, version 3
	// none that were dropped, and no field for them; version 4 has all pages of
	// counters among the other state.
	tipVersion      = 5
	tipFixedBytes   = 1 + 8 + 8 + 4 + 8 + 8 + 8 + 8 + 8 + 8 + 8 + digest.Size // of version 1
	certificateTipN = 16
)

func (t *tip) encode() []byte {
	b := room(tipFixedBytes + laterFields(tipVersion) + len(t.cosignature))
	b = append(b, tipVersion)
	b = binary.BigEndian.AppendUint64(b, t.blocks)
	b = binary.BigEndian.AppendUint64(b, t.size)
	b = binary.BigEndian.AppendUint32(b, t.end.segment)
	b = binary.BigEndian.AppendUint64(b, uint64(t.end.offset))
	for _, n := range []uint64{t.applied, t.entries, t.stateKeys, t.prunedBelow, t.lock.Height, t.lock.Size} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	b = append(b, t.lock.Root[:]...)
	b = binary.BigEndian.AppendUint32(b, t.packed)
	b = binary.BigEndian.AppendUint32(b, t.cold)
	b = binary.BigEndian.AppendUint32(b, t.dropped)
	b = binary.BigEndian.AppendUint32(b, t.erased)
	b = binary.BigEndian.AppendUint64(b, t.lacking)
	b = binary.BigEndian.AppendUint64(b, t.pages)
	return append(b, t.cosignature...)
}

// laterFields is what the fields take that version 1 does not have.
func laterFields(version byte) int { return [tipVersion + 1]int{0, 0, 4, 8, 24, 32}[version] }

func decodeTip(b []byte) (tip, error) {
	var t tip
	if len(b) > 0 && b[0] > tipVersion {
		return t, reason.New(reason.UnsupportedVersion, "the store is of version %d; this binary knows %d", b[0], tipVersion)
	}
	fixed := tipFixedBytes
	if len(b) > 0 {
		fixed += laterFields(b[0])
	}
	if len(b) < fixed {
		return t, tableMeta.damage(keyTip, fmt.Sprintf("the value has %d bytes, want at least %d", len(b), fixed))
	}
	if b[0] == 0 {
		return t, tableMeta.damage(keyTip, fmt.Sprintf("the value has version %d, this program reads 1 to %d", b[0], tipVersion))
	}
	r := b[1:]
	next := func() uint64 {
		n := binary.BigEndian.Uint64(r)
		r = r[8:]
		return n
	}
	t.blocks, t.size = next(), next()
	t.end.segment = binary.BigEndian.Uint32(r)
	r = r[4:]
	t.end.offset = int64(next())
	t.applied, t.entries, t.stateKeys, t.prunedBelow = next(), next(), next(), next()
	t.lock.Height, t.lock.Size = next(), next()
	copy(t.lock.Root[:], r)
	r = r[digest.Size:]
	if b[0] > 1 {
		t.packed = binary.BigEndian.Uint32(r)
		r = r[4:]
	}
	if b[0] > 2 {
		t.cold = binary.BigEndian.Uint32(r)
		r = r[4:]
	}
	if b[0] > 3 {
		t.dropped, t.erased = binary.BigEndian.Uint32(r), binary.BigEndian.Uint32(r[4:])
		t.lacking = binary.BigEndian.Uint64(r[8:])
		r = r[16:]
	}
	if b[0] > 4 {
		t.pages = next()
	}
	if len(r) > 0 {
		t.cosignature = clone(r)
	}
	if t.prunedBelow != 0 && b[0] < 4 {
		return t, tableMeta.damage(keyTip, fmt.Sprintf("raw vectors below height %d are said to have expired by a program that drops none", t.prunedBelow))
	}
	return t, nil
}

func readTip(tx *bbolt.Tx) (tip, error) {
	b, err := tableMeta.get(tx, keyTip)
	if err != nil {
		return tip{}, err
	}
	if b == nil {
		return tip{}, tableMeta.damage(keyTip, "the value is missing")
	}
	return decodeTip(b)
}

func (t *tip) write(tx *bbolt.Tx) error {
	b, err := tableMeta.in(tx)
	if err != nil {
		return err
	}
	return tableMeta.put(b, keyTip, t.encode())
}

func readCertificateTip(tx *bbolt.Tx) (certificateTip, error) {
	b, err := tableMeta.get(tx, keyCertificates)
	if err != nil {
		return certificateTip{}, err
	}
	if len(b) != certificateTipN {
		return certificateTip{}, tableMeta.damage(keyCertificates, fmt.Sprintf("the value has %d bytes, want %d", len(b), certificateTipN))
	}
	return decodeCertificateTip(b), nil
}

func decodeCertificateTip(b []byte) certificateTip {
	return certificateTip{count: binary.BigEndian.Uint64(b), newest: binary.BigEndian.Uint64(b[8:])}
}

func (c certificateTip) write(tx *bbolt.Tx) error {
	b, err := tableMeta.in(tx)
	if err != nil {
		return err
	}
	value := binary.BigEndian.AppendUint64(room(certificateTipN), c.count)
	return tableMeta.put(b, keyCertificates, binary.BigEndian.AppendUint64(value, c.newest))
}
