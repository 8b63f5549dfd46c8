package ingest_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/evidence"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
	evidencev1 "github.com/lacre-metrology/lacre/gen/lacre/evidence/v1"
	ingestv1 "github.com/lacre-metrology/lacre/gen/lacre/ingest/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// withAuthority makes org-00 an authority with an evidence key and a node that reads.
func withAuthority(t *testing.T, b *bench) evidencev1.EvidenceServiceClient {
	t.Helper()
	b.do(func(n *statetest.Network) { n.GiveEvidenceKey("org-00") })
	b.ledger.TLS(t, statetest.Node{ID: "reader", Organisation: "org-00", Role: recordv1.Role_ROLE_AUTHORITY, Key: statetest.Key("node/reader")})
	client := evidencev1.NewEvidenceServiceClient(b.dial("reader"))
	b.follows(t)
	return client
}

// follows waits until the gateway knows what the ledger holds now.
func (b *bench) follows(t *testing.T) {
	t.Helper()
	b.accept(b.capture())
	var header uint64 // of the newest block
	b.do(func(n *statetest.Network) { header = n.Store.Head().Size - 1 })
	for b.ctx.Err() == nil { // a receipt comes from the ledger, and may be here before the block
		head, err := b.client.GetHead(b.ctx, &ingestv1.GetHeadRequest{})
		if err != nil {
			t.Fatal(err)
		}
		proof, err := tlog.ParseProof(head.GetProof())
		if err != nil {
			t.Fatal(err)
		}
		if proof.Index >= header {
			return
		}
		runtime.Gosched()
	}
	t.Fatal("the gateway does not follow")
}

func sealed(t *testing.T, content []byte, organisation string) ([]byte, sample.Evidence) {
	t.Helper()
	var out bytes.Buffer
	piece, err := evidence.Seal(&out, statetest.EvidenceKey(organisation).PublicKey().Bytes(), evidence.Context{MeterID: "meter-01", MediaType: "image/jpeg"}, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), piece
}

