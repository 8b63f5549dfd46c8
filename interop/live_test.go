package interop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	lacre = "../bin/lacre" // `make build`
	// passes gives more than one full tile.
	passes = 300
	// patience bounds what the network may take; nothing is asserted about it.
	patience = 3 * time.Minute
)

// network runs a real one: the demonstration leaves a ledger of measurements and
// their receipts in a directory, and `lacre dev` goes on with it. It returns the
// directory and the address of each replica's tiles.
func network(t *testing.T) (dir string, replicas map[string]string) {
	t.Helper()
	if _, err := os.Stat(lacre); err != nil {
		t.Fatalf("the binary is needed, run `make build` first: %v", err)
	}
	dir = filepath.Join(t.TempDir(), "network")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	if out, err := exec.CommandContext(ctx, lacre, "demo", "--dir", dir, "--meters", "2", "--passes", fmt.Sprint(passes)).CombinedOutput(); err != nil {
		t.Fatalf("lacre demo: %v\n%s", err, out)
	}
	dev := exec.CommandContext(ctx, lacre, "dev", "--dir", dir)
	var complaints bytes.Buffer
	dev.Stderr = &complaints
	out, err := dev.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := dev.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	ready := false
	for !ready && lines.Scan() {
		ready = strings.HasPrefix(lines.Text(), "ready")
	}
	go func() { _, _ = io.Copy(io.Discard, out) }() // the hints that follow
	t.Cleanup(func() {
		if err := dev.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		if err := dev.Wait(); err != nil {
			t.Errorf("lacre dev ends with %v\n%s", err, complaints.String())
		}
	})
	if !ready {
		t.Fatalf("lacre dev ended before it was ready\n%s", complaints.String())
	}

	b, err := os.ReadFile(filepath.Join(dir, "network.json"))
	if err != nil {
		t.Fatal(err)
	}
	var book struct {
		Nodes []struct {
			ID    string `json:"id"`
			Tiles string `json:"tiles_address"`
		} `json:"nodes"`
	}
	if err := json.Unmarshal(b, &book); err != nil {
		t.Fatal(err)
	}
	replicas = make(map[string]string)
	for _, n := range book.Nodes {
		if n.Tiles != "" {
			replicas[n.ID] = "http://" + n.Tiles + "/"
		}
	}
	if len(replicas) != 4 {
		t.Fatalf("%d replicas serve tiles, want 4: %v", len(replicas), replicas)
	}
	return dir, replicas
}

// view is what another project's client makes of one replica.
type view struct {
	id, base   string
	client     *torchwood.Client
	checkpoint torchwood.Checkpoint
	entries    [][]byte
}

// TestNetworkIsReadByOthers runs a network and reads it over HTTP with
// torchwood's client and sumdb's.
func TestNetworkIsReadByOthers(t *testing.T) {
	dir, replicas := network(t)
	bundle, err := os.ReadFile(filepath.Join(dir, "trust"))
	if err != nil {
		t.Fatal(err)
	}
	policy := lastPolicy(t, bundle)
	logKeys := make(map[string]bool)
	var views []*view
	for id, base := range replicas {
		v := read(t, id, base, policy, logKeys)
		recompute(t, v)
		stranger(t, v)
		views = append(views, v)
	}
	// As a rule each replica's own; one that keeps quiet (rule C7) shows another's.
	t.Logf("%d log keys sign the checkpoints of %d replicas", len(logKeys), len(replicas))
	for _, v := range views[1:] {
		consistent(t, views[0], v)
	}
	receipts(t, dir, policy, views[0])
}

// read fetches and verifies the checkpoint and every entry with torchwood.
func read(t *testing.T, id, base string, policy []byte, logKeys map[string]bool) *view {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	get(t, base+"checkpoint", http.StatusOK) // their client tries a dead address for minutes
	fetcher, err := torchwood.NewTileFetcher(base)
	if err != nil {
		t.Fatal(err)
	}
	text, err := fetcher.ReadEndpoint(ctx, "checkpoint")
	if err != nil {
		t.Fatalf("%s: %v", id, err)
	}
	key := signedBy(t, text)
	logKeys[key] = true
	v := &view{id: id, base: base}
	if v.checkpoint, _, err = torchwood.VerifyCheckpoint(text, parsePolicy(t, oneLog(t, policy, key))); err != nil {
		t.Fatalf("%s: torchwood refuses the checkpoint: %v\n%s", id, err, text)
	}
	if v.client, err = torchwood.NewClient(fetcher); err != nil {
		t.Fatal(err)
	}
	for i, entry := range v.client.AllEntries(ctx, v.checkpoint.Tree, 0) {
		if i != int64(len(v.entries)) {
			t.Fatalf("%s: entry %d after %d", id, i, len(v.entries)-1)
		}
		v.entries = append(v.entries, entry)
	}
	if err := v.client.Err(); err != nil {
		t.Fatalf("%s: %v", id, err)
	}
	if n := int64(len(v.entries)); n != v.checkpoint.N || n < passes {
		t.Fatalf("%s: %d entries, the checkpoint says %d, and %d vehicles passed", id, n, v.checkpoint.N, passes)
	}
	t.Logf("%s: torchwood read %d entries under %s", id, len(v.entries), v.checkpoint.Origin)
	return v
}

