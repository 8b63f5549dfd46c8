package state

import (
	"slices"
	"strings"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// HeaderVersion is the version of block headers.
const HeaderVersion = 1

// Sealed is a finished block. Its slices are not changed any more.
type Sealed struct {
	Records    [][]byte        // the leaves, the header last; nil where ReplayAdministrative saw a hash
	LeafHashes []digest.Digest // RFC 6962, of Records
	Header     *recordv1.BlockHeader
	Writes     []Write  // sorted by key, each key once
	Ref        BlockRef // without Root, which the tree gives: see Complete
}

// Complete is the block's reference once its leaves are in the tree.
func (s *Sealed) Complete(root digest.Digest) BlockRef {
	ref := s.Ref
	ref.Root = root
	return ref
}

// Seal finishes the block: it encodes the state writes and appends the header.
func (b *Block) Seal() (*Sealed, error) {
	if b.config == nil {
		return nil, corrupt("a block without a configuration")
	}
	writes, err := b.writes()
	if err != nil {
		return nil, err
	}
	written := DigestWrites(writes)
	header := b.makeHeader(written[:])
	leaf, err := encodeHeader(header)
	if err != nil {
		return nil, err
	}
	return b.sealWith(header, leaf, writes), nil
}

func (b *Block) makeHeader(writes []byte) *recordv1.BlockHeader {
	header := &recordv1.BlockHeader{
		Version:           HeaderVersion,
		Height:            b.height,
		FirstIndex:        b.head.Size,
		RecordCount:       uint32(len(b.hashes)),
		BlockTimeUnixNano: b.blockTimeUnixNano,
		Config:            b.config.Digest.Bytes(),
		Writes:            writes,
		Admin:             b.admin.Bytes(),
		CertifiedHeight:   b.certifiedHeight,
		Certificate:       b.certificate,
	}
	if b.height > 0 {
		header.Previous = b.head.Header.Bytes()
	}
	return header
}

func encodeHeader(header *recordv1.BlockHeader) ([]byte, error) {
	return record.Encode(&recordv1.Record{Body: &recordv1.Record_BlockHeader{BlockHeader: header}})
}

func (b *Block) sealWith(header *recordv1.BlockHeader, leaf []byte, writes []Write) *Sealed {
	b.append(leaf)
	return &Sealed{
		Records:    b.leaves,
		LeafHashes: b.hashes,
		Header:     header,
		Writes:     writes,
		Ref: BlockRef{
			Height:            b.height,
			Header:            record.HeaderDigest(leaf),
			BlockTimeUnixNano: b.blockTimeUnixNano,
			FirstIndex:        b.head.Size,
			Size:              b.nextIndex(),
			Config:            b.config.Digest,
			Admin:             b.admin,
			CertifiedHeight:   b.certifiedHeight,
		},
	}
}

// DigestWrites is what a header says of its block's state writes: the digest of
// key, value, key, value, ..., in key order.
func DigestWrites(writes []Write) digest.Digest {
	fields := make([][]byte, 0, 2*len(writes))
	for _, w := range writes {
		fields = append(fields, w.Key, w.Value)
	}
	return digest.OfFields(digest.StateWrites, fields...)
}

// ChainAdmin extends the running digest of administrative records (rule S6) by
// one statement leaf; it starts from the zero digest.
func ChainAdmin(running digest.Digest, leaf []byte) digest.Digest {
	added := record.Digest(leaf)
	return digest.Of(digest.AdminChain, running[:], added[:])
}

// writes encodes what the block changed.
func (b *Block) writes() ([]Write, error) {
	keys := slices.Clone(b.dirty)
	slices.SortFunc(keys, strings.Compare)
	writes := make([]Write, len(keys))
	for i, key := range keys {
		c := b.cells[key]
		value, err := c.encode()
		if err != nil {
			return nil, err
		}
		if c.message != nil {
			b.memory.keep(key, value, c.message)
		}
		writes[i] = Write{Key: []byte(key), Value: value}
	}
	for _, key := range b.turned {
		b.memory.forget(key)
	}
	return writes, nil
}
