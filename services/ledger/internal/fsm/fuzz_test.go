package fsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/wire"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering"
	"github.com/lacre-metrology/lacre/services/ledger/internal/propose"
)

// FuzzEntry: what decodes is its own one form (rule B1), whatever a leader
// orders; its submissions are read without a panic.
func FuzzEntry(f *testing.F) {
	f.Add([]byte{})
	f.Add(wire.MustEncode(&replicav1.Proposal{Version: 1}))
	f.Add(wire.MustEncode(&replicav1.Proposal{Version: 1, Submissions: []*replicav1.Submission{{Records: [][]byte{{1}}, RawVectors: [][]byte{{1}, {2}}}}}))
	entry, err := os.ReadFile(filepath.Join("testdata", "entry-v1"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(entry[digest.Size:])
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := decode(data)
		if err != nil {
			return
		}
		if again := wire.MustEncode(p); !bytes.Equal(again, data) {
			t.Errorf("%x decodes and encodes to %x (rule B1)", data, again)
		}
		for _, s := range p.GetSubmissions() {
			if got := Parse(s).Len(); got != len(s.GetRecords()) {
				t.Errorf("%d records, %d are parsed", len(s.GetRecords()), got)
			}
		}
	})
}

// FuzzPointer: a snapshot pointer has one form.
func FuzzPointer(f *testing.F) {
	f.Add(pointer{height: 7, header: digest.Plain([]byte("x")), applied: 9}.encode())
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := parsePointer(b); err == nil && !bytes.Equal(p.encode(), b) {
			t.Errorf("%x came back as %x", b, p.encode())
		}
	})
}

// scripted is a replica with an approved module and the three meters of a script;
// its process has ended, so that its directory can be copied.
func scripted(t testing.TB) (*replica, *statetest.Script) {
	r := newReplica(t, statetest.New(t, statetest.Options{}))
	r.n.Approve()
	script := statetest.NewScript(r.n, nil)
	r.fetch = each(r, r.serve(nil))
	head := r.n.Store.Head()
	if err := r.machine.RestorePointer(context.Background(), pointer{height: head.Height, header: head.Header, applied: head.Height}.encode()); err != nil {
		t.Fatal(err)
	}
	r.same()
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
	return r, script
}

// serveRaw is serve with the raw vectors of measurements.
func (r *replica) serveRaw(raw map[digest.Digest][]byte, change func(*replicav1.FetchBlocksResponse)) func(next *uint64, to uint64, take func(*replicav1.FetchBlocksResponse) error) error {
	return r.serve(func(b *replicav1.FetchBlocksResponse) {
		for _, leaf := range b.Records {
			parsed, err := record.Parse(leaf)
			if err != nil {
				r.t.Fatal(err)
			}
			if m := parsed.GetMeasurement(); m != nil {
				header, err := sample.Parse(m.GetHeader())
				if err != nil {
					r.t.Fatal(err)
				}
				b.RawVectors = append(b.RawVectors, bytes.Clone(raw[header.RawDigest]))
			}
		}
		if change != nil {
			change(b)
		}
	})
}

// copied is a replica over a copy of another's directory, as it lies on disk now,
// beside the mirror n. Copied from a running process it is what a crash leaves.
func (r *replica) copied(t testing.TB, n *statetest.Network) *replica {
	t.Helper()
	c := &replica{t: t, n: n, dir: t.TempDir()}
	err := filepath.WalkDir(r.dir, func(path string, entry fs.DirEntry, err error) error {
		name, relErr := filepath.Rel(r.dir, path)
		if err := errors.Join(err, relErr); err != nil {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(c.dir, name), 0o700)
		}
		return copySparse(filepath.Join(c.dir, name), path)
	})
	if err != nil {
		t.Fatal(err)
	}
	c.open()
	return c
}

// copySparse copies a file and leaves out pages of zeros: most of a young
// database, which would take longer to write than all else that a run does.
func copySparse(to, from string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	zeros := make([]byte, 4096)
	for at := 0; at < len(content); at += len(zeros) {
		page := content[at:min(at+len(zeros), len(content))]
		if !bytes.Equal(page, zeros[:len(page)]) {
			if _, err := file.WriteAt(page, int64(at)); err != nil {
				return errors.Join(err, file.Close())
			}
		}
	}
	return errors.Join(file.Truncate(int64(len(content))), file.Close())
}

