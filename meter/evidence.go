package meter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/evidence"
	"github.com/lacre-metrology/lacre/core/sample"
	evidencev1 "github.com/lacre-metrology/lacre/gen/lacre/evidence/v1"
	"github.com/lacre-metrology/lacre/meter/internal/outbox"
)

// Evidence is sealed before anything of it touches the disk, and lies below the
// outbox until a gateway says that it is kept:
//
//	evidence/HEX          sealed, waiting
//	evidence/HEX.part     being sealed; dropped at the next Open
//	evidence-refused/HEX  refused for good; nothing removes it
//
// Known hole: that a gateway keeps what it took is its word. What is lost shows
// as absent (`lacre evidence list`); the measurement stands without it.
const (
	evidenceDir        = "evidence"
	evidenceRefusedDir = "evidence-refused"
	partSuffix         = ".part"
	evidenceChunk      = 64 << 10 // bytes of a message
)

// ErrNoEvidenceKey says: the configuration names no authority to seal to.
var ErrNoEvidenceKey = errors.New("no evidence key is configured")

// pieces is the store of sealed evidence. It is safe for concurrent use.
type pieces struct {
	dir   *outbox.Dir
	limit int64         // bytes that may wait
	more  chan struct{} // of one: something was added

	mu   sync.Mutex // guards the rest
	held int64      // bytes that wait
}

func openPieces(dir *outbox.Dir, limit int64) (*pieces, error) {
	p := &pieces{dir: dir, limit: limit, more: make(chan struct{}, 1)}
	for _, name := range []string{evidenceDir, evidenceRefusedDir} {
		if err := dir.MakeDir(name); err != nil {
			return nil, err
		}
	}
	files, err := dir.List(evidenceDir)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if strings.HasSuffix(f.Name, partSuffix) {
			err = errors.Join(err, dir.Remove(evidenceDir+"/"+f.Name))
			continue
		}
		p.held += f.Size
	}
	p.wake()
	return p, err
}

func (p *pieces) wake() {
	select {
	case p.more <- struct{}{}:
	default:
	}
}

// AddEvidence reads content to its end, seals it to the authority's key, and
// stores it durably; it is sent in the background. Name the piece that it returns
// in Capture.Evidence; the order of the two does not matter to the ledger.
//
// Errors: ErrNoEvidenceKey, ErrOutboxFull, a *reason.Error for content that is
// empty or too large, content's own, or a failed write. After an error nothing is
// kept.
func (m *Meter) AddEvidence(mediaType string, content io.Reader) (sample.Evidence, error) {
	if len(m.config.EvidenceKey) == 0 {
		return sample.Evidence{}, ErrNoEvidenceKey
	}
	c := evidence.Context{NetworkID: m.config.NetworkID, MeterID: m.config.MeterID, MediaType: mediaType}
	piece, err := m.pieces.add(m.config.EvidenceKey, c, content)
	if errors.Is(err, ErrOutboxFull) {
		m.alarm(Alarm{Kind: AlarmOutboxFull, Err: err})
	}
	return piece, err
}

func (p *pieces) add(key []byte, c evidence.Context, content io.Reader) (piece sample.Evidence, err error) {
	p.mu.Lock()
	defer p.mu.Unlock() // one piece at a time: a camera takes few
	f, err := os.CreateTemp(p.dir.Path(evidenceDir), "*"+partSuffix)
	if err != nil {
		return piece, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	piece, err = evidence.Seal(&bounded{to: f, left: p.limit - p.held}, key, c, content)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return sample.Evidence{}, err
	}
	name := evidenceDir + "/" + piece.Digest.String()
	if err := p.dir.Rename(evidenceDir+"/"+filepath.Base(f.Name()), name); err != nil {
		return sample.Evidence{}, err
	}
	p.held += int64(piece.Size)
	p.wake()
	return piece, p.dir.SyncDir(evidenceDir)
}

