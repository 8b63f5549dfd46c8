package meter

import (
	"bytes"
	"crypto/ecdh"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/evidence"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/sample"
	evidencev1 "github.com/lacre-metrology/lacre/gen/lacre/evidence/v1"
)

// vault keeps what it is sent; or it answers with the errors that it was given, in order.
type vault struct {
	evidencev1.UnimplementedEvidenceServiceServer
	mu     sync.Mutex
	kept   map[digest.Digest][]byte
	errs   []error
	called chan struct{}
}

func newVault() *vault {
	return &vault{kept: map[digest.Digest][]byte{}, called: make(chan struct{}, 64)}
}

func (v *vault) Put(stream grpc.ClientStreamingServer[evidencev1.PutRequest, evidencev1.PutResponse]) error {
	defer func() { v.called <- struct{}{} }()
	var content []byte
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		content = append(content, r.GetChunk()...)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.errs) > 0 {
		err := v.errs[0]
		v.errs = v.errs[1:]
		return err
	}
	v.kept[digest.Of(digest.Evidence, content)] = content
	return stream.SendAndClose(&evidencev1.PutResponse{})
}

// awaitGone waits until no evidence waits any more.
func awaitGone(t *testing.T, m *Meter, v *vault) {
	t.Helper()
	for {
		list, err := m.PendingEvidence()
		must(t, err)
		if len(list) == 0 {
			return
		}
		select {
		case <-v.called:
		default:
			if t.Context().Err() != nil {
				t.Fatal("evidence still waits")
			}
		}
	}
}

func authority(t *testing.T) *ecdh.PrivateKey {
	t.Helper()
	seed := digest.Plain([]byte("authority"))
	key, err := ecdh.X25519().NewPrivateKey(seed[:])
	must(t, err)
	return key
}

// Evidence leaves the SDK sealed, survives a restart and a failing gateway, and
// goes when a gateway says that it is kept.
func TestEvidenceIsSealedKeptAndSent(t *testing.T) {
	n := newNotary(t)
	g := startGateway(t, n)
	g.vault.errs = []error{status.Error(codes.Unavailable, "not now"), status.Error(codes.ResourceExhausted, "full")}
	c := configOf(t, n, g)
	c.EvidenceKey = authority(t).PublicKey().Bytes()
	c.Endpoints = []string{deadAddress}
	content := bytes.Repeat([]byte("plate ABC-1D23 "), 10_000)

	m, err := open(t.Context(), c, hasty)
	must(t, err)
	piece, err := m.AddEvidence("image/jpeg", bytes.NewReader(content))
	must(t, err)
	must(t, m.Close())
	for _, file := range files(t, c.Dir) {
		b, err := os.ReadFile(file)
		must(t, err)
		if bytes.Contains(b, []byte("ABC-1D23")) {
			t.Errorf("%s holds the plate in the clear", file)
		}
	}
	must(t, os.WriteFile(filepath.Join(c.Dir, evidenceDir, "1"+partSuffix), []byte("cut off"), 0o600))

	c.Endpoints = []string{g.address}
	m = openMeter(t, c)
	awaitGone(t, m, g.vault)
	g.vault.mu.Lock()
	defer g.vault.mu.Unlock()
	var out bytes.Buffer
	err = evidence.Open(&out, authority(t), evidence.Context{NetworkID: c.NetworkID, MeterID: c.MeterID, MediaType: "image/jpeg"}, bytes.NewReader(g.vault.kept[piece.Digest]))
	if err != nil || !bytes.Equal(out.Bytes(), content) || uint64(len(g.vault.kept[piece.Digest])) != piece.Size {
		t.Errorf("the gateway keeps %d bytes for %+v that open to %d: %v", len(g.vault.kept[piece.Digest]), piece, out.Len(), err)
	}
	if _, err := os.Stat(filepath.Join(c.Dir, evidenceDir, "1"+partSuffix)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was cut off is still there: %v", err)
	}
}

func files(t *testing.T, dir string) (list []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			list = append(list, path)
		}
		return err
	}))
	return list
}

// A gateway's refusal proves nothing: the piece is set aside and kept.
func TestN2_RefusedEvidenceIsKept(t *testing.T) {
	n := newNotary(t)
	g := startGateway(t, n)
	g.vault.errs = []error{status.Error(codes.FailedPrecondition, "erased")}
	c, raised := configOf(t, n, g), newAlarms()
	c.EvidenceKey, c.OnAlarm = authority(t).PublicKey().Bytes(), raised.take
	m := openMeter(t, c)
	piece, err := m.AddEvidence("image/jpeg", strings.NewReader("plate"))
	must(t, err)
	raised.await(t, AlarmRefused, 1)
	awaitGone(t, m, g.vault)
	b, err := os.ReadFile(filepath.Join(c.Dir, evidenceRefusedDir, piece.Digest.String()))
	must(t, err)
	if digest.Of(digest.Evidence, b) != piece.Digest {
		t.Error("the refused piece is not what was sealed")
	}
}

// What cannot be sealed leaves nothing behind.
func TestEvidenceThatIsNotTakenLeavesNothing(t *testing.T) {
	n := newNotary(t)
	c := configOf(t, n)
	c.Endpoints = []string{deadAddress}
	c.EvidenceKey, c.MaxEvidenceBytes = authority(t).PublicKey().Bytes(), 1000
	m := openMeter(t, c)
	broken := errors.New("the camera is gone")
	for name, try := range map[string]struct {
		media   string
		content io.Reader
		want    error
	}{
		"empty":         {"image/jpeg", strings.NewReader(""), reason.New(reason.EvidenceUnreadable, "")},
		"no media type": {"", strings.NewReader("x"), reason.New(reason.Malformed, "")},
		"broken":        {"image/jpeg", iotest.ErrReader(broken), broken},
		"no room":       {"image/jpeg", bytes.NewReader(make([]byte, 1000)), ErrOutboxFull},
	} {
		if piece, err := m.AddEvidence(try.media, try.content); !errors.Is(err, try.want) || piece != (sample.Evidence{}) {
			t.Errorf("%s: %+v, %v, want %v", name, piece, err, try.want)
		}
	}
	if left := files(t, filepath.Join(c.Dir, evidenceDir)); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	c.EvidenceKey, c.Dir = nil, t.TempDir()
	if _, err := openMeter(t, c).AddEvidence("image/jpeg", strings.NewReader("x")); !errors.Is(err, ErrNoEvidenceKey) {
		t.Errorf("without a key: %v", err)
	}
	c.EvidenceKey = make([]byte, 32)
	if _, err := Open(t.Context(), c); err == nil {
		t.Error("a weak evidence key was taken")
	}
}
