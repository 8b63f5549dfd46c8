package meter

import (
	"testing"
	"time"

	"github.com/lacre-metrology/lacre/meter/internal/outbox"
)

// knownFile is a device with nothing but the file of known blocks.
type knownFile struct {
	outbox.Files
	content []byte
}

func (f *knownFile) Read(string) ([]byte, error)           { return f.content, nil }
func (f *knownFile) Rename(string, string) error           { return nil }
func (f *knownFile) Write(_ string, parts ...[]byte) error { f.content = parts[0]; return nil }

// FuzzKnownBlocks: whatever the file holds, the meter starts, keeps no more blocks
// than the limit, in ascending order, names one that it holds, and learns anew.
func FuzzKnownBlocks(f *testing.F) {
	f.Add([]byte(`[{"height":3,"header":"`+blockOf(3).String()+`","certified_at":"2026-01-01T00:00:00Z"},{"height":4,"header":"`+blockOf(4).String()+`","certified_at":"2026-01-01T00:00:05Z"}]`), int64(1_767_225_603))
	f.Add([]byte(`[{"height":9},{"height":3}]`), int64(0))
	f.Add([]byte(`[]`), int64(-1))
	f.Add([]byte(`{`), int64(1))
	f.Fuzz(func(t *testing.T, content []byte, unix int64) {
		k, err := loadKnown(&knownFile{content: content})
		if err != nil {
			t.Fatal(err)
		}
		judge := func() {
			t.Helper()
			if len(k.blocks) > maxKnown {
				t.Fatalf("%d blocks, at most %d", len(k.blocks), maxKnown)
			}
			for i, b := range k.blocks {
				if i > 0 && (b.Height <= k.blocks[i-1].Height || b.CertifiedAt.Before(k.blocks[i-1].CertifiedAt)) {
					t.Fatalf("block %+v after %+v", b, k.blocks[i-1])
				}
			}
			if _, ok := k.at(time.Unix(unix, 0)); ok != (len(k.blocks) > 0) {
				t.Fatalf("a block is named (%v) out of %d", ok, len(k.blocks))
			}
		}
		judge()
		for height := uint64(1); height < 3; height++ {
			_, _ = k.add(KnownBlock{Height: height, Header: blockOf(height), CertifiedAt: time.Unix(unix, 0)})
			judge()
		}
		if err := k.keep(0); err != nil {
			return // a time that JSON cannot say
		}
		again, err := loadKnown(&knownFile{content: k.files.(*knownFile).content})
		if err != nil || len(again.blocks) != len(k.blocks) {
			t.Fatalf("%d blocks were kept, %d are read (%v)", len(k.blocks), len(again.blocks), err)
		}
	})
}
