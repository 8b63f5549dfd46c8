package state

import (
	"bytes"
	"fmt"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// ReplayError names the first leaf of a block that the transition does not
// reproduce.
type ReplayError struct {
	Height uint64
	Leaf   int    // in the block, from 0
	Index  uint64 // in the log
	Detail string // both sides
}

func (e *ReplayError) Error() string {
	return fmt.Sprintf("block %d, leaf %d (record %d of the log) is not what the transition makes: %s", e.Height, e.Leaf, e.Index, e.Detail)
}

// replaying is a block that is rebuilt from its leaves.
type replaying struct {
	*Block
	header *recordv1.BlockHeader
	leaf   []byte // the header's exact bytes
}

func (r *replaying) differs(leaf int, format string, args ...any) error {
	return &ReplayError{Height: r.height, Leaf: leaf, Index: r.head.Size + uint64(leaf), Detail: fmt.Sprintf(format, args...)}
}

// Replay rebuilds the block after head from its leaves, the header last, and
// compares. raw describes the raw vector of a measurement leaf; ok is false
// where it was erased, and then its digest is taken on the header's word. The
// error is a *ReplayError, an error of Begin, or a failure to read the view.
func Replay(view View, head BlockRef, opts Options, leaves [][]byte, raw func(leaf int) (v RawVector, ok bool)) (*Sealed, error) {
	var first []byte
	if len(leaves) > 0 {
		first = leaves[0]
	}
	r, err := beginReplay(view, head, opts, first, leaves[max(0, len(leaves)-1):])
	if err != nil {
		return nil, err
	}
	return r.records(leaves[:len(leaves)-1], raw)
}

// ReplayGenesis rebuilds a genesis block from its leaves, the header last. What
// it founds is as good as the leaves: pin the network id or the checkpoint.
func ReplayGenesis(leaves [][]byte, opts Options) (*Sealed, error) {
	header, leaf, err := headerOf(leaves[max(0, len(leaves)-1):])
	if err != nil {
		return nil, err
	}
	b := newGenesis(header.GetBlockTimeUnixNano(), opts)
	r := &replaying{Block: b, header: header, leaf: leaf}
	sealed, err := r.records(leaves[:len(leaves)-1], nil)
	if err != nil {
		return nil, err
	}
	return sealed, b.checkFounded()
}

func headerOf(last [][]byte) (*recordv1.BlockHeader, []byte, error) {
	if len(last) == 0 {
		return nil, nil, fmt.Errorf("a block has at least its header, this one has no leaf")
	}
	r, err := record.Parse(last[0])
	if err != nil {
		return nil, nil, fmt.Errorf("last leaf of a block: %w", err)
	}
	header := r.GetBlockHeader()
	if header == nil {
		return nil, nil, fmt.Errorf("last leaf of a block is a %T, not its header", r.GetBody())
	}
	return header, last[0], nil
}

func beginReplay(view View, head BlockRef, opts Options, first []byte, last [][]byte) (*replaying, error) {
	header, leaf, err := headerOf(last)
	if err != nil {
		return nil, err
	}
	if recoveryOf(first) != nil {
		b, err := BeginRecovery(view, head, opts)
		if err != nil {
			return nil, fmt.Errorf("block %d: %w", head.Height+1, err)
		}
		return &replaying{Block: b, header: header, leaf: leaf}, nil
	}
	b, err := Begin(view, head, opts, header.GetCertifiedHeight(), header.GetCertificate())
	if err != nil {
		return nil, fmt.Errorf("block %d: %w", head.Height+1, err)
	}
	return &replaying{Block: b, header: header, leaf: leaf}, nil
}

// records submits the leaves again, grouped as they must have been.
func (r *replaying) records(leaves [][]byte, raw func(leaf int) (RawVector, bool)) (*Sealed, error) {
	items := make([]item, len(leaves))
	for i, leaf := range leaves {
		items[i] = parseItem(leaf)
	}
	for from := 0; from < len(items); {
		s := &Submission{}
		until := from + 1
		for items[from].set != nil && until < len(items) && items[until].measurement != nil {
			v := RawVector{Digest: items[until].measurement.sample.RawDigest}
			if raw != nil {
				if known, ok := raw(until); ok {
					v = known
				}
			}
			s.raw = append(s.raw, v)
			until++
		}
		s.items = items[from:until]
		s.checkShape()
		outcomes, err := r.Submit(s)
		if err != nil {
			return nil, err
		}
		for i, o := range outcomes {
			if want := r.head.Size + uint64(from+i); !o.Accepted || o.Index != want {
				return nil, r.differs(from+i, "it is refused with %s (%s)", o.Reason, o.Detail)
			}
		}
		from = until
	}
	sealed, err := r.Seal()
	if err != nil {
		return nil, err
	}
	return sealed, r.compare(sealed.Header, sealed.Records[len(leaves)])
}

// compare says where the header differs.
func (r *replaying) compare(made *recordv1.BlockHeader, leaf []byte) error {
	if bytes.Equal(leaf, r.leaf) {
		return nil
	}
	given, at := r.header, int(made.GetRecordCount())
	for _, f := range []struct {
		name      string
		have, got any
	}{
		{"version", given.GetVersion(), made.GetVersion()},
		{"height", given.GetHeight(), made.GetHeight()},
		{"previous", shortOf(given.GetPrevious()), shortOf(made.GetPrevious())},
		{"first_index", given.GetFirstIndex(), made.GetFirstIndex()},
		{"record_count", given.GetRecordCount(), made.GetRecordCount()},
		{"block_time_unix_nano", given.GetBlockTimeUnixNano(), made.GetBlockTimeUnixNano()},
		{"config", shortOf(given.GetConfig()), shortOf(made.GetConfig())},
		{"writes", shortOf(given.GetWrites()), shortOf(made.GetWrites())},
		{"admin", shortOf(given.GetAdmin()), shortOf(made.GetAdmin())},
		{"certified_height", given.GetCertifiedHeight(), made.GetCertifiedHeight()},
	} {
		if f.have != f.got {
			return r.differs(at, "header has %s %v, it follows %v", f.name, f.have, f.got)
		}
	}
	return r.differs(at, "header differs in its digests or certificate")
}

// Leaf is a leaf of which a follower may know the hash only.
type Leaf struct {
	Record []byte        // exact bytes; nil when only the hash is known
	Hash   digest.Digest // RFC 6962; used when Record is nil
}

// ReplayAdministrative rebuilds what a follower of administrative records can:
// it applies the statements and compares the header, all but the digest of the
// state writes, which cover what it does not see. A statement that was withheld
// shows in the running digest (rule S6). The writes of the result are those of
// the statements. Errors are as of Replay.
func ReplayAdministrative(view View, head BlockRef, opts Options, leaves []Leaf) (*Sealed, error) {
	var last [][]byte
	if n := len(leaves); n > 0 && leaves[n-1].Record != nil {
		last = [][]byte{leaves[n-1].Record}
	}
	var first []byte
	if len(leaves) > 0 {
		first = leaves[0].Record
	}
	r, err := beginReplay(view, head, opts, first, last)
	if err != nil {
		return nil, err
	}
	r.administrative = true
	for i, leaf := range leaves[:len(leaves)-1] {
		it := item{}
		if leaf.Record != nil {
			it = parseItem(leaf.Record)
			if it.err != nil {
				return nil, r.differs(i, "%v", it.err)
			}
		}
		if r.configChanged {
			return nil, r.differs(i, "a network configuration is alone in its block")
		}
		switch {
		case it.statement != nil:
			o, err := r.submitStatement(&it)
			if err != nil {
				return nil, err
			}
			if !o.Accepted {
				return nil, r.differs(i, "it is refused with %s (%s)", o.Reason, o.Detail)
			}
		case leaf.Record != nil:
			r.append(leaf.Record)
		default:
			r.appendHidden(leaf.Hash)
		}
	}
	if r.recovering && !r.configChanged {
		return nil, r.differs(0, "a recovery was announced and not made")
	}
	writes, err := r.writes()
	if err != nil {
		return nil, err
	}
	header := r.makeHeader(r.header.GetWrites())
	leaf, err := encodeHeader(header)
	if err != nil {
		return nil, err
	}
	if err := r.compare(header, leaf); err != nil {
		return nil, err
	}
	return r.sealWith(header, leaf, writes), nil
}