// put sends bytes under an announcement.
func put(t *testing.T, b *bench, client evidencev1.EvidenceServiceClient, piece digest.Digest, size int, content []byte) (*evidencev1.PutResponse, error) {
	t.Helper()
	stream, err := client.Put(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	err = stream.Send(&evidencev1.PutRequest{Part: &evidencev1.PutRequest_Piece{Piece: &evidencev1.Piece{Digest: piece.Bytes(), Size: uint64(size)}}})
	for chunk := range slices.Chunk(content, 100_000) {
		if err == nil { // else the server ended the call, and CloseAndRecv says why
			err = stream.Send(&evidencev1.PutRequest{Part: &evidencev1.PutRequest_Chunk{Chunk: chunk}})
		}
	}
	return stream.CloseAndRecv()
}

func get(b *bench, client evidencev1.EvidenceServiceClient, piece digest.Digest, purpose string) (content []byte, index uint64, err error) {
	stream, err := client.Get(b.ctx, &evidencev1.GetRequest{Digest: piece.Bytes(), Purpose: purpose})
	for err == nil {
		var part *evidencev1.GetResponse
		if part, err = stream.Recv(); err == nil {
			content, index = append(content, part.GetChunk()...), max(index, part.GetRecordIndex())
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return content, index, err
}

func (b *bench) standing(t *testing.T, client evidencev1.EvidenceServiceClient, piece digest.Digest) evidencev1.Standing {
	t.Helper()
	response, err := client.Stat(b.ctx, &evidencev1.StatRequest{Digests: [][]byte{piece.Bytes()}})
	if err != nil {
		t.Fatal(err)
	}
	return response.GetStandings()[0]
}

// A piece that was put is given back to the authority, after the reading is on
// the ledger, each reading once; putting it again changes nothing.
func TestN1_EvidenceIsReadByAuthoritiesAndRecorded(t *testing.T) {
	b := newBench(t)
	reader := withAuthority(t, b)
	meter := evidencev1.NewEvidenceServiceClient(b.connection)
	content := bytes.Repeat([]byte("plate "), 50_000)
	want, piece := sealed(t, content, "org-00")
	if _, _, err := get(b, reader, piece.Digest, "too early"); reason.Of(err) != reason.NotFound {
		t.Errorf("a piece that is not here: %v", err)
	}
	for i, before := range []bool{false, true} {
		if r, err := put(t, b, meter, piece.Digest, len(want), want); err != nil || r.GetKeptBefore() != before {
			t.Fatalf("put %d: %v, %v", i, r, err)
		}
	}
	for i, purpose := range []string{"case 17", "case 17"} { // twice: two readings
		got, index, err := get(b, reader, piece.Digest, purpose)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("reading %d gives %d bytes: %v", i, len(got), err)
		}
		events := b.ledger.Events(t)
		if len(events) != i+1 || index == 0 {
			t.Fatalf("%d readings on the ledger after %d, the last as leaf %d", len(events), i+1, index)
		}
		if e := events[i]; e.GetKind() != recordv1.EventKind_EVENT_KIND_EVIDENCE_READ || e.GetSubject() != record.SubjectEvidence(piece.Digest) ||
			!strings.HasPrefix(e.GetDetail(), "reader of org-00 at ") || !strings.HasSuffix(e.GetDetail(), ": case 17") {
			t.Errorf("recorded is %v", e)
		}
		var out bytes.Buffer
		if err := evidence.Open(&out, statetest.EvidenceKey("org-00"), evidence.Context{MeterID: "meter-01", MediaType: "image/jpeg"}, bytes.NewReader(got)); err != nil || !bytes.Equal(out.Bytes(), content) {
			t.Errorf("what was given does not open: %v", err)
		}
	}
	for name, c := range map[string]struct {
		client  evidencev1.EvidenceServiceClient
		purpose string
		want    reason.Reason
	}{
		"the meter":      {meter, "x", reason.PermissionDenied},
		"the public":     {evidencev1.NewEvidenceServiceClient(b.dial("")), "x", reason.PermissionDenied},
		"an endorser":    {evidencev1.NewEvidenceServiceClient(b.dial("endorser-00")), "x", reason.PermissionDenied},
		"no purpose":     {reader, " ", reason.Malformed},
		"a long purpose": {reader, strings.Repeat("x", 257), reason.TooLarge},
	} {
		if got, _, err := get(b, c.client, piece.Digest, c.purpose); reason.Of(err) != c.want || len(got) > 0 {
			t.Errorf("%s: %d bytes, %v, want %s", name, len(got), err, c.want)
		}
	}
	if n := len(b.ledger.Events(t)); n != 2 {
		t.Errorf("%d readings on the ledger, want 2: what was refused is none", n)
	}
}

// Every bad piece has its reason, and nothing of it is kept.
func TestEvidenceThatIsRefusedLeavesNothing(t *testing.T) {
	b := newBench(t)
	withAuthority(t, b)
	client := evidencev1.NewEvidenceServiceClient(b.connection)
	good, piece := sealed(t, []byte("plate"), "org-00")
	other, otherPiece := sealed(t, []byte("plate"), "org-03")
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	plain := bytes.Repeat([]byte("not sealed "), 20)
	for name, c := range map[string]struct {
		piece   digest.Digest
		size    int
		content []byte
		want    reason.Reason
	}{
		"nothing announced":     {piece.Digest, 0, good, reason.TooLarge},
		"above the limit":       {piece.Digest, 1<<20 + 1, good, reason.TooLarge},
		"more than announced":   {piece.Digest, len(good) - 1, good, reason.TooLarge},
		"less than announced":   {piece.Digest, len(good) + 1, good, reason.DigestMismatch},
		"cut in the header":     {piece.Digest, len(good), good[:20], reason.DigestMismatch},
		"another digest":        {otherPiece.Digest, len(good), good, reason.DigestMismatch},
		"a flipped bit":         {piece.Digest, len(good), flipped, reason.DigestMismatch},
		"not sealed":            {digest.Of(digest.Evidence, plain), len(plain), plain, reason.EvidenceUnreadable},
		"to no authority's key": {otherPiece.Digest, len(other), other, reason.EvidenceUnreadable},
	} {
		if r, err := put(t, b, client, c.piece, c.size, c.content); reason.Of(err) != c.want {
			t.Errorf("%s: %v, %v, want %s", name, r, err, c.want)
		}
		if files, err := os.ReadDir(b.evidenceDir); err != nil || len(files) > 0 {
			t.Errorf("%s: left %v, %v", name, files, err)
		}
	}
	if _, err := put(t, b, evidencev1.NewEvidenceServiceClient(b.dial("")), piece.Digest, len(good), good); reason.Of(err) != reason.PermissionDenied {
		t.Errorf("put by the public: %v", err)
	}
}

// An erasure on the ledger removes the piece; it neither comes back nor is read.
func TestErasedEvidenceIsGone(t *testing.T) {
	b := newBench(t)
	reader := withAuthority(t, b)
	meter := evidencev1.NewEvidenceServiceClient(b.connection)
	kept, piece := sealed(t, []byte("plate"), "org-00")
	if _, err := put(t, b, meter, piece.Digest, len(kept), kept); err != nil {
		t.Fatal(err)
	}
	if got := b.standing(t, meter, piece.Digest); got != evidencev1.Standing_STANDING_KEPT {
		t.Errorf("standing %v", got)
	}
	b.do(func(n *statetest.Network) { n.Accept(n.Erasure(piece.Digest, "org-00")) })
	b.follows(t)
	if got := b.standing(t, meter, piece.Digest); got != evidencev1.Standing_STANDING_ERASED {
		t.Errorf("standing after the erasure %v", got)
	}
	if _, err := put(t, b, meter, piece.Digest, len(kept), kept); reason.Of(err) != reason.EvidenceErased {
		t.Errorf("put after the erasure: %v", err)
	}
	if _, _, err := get(b, reader, piece.Digest, "case 17"); reason.Of(err) != reason.EvidenceErased {
		t.Errorf("read after the erasure: %v", err)
	}
	for b.ctx.Err() == nil { // the sweep follows the ledger
		if _, err := os.Stat(filepath.Join(b.evidenceDir, piece.Digest.String())); errors.Is(err, os.ErrNotExist) {
			return
		}
		runtime.Gosched()
	}
	t.Error("the erased piece is still on disk")
}

// The order of an organisation to which a piece is not sealed removes nothing, and
// that of the right one still does.
func TestErasureIsOrderedByWhomThePieceIsSealedTo(t *testing.T) {
	b := newBench(t)
	reader := withAuthority(t, b)
	meter := evidencev1.NewEvidenceServiceClient(b.connection)
	b.do(func(n *statetest.Network) { n.GiveEvidenceKey("org-01") })
	b.follows(t)
	early, earlyPiece := sealed(t, []byte("plate to come"), "org-00")
	kept, piece := sealed(t, []byte("plate"), "org-00")
	if _, err := put(t, b, meter, piece.Digest, len(kept), kept); err != nil {
		t.Fatal(err)
	}
	b.do(func(n *statetest.Network) {
		n.Accept(n.Erasure(piece.Digest, "org-01"))
		n.Accept(n.Erasure(earlyPiece.Digest, "org-01"))
	})
	b.follows(t)
	if _, err := put(t, b, meter, earlyPiece.Digest, len(early), early); err != nil {
		t.Errorf("a piece that a stranger ordered erased is not taken: %v", err)
	}
	for _, p := range []digest.Digest{piece.Digest, earlyPiece.Digest} {
		if got := b.standing(t, meter, p); got != evidencev1.Standing_STANDING_KEPT {
			t.Errorf("standing %v after a stranger's order", got)
		}
	}
	if got, _, err := get(b, reader, piece.Digest, "case 17"); err != nil || !bytes.Equal(got, kept) {
		t.Errorf("read after a stranger's order: %v", err)
	}
	b.do(func(n *statetest.Network) { n.Accept(n.Erasure(piece.Digest, "org-00")) })
	b.follows(t)
	if _, err := put(t, b, meter, piece.Digest, len(kept), kept); reason.Of(err) != reason.EvidenceErased {
		t.Errorf("put after the owner's order: %v", err)
	}
	for b.ctx.Err() == nil { // the sweep follows the ledger
		if _, err := os.Stat(filepath.Join(b.evidenceDir, piece.Digest.String())); errors.Is(err, os.ErrNotExist) {
			return
		}
		runtime.Gosched()
	}
	t.Error("the piece is still on disk")
}

// A piece that was damaged where it lies is not given out, nor is its reading recorded.
func TestDamagedEvidenceIsDataLoss(t *testing.T) {
	b := newBench(t)
	reader := withAuthority(t, b)
	kept, piece := sealed(t, []byte("plate"), "org-00")
	if _, err := put(t, b, evidencev1.NewEvidenceServiceClient(b.connection), piece.Digest, len(kept), kept); err != nil {
		t.Fatal(err)
	}
	kept[90] ^= 1
	if err := os.WriteFile(filepath.Join(b.evidenceDir, piece.Digest.String()), kept, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, _, err := get(b, reader, piece.Digest, "case 17"); reason.Of(err) != reason.DataLoss || len(got) > 0 {
		t.Errorf("%d bytes, %v, want %s", len(got), err, reason.DataLoss)
	}
	if n := len(b.ledger.Events(t)); n != 0 {
		t.Errorf("%d readings recorded", n)
	}
}
