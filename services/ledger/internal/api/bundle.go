package api

import (
	"bytes"
	"context"
	"fmt"
	"sort"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

// GetBundle returns the receipt of a measurement with every statement that it
// rests on, all statements on its meter, and its raw vector. The certificate is
// the newest, so that it covers the statements that came after the measurement. A
// raw vector that expired is an error, unless the caller wants the bundle without.
func (s *Server) GetBundle(_ context.Context, request *ledgerv1.GetBundleRequest) (*ledgerv1.GetBundleResponse, error) {
	index, err := s.locate(request.GetMeasurement())
	if err != nil {
		return nil, err
	}
	certificate, _, err := s.newest()
	if err != nil {
		return nil, err
	}
	if size := certificate.Checkpoint.Size; index >= size {
		return nil, reason.New(reason.NotCertified, "record %d is not certified yet; the newest certified tree has %d", index, size)
	}
	leaf, err := s.Store.Record(index)
	if err != nil {
		return nil, err
	}
	m, err := receipt.ParseMeasurement(leaf)
	if err != nil {
		return nil, err
	}
	g := gatherer{server: s, certificate: certificate, index: index, measurement: m}
	bundle, err := g.bundle(request.GetWithoutRawVector())
	if err != nil {
		return nil, fmt.Errorf("bundle of record %d: %w", index, err)
	}
	encoded, err := receipt.BuildBundle(bundle)
	if err != nil {
		return nil, err
	}
	return &ledgerv1.GetBundleResponse{Bundle: encoded}, nil
}

// gatherer collects what one measurement rests on.
type gatherer struct {
	server      *Server
	certificate *tlog.Certificate // covers all of it
	index       uint64            // of the measurement
	measurement *receipt.Measurement
}

func (g *gatherer) bundle(withoutRaw bool) (*recordv1.Bundle, error) {
	b := &recordv1.Bundle{}
	var err error
	if b.Receipt, err = g.server.receiptUnder(g.index, g.certificate); err != nil {
		return nil, err
	}
	for _, part := range []struct {
		to   **recordv1.ProvenRecord
		find func() (uint64, error)
	}{
		{&b.EndorsementSet, g.endorsementSet}, {&b.Config, g.config}, {&b.Registration, g.registration}, {&b.Approval, g.approval},
	} {
		index, err := part.find()
		if err != nil {
			return nil, err
		}
		if *part.to, err = g.prove(index); err != nil {
			return nil, err
		}
	}
	if err := g.nodes(b); err != nil {
		return nil, err
	}
	if err := g.statements(b); err != nil {
		return nil, err
	}
	if err := g.nationalTable(b); err != nil {
		return nil, err
	}
	if withoutRaw {
		return b, nil
	}
	b.RawVector, err = g.server.Store.RawVector(g.index)
	return b, err
}

func (g *gatherer) prove(index uint64) (*recordv1.ProvenRecord, error) {
	leaf, path, err := g.server.proven(index, g.certificate)
	if err != nil {
		return nil, err
	}
	return receipt.Prove(leaf, index, path), nil
}

// endorsementSet precedes its measurements in the same block (rule S5).
func (g *gatherer) endorsementSet() (uint64, error) {
	for i := g.index; i > 0; i-- {
		leaf, err := g.server.Store.Record(i - 1)
		if err != nil {
			return 0, err
		}
		if record.Digest(leaf) == g.measurement.EndorsementSet {
			return i - 1, nil
		}
		if g.index-i > record.MaxClaims {
			break
		}
	}
	return 0, fmt.Errorf("endorsement set %s is not among the %d records before its measurement", g.measurement.EndorsementSet, record.MaxClaims)
}

// config is the first leaf of the first block under the configuration.
func (g *gatherer) config() (uint64, error) {
	height, err := g.server.Store.HeightOf(g.index)
	if err != nil {
		return 0, err
	}
	first, err := firstUnder(g.server.Store, height, func(b state.BlockRef) digest.Digest { return b.Config })
	return first.FirstIndex, err
}

// registration is the meter's first statement and the only one of its kind.
func (g *gatherer) registration() (uint64, error) {
	meter, err := state.GetMeter(g.server.Store, g.measurement.Sample.MeterID)
	if err != nil {
		return 0, err
	}
	return meter.GetRegistrationIndex(), nil
}

func (g *gatherer) approval() (uint64, error) {
	algorithm, err := state.GetAlgorithm(g.server.Store, g.measurement.Claim.Algorithm)
	if err != nil {
		return 0, err
	}
	if bytes.Equal(algorithm.GetApproval(), g.measurement.Approval[:]) {
		return algorithm.GetApprovalIndex(), nil
	}
	return g.earlier(func(e *recordv1.Envelope) bool {
		return record.StatementDigest(e.GetPayloadType(), e.GetPayload()) == g.measurement.Approval
	})
}

// nodes are the endorsers' registrations, in the order of the endorsements. A
// later registration of a node has another TLS key and the same signing key.
func (g *gatherer) nodes(b *recordv1.Bundle) error {
	r, err := record.Parse(b.GetEndorsementSet().GetRecord())
	if err != nil {
		return err
	}
	for _, e := range r.GetEndorsementSet().GetEndorsements() {
		node, err := state.GetNode(g.server.Store, e.GetNodeId())
		if err != nil {
			return err
		}
		index := node.GetRegistrationIndex()
		if index >= g.index {
			if index, err = g.earlier(registers(e.GetNodeId())); err != nil {
				return err
			}
		}
		proven, err := g.prove(index)
		if err != nil {
			return err
		}
		b.Nodes = append(b.Nodes, proven)
	}
	return nil
}

func registers(id string) func(*recordv1.Envelope) bool {
	return func(e *recordv1.Envelope) bool {
		m := new(recordv1.NodeRegistration)
		return e.GetPayloadType() == record.TypeOf(m) && record.Decode(e.GetPayload(), record.MaxBytes, m) == nil && m.GetNodeId() == id
	}
}

// statements are those on the meter after its registration, each where it
// belongs: the rollovers, the parameters that the claim names, the others.
func (g *gatherer) statements(b *recordv1.Bundle) error {
	meter, err := state.GetMeter(g.server.Store, g.measurement.Sample.MeterID)
	if err != nil {
		return err
	}
	for _, index := range meter.GetStatements()[1:] {
		if index >= g.certificate.Checkpoint.Size {
			break // applied here and not certified yet
		}
		proven, err := g.prove(index)
		if err != nil {
			return err
		}
		r, err := record.Parse(proven.GetRecord())
		if err != nil {
			return err
		}
		switch e := record.ToEnvelope(r.GetStatement()); {
		case e.Digest() == g.measurement.Claim.Registration:
			b.Parameters = proven
		case e.PayloadType == record.TypeMeterKeyRollover:
			b.Rollovers = append(b.Rollovers, proven)
		default:
			b.History = append(b.History, proven)
		}
	}
	return nil
}

// nationalTable is the version in force at the capture; none where the meter is
// under none, or its table begins later.
func (g *gatherer) nationalTable(b *recordv1.Bundle) error {
	meter, err := state.GetMeter(g.server.Store, g.measurement.Sample.MeterID)
	if err != nil {
		return err
	}
	capturedAt := g.measurement.Sample.CapturedAtUnixNano
	parameters, err := state.ParametersAt(meter, capturedAt)
	if err != nil || parameters.NationalTable == "" {
		return err
	}
	table, err := state.GetTable(g.server.Store, parameters.NationalTable)
	if err != nil {
		return err
	}
	if version := state.VersionAt(table.GetVersions(), capturedAt); version != nil {
		b.NationalTable, err = g.prove(version.GetIndex())
	}
	return err
}

// earlier finds the newest statement before the measurement that is the wanted
// one. It walks over blocks that hold statements only: the running digest of
// administrative records tells which (rule S6).
func (g *gatherer) earlier(wanted func(*recordv1.Envelope) bool) (uint64, error) {
	store := g.server.Store
	height, err := store.HeightOf(g.index)
	if err != nil {
		return 0, err
	}
	for {
		block, err := firstUnder(store, height, func(b state.BlockRef) digest.Digest { return b.Admin })
		if err != nil {
			return 0, err
		}
		leaves, err := store.Leaves(block.Height)
		if err != nil {
			return 0, err
		}
		for i := len(leaves) - 1; i >= 0; i-- {
			index := block.FirstIndex + uint64(i)
			if r, err := record.Parse(leaves[i]); err == nil && index < g.index && r.GetStatement() != nil && wanted(r.GetStatement()) {
				return index, nil
			}
		}
		if block.Height == 0 {
			return 0, reason.New(reason.NotFound, "a statement that record %d rests on is not before it", g.index)
		}
		height = block.Height - 1
	}
}

// firstUnder is the first block whose digest is that of the block at a height.
// Such digests never come back, so equal ones are consecutive.
func firstUnder(store *storage.Store, height uint64, of func(state.BlockRef) digest.Digest) (state.BlockRef, error) {
	last, err := blockAt(store, height)
	if err != nil {
		return last, err
	}
	first := last
	sort.Search(int(height), func(h int) bool {
		if err != nil {
			return true
		}
		var ref state.BlockRef
		if ref, err = blockAt(store, uint64(h)); err != nil || of(ref) != of(last) {
			return false
		}
		first = ref
		return true
	})
	return first, err
}

func blockAt(store *storage.Store, height uint64) (state.BlockRef, error) {
	ref, ok, err := store.Block(height)
	if err == nil && !ok {
		err = fmt.Errorf("block %d: %w", height, storage.ErrNotStored)
	}
	return ref, err
}
