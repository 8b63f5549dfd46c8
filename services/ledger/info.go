package ledger

import (
	"context"

	"github.com/lacre-metrology/lacre/core/state"
)

// ArchiveInfo says what a directory holds and where its bytes are.
type ArchiveInfo struct {
	Blocks       uint64      `json:"blocks"`
	Records      uint64      `json:"records"`
	Measurements uint64      `json:"measurements"` // also those whose raw vectors expired
	RecordBytes  int64       `json:"record_bytes"`
	Packed       PackedInfo  `json:"packed"` // the part of records and raw vectors in full segments
	Cold         ColdInfo    `json:"cold"`
	Expired      ExpiredInfo `json:"expired"`
	RawBytes     int64       `json:"raw_vector_bytes"`
	IndexBytes   int64       `json:"index_bytes"` // of the file: state, tree, certificates, free pages
	FreeBytes    int64       `json:"index_free_bytes"`
	Tables       []TableInfo `json:"index_tables"`
	// BytesPerMeasurement is all that is kept at rest but raw vectors, divided by
	// the measurements. Pages that hold nothing and are filled next do not count,
	// nor does the ordering log, whose size is bounded.
	BytesPerMeasurement int64 `json:"bytes_per_measurement_besides_raw_vector"`
	RawPerMeasurement   int64 `json:"raw_vector_bytes_per_measurement"`
}

// PackedInfo is what the packed segments hold.
type PackedInfo struct {
	Segments     uint32 `json:"segments"`
	Measurements uint64 `json:"measurements"`
	RecordBytes  int64  `json:"record_bytes"`
	RawBytes     int64  `json:"raw_vector_bytes"`
	// BytesPerMeasurement is what BytesPerMeasurement of all will come to: the
	// packed records of a measurement, and its share of the index.
	BytesPerMeasurement int64 `json:"bytes_per_measurement_besides_raw_vector"`
}

// ColdInfo is what cold storage holds of the raw vectors.
type ColdInfo struct {
	Segments     uint32 `json:"segments"`
	Measurements uint64 `json:"measurements"` // whose raw vectors are there
	RawBytes     int64  `json:"raw_vector_bytes"`
}

// ExpiredInfo is what is not kept any more, and by which decisions.
type ExpiredInfo struct {
	Segments     uint32     `json:"segments"`     // whose raw vectors were dropped
	Measurements uint64     `json:"measurements"` // whose raw vectors are gone
	Decisions    []Decision `json:"decisions"`    // of the ledger here, by their number; also where all are kept
}

// Decision lets raw vectors go.
type Decision struct {
	BelowHeight   uint64   `json:"below_height"` // the first block whose raw vectors stay
	Record        uint64   `json:"record"`
	Height        uint64   `json:"height"` // of the block that brought it
	Rule          string   `json:"rule"`
	Organisations []string `json:"organisations"` // whose root keys signed
}

// TableInfo is one table of the index.
type TableInfo struct {
	Name       string `json:"name"`
	Keys       int    `json:"keys"`
	UsedBytes  int64  `json:"used_bytes"`
	PagesBytes int64  `json:"page_bytes"`
}

// Info adds up where the directory's bytes are.
func (a *Archive) Info(ctx context.Context) (*ArchiveInfo, error) {
	u, err := a.store.Usage(ctx)
	if err != nil {
		return nil, asReason(err)
	}
	i := &ArchiveInfo{Blocks: u.Blocks, Records: u.Records, Measurements: u.RawVectors + u.Expired.RawVectors, RecordBytes: u.RecordBytes,
		RawBytes: u.RawBytes, IndexBytes: u.DBBytes, FreeBytes: u.FreeBytes}
	for _, t := range u.Tables {
		i.Tables = append(i.Tables, TableInfo{Name: t.Name, Keys: t.Keys, UsedBytes: t.Used, PagesBytes: t.Allots})
	}
	i.Cold = ColdInfo{Segments: u.Cold.Segments, Measurements: u.Cold.RawVectors, RawBytes: u.Cold.Bytes}
	i.Expired = ExpiredInfo{Segments: u.Expired.Segments, Measurements: u.Expired.RawVectors, Decisions: []Decision{}}
	decisions, err := state.Expiries(a.store)
	if err != nil {
		return nil, asReason(err)
	}
	for _, d := range decisions {
		i.Expired.Decisions = append(i.Expired.Decisions, Decision{BelowHeight: d.GetBelowHeight(), Record: d.GetLast().GetIndex(),
			Height: d.GetHeight(), Rule: d.GetRule(), Organisations: d.GetOrganisations()})
	}
	p := &u.Packed
	i.Packed = PackedInfo{Segments: p.Segments, Measurements: p.RawVectors, RecordBytes: p.RecordBytes, RawBytes: p.RawBytes}
	if n := int64(i.Measurements); n > 0 {
		index := u.DBBytes - u.FreeBytes
		i.BytesPerMeasurement, i.RawPerMeasurement = (u.SegmentBytes-u.RawBytes+index)/n, u.RawBytes/n
		if packed := int64(p.RawVectors + u.Expired.Dropped); packed > 0 {
			i.Packed.BytesPerMeasurement = p.RecordBytes/packed + index/n
		}
	}
	return i, nil
}
