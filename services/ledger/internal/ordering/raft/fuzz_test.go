package raft

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	hraft "github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/segment"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
)

// aLog is a small log: its meta file and its segments, the newest last.
func aLog(f *testing.F) (meta []byte, segments [][]byte, content metaContent) {
	f.Helper()
	dir := f.TempDir()
	log, err := openLog(dir, testLogger("fuzz"), tamperSegment)
	if err != nil {
		f.Fatal(err)
	}
	for i := uint64(1); i <= 12; i++ {
		entry := &hraft.Log{Index: i, Term: 1, Type: hraft.LogCommand, Data: bytes.Repeat([]byte{byte(i)}, 300), AppendedAt: time.Unix(int64(i), 0)}
		if err := log.StoreLog(entry); err != nil {
			f.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		f.Fatal(err)
	}
	if meta, err = os.ReadFile(filepath.Join(dir, metaName)); err != nil {
		f.Fatal(err)
	}
	if content, err = decodeMeta(meta); err != nil {
		f.Fatal(err)
	}
	for _, info := range content.State.Segments {
		b, err := os.ReadFile(filepath.Join(dir, segment.FileName(info)))
		if err != nil {
			f.Fatal(err)
		}
		segments = append(segments, b)
	}
	return meta, segments, content
}

// FuzzLogSegment: a segment, whatever its bytes, is good, damaged, or ends in an
// append that a crash interrupted; once that is wiped it is good, and nothing of
// the batches before it has changed.
func FuzzLogSegment(f *testing.F) {
	_, segments, content := aLog(f)
	infos := content.State.Segments
	newest := segments[len(segments)-1]
	used := lastNonZero(newest) + 1
	f.Add(uint16(0), []byte{}, uint16(0xffff))
	for i := range 24 {
		f.Add(uint16(i*used/24), []byte{byte(i), byte(i * 7)}, uint16(0xffff))
		f.Add(uint16(i*used/24), []byte{}, uint16(used-i*13))
	}
	f.Fuzz(func(t *testing.T, at uint16, patch []byte, cut uint16) {
		for i, original := range segments {
			b := bytes.Clone(original)
			copy(b[int(at)%len(b):], patch)
			if int(cut) < len(b) { // nothing that was written behind it reached the disk
				clear(b[cut:])
			}
			s := readSegment(b, infos[i])
			if s.end > len(b) {
				t.Fatalf("batches end at %d in a file of %d bytes", s.end, len(b))
			}
			if err := s.sealed(); err == nil && !bytes.Equal(b, original) && i < len(segments)-1 && !infos[i].SealTime.IsZero() {
				t.Fatalf("a sealed segment was altered at %d and is good", at)
			}
			from, err := s.tail()
			if err != nil {
				if reason.Of(err) != reason.DataLoss {
					t.Fatal(err)
				}
				continue
			}
			if from < 0 {
				continue
			}
			if from > len(b) || from != s.end {
				t.Fatalf("to be wiped from %d, batches end at %d of %d", from, s.end, len(b))
			}
			clear(b[from:])
			again := readSegment(b, infos[i])
			if left, err := again.tail(); left >= 0 || err != nil || len(again.offsets) != len(s.offsets) {
				t.Fatalf("wiped from %d it has %d entries of %d and is to be wiped from %d (%v)", from, len(again.offsets), len(s.offsets), left, err)
			}
		}
	})
}

// FuzzLogMeta: the log's meta file is as it was written, or it is damaged. The
// digest line is put right here, or no input would reach what is behind it.
func FuzzLogMeta(f *testing.F) {
	meta, _, _ := aLog(f)
	_, body, _ := bytes.Cut(meta, []byte("\n"))
	f.Add(body)
	f.Add([]byte("{}"))
	f.Add([]byte(`{"state":{"Segments":[{}]},"stable":{"a":"AA=="}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if c, err := decodeMeta(body); err == nil {
			t.Fatalf("without a digest it is read as %+v", c)
		}
		c, err := decodeMeta(append([]byte(digest.Plain(body).String()+"\n"), body...))
		if err != nil {
			if reason.Of(err) != reason.DataLoss {
				t.Fatal(err)
			}
			return
		}
		again, err := json.Marshal(c)
		if err != nil {
			return // a time that JSON cannot say
		}
		if _, err := decodeMeta(append([]byte(digest.Plain(again).String()+"\n"), again...)); err != nil {
			t.Fatalf("written again it is damaged: %v", err)
		}
	})
}