// bounded refuses what would not fit.
type bounded struct {
	to   io.Writer
	left int64
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= int64(len(p)); b.left < 0 {
		return 0, fmt.Errorf("%w: evidence", ErrOutboxFull)
	}
	return b.to.Write(p)
}

// PendingEvidence lists what no gateway has taken yet.
func (m *Meter) PendingEvidence() ([]digest.Digest, error) { return m.pieces.pending() }

func (p *pieces) pending() ([]digest.Digest, error) {
	files, err := p.dir.List(evidenceDir)
	var list []digest.Digest
	for _, f := range files {
		if d, err := digest.Parse(f.Name); err == nil {
			list = append(list, d)
		}
	}
	return list, err
}

// settle removes a piece that is kept elsewhere, or puts one aside that was
// refused for good.
func (p *pieces) settle(piece digest.Digest, refused bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := evidenceDir + "/" + piece.String()
	info, err := os.Stat(p.dir.Path(name))
	if err != nil {
		return err
	}
	if refused {
		err = errors.Join(p.dir.Rename(name, evidenceRefusedDir+"/"+piece.String()), p.dir.SyncDir(evidenceRefusedDir))
	} else {
		err = p.dir.Remove(name)
	}
	if err != nil {
		return err
	}
	p.held -= info.Size()
	return p.dir.SyncDir(evidenceDir)
}

// sendEvidence sends what waits until ctx ends, over a session's connection.
func (s *sender) sendEvidence(ctx context.Context, conn grpc.ClientConnInterface, endpoint string) {
	client := evidencev1.NewEvidenceServiceClient(conn)
	for failures := 0; ctx.Err() == nil; {
		err := s.sendPieces(ctx, client, endpoint)
		wait := make(<-chan time.Time)
		if failures++; err != nil {
			wait = time.After(s.timing.retry.delay(failures))
		} else {
			failures = 0
		}
		select {
		case <-ctx.Done():
		case <-wait:
		case <-s.meter.pieces.more:
		}
	}
}

func (s *sender) sendPieces(ctx context.Context, client evidencev1.EvidenceServiceClient, endpoint string) error {
	list, err := s.meter.pieces.pending()
	if err != nil {
		s.meter.alarm(Alarm{Kind: AlarmStorage, Err: err})
		return err
	}
	var failures []error
	for _, piece := range list {
		err := s.meter.pieces.send(ctx, client, piece)
		refused := permanent(err)
		if err != nil && !refused {
			failures = append(failures, err)
			continue
		}
		if refused {
			s.meter.alarm(Alarm{Kind: AlarmRefused, Endpoint: endpoint, Err: fmt.Errorf("evidence %s: %w", piece, err)})
		}
		if err := s.meter.pieces.settle(piece, refused); err != nil {
			s.meter.alarm(Alarm{Kind: AlarmStorage, Err: err})
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

// permanent says whether the same bytes can never be taken: by the code, since a
// gateway's word proves nothing anyhow and the piece is kept (rule N2).
func permanent(err error) bool {
	code := status.Code(err)
	return code == codes.InvalidArgument || code == codes.FailedPrecondition
}

// send sends one piece; nil means that the gateway says it is on disk.
func (p *pieces) send(ctx context.Context, client evidencev1.EvidenceServiceClient, piece digest.Digest) (err error) {
	f, err := os.Open(p.dir.Path(evidenceDir + "/" + piece.String()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.Put(ctx)
	if err != nil {
		return err
	}
	request := &evidencev1.PutRequest{Part: &evidencev1.PutRequest_Piece{Piece: &evidencev1.Piece{Digest: piece.Bytes(), Size: uint64(info.Size())}}}
	buffer := make([]byte, evidenceChunk)
	for stream.Send(request) == nil { // otherwise the gateway ended the call, and CloseAndRecv says why
		n, err := f.Read(buffer)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		request = &evidencev1.PutRequest{Part: &evidencev1.PutRequest_Chunk{Chunk: buffer[:n]}}
	}
	_, err = stream.CloseAndRecv()
	return err
}