// torn leaves behind the newest segment what a write that was cut short leaves.
func (r *replica) torn(garbage []byte) {
	segments, err := filepath.Glob(filepath.Join(r.dir, "store", "segments", "*"))
	if err != nil || len(segments) == 0 {
		r.t.Fatalf("segments %v, %v", segments, err)
	}
	slices.Sort(segments)
	file, err := os.OpenFile(segments[len(segments)-1], os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := file.Write(garbage); err != nil {
		r.t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		r.t.Fatal(err)
	}
}

// ordered is the entry of a step; by alters a byte of it, unless it is zero.
func ordered(step statetest.Step, at uint16, by byte) []byte {
	p := &replicav1.Proposal{Version: propose.Version, CertifiedHeight: step.CertifiedHeight, Certificate: step.Certificate}
	for _, s := range step.Submissions {
		p.Submissions = append(p.Submissions, &replicav1.Submission{Records: s.Records, RawVectors: s.RawVectors})
	}
	data := wire.MustEncode(p)
	data[int(at)%len(data)] ^= by
	return data
}

// mirror plays an entry as the network in memory must. What does not decode is a
// certificate of nothing, so it makes an empty block.
func (r *replica) mirror(data []byte) string {
	p, err := decode(data)
	if err != nil {
		r.n.Play(statetest.Step{CertifiedHeight: ^uint64(0)})
		return "[]"
	}
	step := statetest.Step{CertifiedHeight: p.GetCertifiedHeight(), Certificate: p.GetCertificate()}
	for _, s := range p.GetSubmissions() {
		step.Submissions = append(step.Submissions, statetest.RawSubmission{Records: s.GetRecords(), RawVectors: s.GetRawVectors()})
	}
	outcomes, _ := r.n.Play(step)
	return fmt.Sprint(outcomes)
}

// FuzzBatchings gives two replicas one log of Raft entries, some of them altered:
// the first one entry at a time without an end of its process, the second in
// batches, with restarts and crashes between them. Both have the ledger of the
// mirror: each root, each state value, each outcome, each entry's digest.
func FuzzBatchings(f *testing.F) {
	base, script := scripted(f)
	random := rand.New(rand.NewPCG(scriptSeed, 0))
	for range 12 {
		life, batching := make([]byte, 20+random.IntN(120)), make([]byte, 6)
		for _, b := range [][]byte{life, batching} {
			for i := range b {
				b[i] = byte(random.Uint32())
			}
		}
		f.Add(life, batching)
	}
	f.Fuzz(func(t *testing.T, life, batching []byte) {
		if len(life) > 200 {
			return
		}
		n := base.n.Clone(t)
		first := base.copied(t, n)
		s := script.On(n, life)
		var entries []ordering.Entry
		var results []string
		for step, ok := s.Next(); ok && len(entries) < 8; step, ok = s.Next() {
			by := byte(0)
			if i := len(entries); i+1 < len(batching) && batching[i]%16 == 15 {
				by = 1 + batching[i+1]%255
			}
			data := ordered(step, uint16(len(entries))*7919, by)
			want := first.mirror(data)
			applied := first.apply(data)
			if got := fmt.Sprint(applied.Results); got != want {
				t.Fatalf("entry %d: outcomes %s, want %s", len(entries), got, want)
			}
			first.same()
			entries = append(entries, ordering.Entry{Index: first.index, Data: data, Digest: digest.Of(digest.Entry, data)})
			results = append(results, want)
		}
		second := base.copied(t, n)
		for done := 0; done < len(entries); {
			choice := byte(0)
			if len(batching) > 0 {
				choice, batching = batching[0], batching[1:]
			}
			until := min(len(entries), done+1+int(choice%4))
			responses, err := second.machine.ApplyBatch(entries[done:until])
			if err != nil {
				t.Fatal(err)
			}
			for i, response := range responses {
				if got := fmt.Sprint(response.(propose.Applied).Results); got != results[done+i] {
					t.Fatalf("entry %d in a batch: outcomes %s, alone %s", done+i, got, results[done+i])
				}
			}
			done = until
			switch choice >> 4 % 4 {
			case 1:
				second.restart()
			case 2: // the process is killed
				crashed := second
				second = crashed.copied(t, n)
				if err := crashed.store.Close(); err != nil {
					t.Fatal(err)
				}
			case 3: // and while it was writing the next batch
				if err := second.store.Close(); err != nil {
					t.Fatal(err)
				}
				second.torn(bytes.Repeat([]byte{choice, 0, 0xff}, int(choice)))
				second.open()
			}
			if got, want := second.machine.AppliedIndex(), entries[done-1].Index; got != want {
				t.Fatalf("applied index %d, want %d", got, want)
			}
		}
		second.same()
		for _, r := range []*replica{first, second} {
			for _, e := range entries {
				if got, ok := r.machine.AppliedDigest(e.Index); !ok || got != e.Digest {
					t.Fatalf("entry %d has digest %s (%v), want %s", e.Index, got, ok, e.Digest)
				}
			}
			if report, err := r.store.Verify(context.Background(), nil); err != nil || report.Err() != nil {
				t.Fatalf("verification: %v, %v", err, report.Err())
			}
		}
	})
}

// scriptSeed gives the scripts of the corpus.
const scriptSeed = 20261122

// FuzzFetchedBlocks lets a peer alter one block of those that a replica fetches:
// the replica has the ledger of the others, or it has a part of it and says that
// the peer's block is bad. It never has another.
func FuzzFetchedBlocks(f *testing.F) {
	base, script := scripted(f)
	raw := make(map[digest.Digest][]byte)
	n := base.n.Clone(f)
	random := rand.New(rand.NewPCG(scriptSeed, 1))
	for s := script.On(n, nil); len(n.Store.Blocks) < 24; {
		life := make([]byte, 40)
		for i := range life {
			life[i] = byte(random.Uint32())
		}
		for s = s.On(n, life); ; {
			step, ok := s.Next()
			if !ok {
				break
			}
			for _, submission := range step.Submissions {
				for _, v := range submission.RawVectors {
					raw[sample.DigestRaw(v)] = v
				}
			}
			n.Play(step)
		}
	}
	head := n.Store.Head()
	to := pointer{height: head.Height, header: head.Header, applied: head.Height + 1}
	f.Add(uint8(1), uint8(0), uint8(0), uint16(0), []byte{})
	for i := range uint8(20) {
		f.Add(i, i%6, i, uint16(i)*37, []byte{1, i})
	}
	f.Fuzz(func(t *testing.T, which, kind, piece uint8, at uint16, patch []byte) {
		r := base.copied(t, n.Clone(t))
		from := r.machine.Head().Block.Height
		height := from + 1 + uint64(which)%(head.Height-from)
		altered := false
		r.fetch = each(r, r.serveRaw(raw, func(b *replicav1.FetchBlocksResponse) {
			if b.GetHeight() != height {
				return
			}
			before := wire.MustEncode(b)
			alter(b, kind, int(piece), int(at), patch)
			again, err := wire.Encode(b)
			altered = err != nil || !bytes.Equal(again, before)
		}))
		err := r.machine.RestorePointer(context.Background(), to.encode())
		got := r.machine.Head().Block
		if want := r.n.Store.Blocks[got.Height]; got != want {
			t.Fatalf("block %d is %+v, the others have %+v (%v)", got.Height, got, want, err)
		}
		if altered != (err != nil) {
			t.Fatalf("altered %v, and the answer is: %v", altered, err)
		}
		if err == nil {
			r.same()
		} else if got.Height >= height {
			t.Fatalf("block %d was altered and is kept: %v", height, err)
		}
		if report, err := r.store.Verify(context.Background(), nil); err != nil || report.Err() != nil {
			t.Fatalf("verification: %v, %v", err, report.Err())
		}
	})
}

// alter changes one thing of a block as a peer sends it.
func alter(b *replicav1.FetchBlocksResponse, kind uint8, piece, at int, patch []byte) {
	list := &b.Records
	if kind >= 128 && len(b.RawVectors) > 0 {
		list = &b.RawVectors
	}
	i := piece % len(*list)
	switch kind % 6 {
	case 0:
		if n := len((*list)[i]); n > 0 {
			copy((*list)[i][at%n:], patch)
		}
	case 1:
		*list = slices.Delete(*list, i, i+1)
	case 2:
		*list = slices.Insert(*list, at%(len(*list)+1), (*list)[i])
	case 3:
		j := at % len(*list)
		(*list)[i], (*list)[j] = (*list)[j], (*list)[i]
	case 4:
		*list = slices.Insert(*list, i, patch)
	case 5:
		(*list)[i] = (*list)[i][:at%(len((*list)[i])+1)]
	}
}