// recompute builds the tree anew from the entries alone.
func recompute(t *testing.T, v *view) {
	t.Helper()
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) (out []tlog.Hash, err error) {
		for _, i := range indexes {
			out = append(out, stored[i])
		}
		return out, nil
	})
	for i, entry := range v.entries {
		hashes, err := tlog.StoredHashes(int64(i), entry, reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
	}
	root, err := tlog.TreeHash(int64(len(v.entries)), reader)
	if err != nil || root != v.checkpoint.Hash {
		t.Errorf("%s: the entries have root %v (%v), the checkpoint says %v", v.id, root, err, v.checkpoint.Hash)
	}
	// And each tile of the tree, as sumdb computes it.
	for _, tile := range tlog.NewTiles(torchwood.TileHeight, 0, v.checkpoint.N) {
		want, err := tlog.ReadTileData(tile, reader)
		if err != nil {
			t.Fatal(err)
		}
		if got := get(t, v.base+torchwood.TilePath(tile), http.StatusOK); !bytes.Equal(got, want) {
			t.Errorf("%s: %s has %d bytes, sumdb computes %d others", v.id, torchwood.TilePath(tile), len(got), len(want))
		}
	}
}

// stranger asks for what is not there.
func stranger(t *testing.T, v *view) {
	t.Helper()
	far := v.checkpoint.N/torchwood.TileWidth + 1000
	for _, path := range []string{
		torchwood.TilePath(tlog.Tile{H: 8, L: 0, N: far, W: 256}), torchwood.TilePath(tlog.Tile{H: 8, L: -1, N: far, W: 1}),
		torchwood.TilePath(tlog.Tile{H: 8, L: 3, N: 0, W: 1}), "tile/0/x000/000", "tile/data/000", "index.html",
	} {
		get(t, v.base+path, http.StatusNotFound)
	}
}

func get(t *testing.T, url string, want int) []byte {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != want {
		t.Fatalf("%s: status %d, want %d (%v)", url, response.StatusCode, want, err)
	}
	return body
}

// plainReader is sumdb's view of tiles: paths and bytes, no help from torchwood.
type plainReader struct {
	t    *testing.T
	base string
}

func (r plainReader) Height() int { return 8 }

func (r plainReader) ReadTiles(tiles []tlog.Tile) (data [][]byte, err error) {
	for _, tile := range tiles {
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		data = append(data, get(r.t, r.base+path, http.StatusOK))
	}
	return data, nil
}

func (r plainReader) SaveTiles([]tlog.Tile, [][]byte) {}

// consistent proves, from one replica's tiles and with sumdb's client, that the
// smaller of two replicas' trees is in the larger, and every earlier one too.
func consistent(t *testing.T, a, b *view) {
	t.Helper()
	if a.checkpoint.N > b.checkpoint.N {
		a, b = b, a
	}
	reader := tlog.TileHashReader(b.checkpoint.Tree, plainReader{t, b.base})
	for _, size := range []int64{1, 255, 256, 257, a.checkpoint.N} {
		root := a.checkpoint.Hash
		if size != a.checkpoint.N {
			var err error
			if root, err = tlog.TreeHash(size, tlog.TileHashReader(a.checkpoint.Tree, plainReader{t, a.base})); err != nil {
				t.Fatal(err)
			}
		}
		proof, err := tlog.ProveTree(b.checkpoint.N, size, reader)
		if err != nil {
			t.Fatalf("%s: %v", b.id, err)
		}
		if err := tlog.CheckTree(proof, b.checkpoint.N, b.checkpoint.Hash, size, root); err != nil {
			t.Errorf("tree of %d of %s is not in that of %d of %s: %v", size, a.id, b.checkpoint.N, b.id, err)
		}
	}
}

// receipts verifies what the meters keep, and finds each in the tiles.
func receipts(t *testing.T, dir string, policy []byte, v *view) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "meters", "*", "outbox", "receipts", "*.receipt"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < passes {
		t.Fatalf("%d receipts, %d vehicles passed", len(files), passes)
	}
	for n, file := range files {
		p := proof{name: filepath.Base(file)}
		if p.text, err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
		record, err := torchwood.ProofExtraData(p.text)
		if err != nil {
			t.Fatalf("%s: %v", p.name, err)
		}
		if err := torchwood.VerifyProof(parsePolicy(t, oneLog(t, policy, signedBy(t, p.checkpoint(t)))), tlog.RecordHash(record), p.text); err != nil {
			t.Errorf("%s: torchwood refuses the receipt: %v", p.name, err)
		}
		index := indexOf(t, &p)
		if index >= int64(len(v.entries)) || !bytes.Equal(v.entries[index], record) {
			t.Fatalf("%s: entry %d is not the receipt's record", p.name, index)
		}
		if n%50 != 0 {
			continue // the next asks over HTTP each time
		}
		entry, path, err := v.client.Entry(t.Context(), v.checkpoint.Tree, index)
		if err != nil || !bytes.Equal(entry, record) {
			t.Fatalf("%s: entry %d over HTTP: %v", p.name, index, err)
		}
		if err := tlog.CheckRecord(path, v.checkpoint.N, v.checkpoint.Hash, index, tlog.RecordHash(record)); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
	}
	t.Logf("torchwood verified %d receipts, and each is an entry of %s", len(files), v.id)
}
