package ledger

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	"github.com/lacre-metrology/lacre/services/ledger/internal/tiles"
)

// tile asks a replica's public HTTP side.
func (c *cluster) tile(id, path string) (status int, body []byte) {
	c.t.Helper()
	request, err := http.NewRequestWithContext(c.context(), http.MethodGet, "http://"+c.nodes[id].service.TilesAddr().String()+path, http.NoBody)
	c.must(err)
	response, err := http.DefaultClient.Do(request)
	c.must(err)
	defer response.Body.Close()
	body, err = io.ReadAll(response.Body)
	c.must(err)
	return response.StatusCode, body
}

// Every replica serves the same certified tree, under a checkpoint that a trust
// bundle accepts.
func TestEveryReplicaServesTiles(t *testing.T) {
	c, m := running(t)
	c.measure(four[0], m, 3)
	c.same(four...)
	head := c.mirror.Store.Head()
	var leaves, hashes []byte
	for _, leaf := range c.mirror.Store.Leaves {
		leaves = append(append(leaves, byte(len(leaf)>>8), byte(len(leaf))), leaf...)
		hash := tlog.LeafHash(leaf)
		hashes = append(hashes, hash[:]...)
	}
	for _, id := range four {
		status, text := c.tile(id, "/checkpoint")
		certificate, err := tlog.ParseCertificate(text)
		if err != nil || status != http.StatusOK {
			t.Fatalf("%s: checkpoint: status %d, %v", id, status, err)
		}
		if err := c.trust().Check(signature.Direct{}, certificate); err != nil {
			t.Errorf("%s: %v", id, err)
		}
		if certificate.Checkpoint.Size != head.Size || certificate.Checkpoint.Root != head.Root {
			t.Errorf("%s serves %+v, head is %+v", id, certificate.Checkpoint, head)
		}
		for path, want := range map[string][]byte{
			fmt.Sprintf("/tile/0/000.p/%d", head.Size):       hashes,
			fmt.Sprintf("/tile/entries/000.p/%d", head.Size): leaves,
		} {
			if status, got := c.tile(id, path); status != http.StatusOK || !bytes.Equal(got, want) {
				t.Errorf("%s: %s: status %d with %d bytes, want %d", id, path, status, len(got), len(want))
			}
		}
	}
}

// Two of four replicas stop cosigning: what is applied and not certified is in
// no tile, and the checkpoint stays.
func TestC3_TilesWaitForTheCertificate(t *testing.T) {
	c, m := running(t)
	leader := c.leader(four...)
	c.measure(leader, m, 1)
	c.same(four...)
	before := c.mirror.Store.Head()
	muted := slices.DeleteFunc(slices.Clone(four), func(id string) bool { return id == leader })[:2]
	for _, id := range muted {
		c.nodes[id].service.signer.SignFrom(math.MaxUint64)
	}
	batch := c.mirror.Batch(m.Capture())
	client := c.client(leader, c.gateway)
	answered := make(chan error, 1)
	go func() {
		_, err := client.Submit(c.context(), &ledgerv1.SubmitRequest{Records: batch.Records(), RawVectors: batch.Raw})
		answered <- err
	}()
	service := c.nodes[leader].service
	c.until("the block is applied", func() bool { return service.machine.Head().Block.Height > before.Height })

	for _, path := range []string{"/tile/0/000.p/%d", "/tile/entries/000.p/%d"} {
		if status, _ := c.tile(leader, fmt.Sprintf(path, before.Size)); status != http.StatusOK {
			t.Errorf("%d certified leaves: status %d", before.Size, status)
		}
		if status, body := c.tile(leader, fmt.Sprintf(path, before.Size+1)); status != http.StatusNotFound {
			t.Errorf("an uncertified leaf is served: status %d, %d bytes", status, len(body))
		}
	}
	_, text := c.tile(leader, "/checkpoint")
	if certificate, err := tlog.ParseCertificate(text); err != nil || certificate.Checkpoint.Size != before.Size {
		t.Errorf("the checkpoint is %q (%v), certified are %d leaves", text, err, before.Size)
	}

	for _, id := range muted {
		c.nodes[id].service.signer.SignFrom(0)
	}
	c.must(<-answered)
	if status, _ := c.tile(leader, fmt.Sprintf("/tile/entries/000.p/%d", before.Size+1)); status != http.StatusOK {
		t.Errorf("the certified leaf: status %d", status)
	}
}

// Damage that any read finds ends the tiles too: nothing of that disk is to be
// trusted. What tiles themselves find is in package tiles.
func TestDamagedReplicaServesNoTiles(t *testing.T) {
	c, m := running(t)
	c.measure(four[0], m, 2)
	c.same(four...)
	hurt := c.follower(four...)
	n := c.nodes[hurt]
	if status, _ := c.tile(hurt, "/checkpoint"); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	index, _, err := state.IndexOf(c.mirror.Store, m.ID, 1)
	c.must(err)
	damageVector(t, filepath.Join(n.config.storeDir(), "segments"), c.mirror.Store.Leaves[index])
	key := &ledgerv1.MeasurementKey{MeterId: m.ID, Counter: 1}
	if answer, err := c.public(hurt).GetBundle(c.context(), &ledgerv1.GetBundleRequest{Measurement: key}); reason.Of(err) != reason.DataLoss {
		t.Fatalf("a damaged raw vector is answered with %v, %v", answer, err)
	}
	for _, path := range []string{"/checkpoint", "/tile/0/000.p/1", "/tile/entries/000.p/1"} {
		r := httptest.NewRequestWithContext(c.context(), http.MethodGet, path, http.NoBody)
		w := httptest.NewRecorder()
		tiles.Handler(n.service.tilesConfig()).ServeHTTP(w, r) // the socket may be gone by now
		if w.Code != http.StatusInternalServerError {
			t.Errorf("%s: status %d", path, w.Code)
		}
	}
	err = <-n.ended
	n.stop = nil
	if reason.Of(err) != reason.DataLoss {
		t.Errorf("the replica ends with %v, want %s", err, reason.DataLoss)
	}
}

func TestTilesOverHTTPSTakeARenewedCertificate(t *testing.T) {
	dir := t.TempDir()
	files := &certificateFiles{certificate: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"), log: logger()}
	if _, err := files.get(nil); err == nil {
		t.Error("a missing certificate is no error")
	}
	certificate := func(serial int64, at time.Time) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"replica.example"}}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		private, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		for path, block := range map[string]*pem.Block{files.certificate: {Type: "CERTIFICATE", Bytes: der}, files.key: {Type: "PRIVATE KEY", Bytes: private}} {
			if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chtimes(files.certificate, at, at); err != nil {
			t.Fatal(err)
		}
	}
	serial := func() string {
		got, err := files.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return got.Leaf.SerialNumber.String()
	}
	certificate(1, time.Unix(1000, 0))
	first := serial()
	certificate(2, time.Unix(2000, 0))
	second := serial()
	if err := os.WriteFile(files.key, []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(files.certificate, time.Unix(3000, 0), time.Unix(3000, 0)); err != nil {
		t.Fatal(err)
	}
	if third := serial(); first != "1" || second != "2" || third != "2" {
		t.Errorf("served serials %s, %s, %s; want 1, then the renewed 2, which stays when a file is torn", first, second, third)
	}

	// And in a whole service.
	certificate(4, time.Unix(4000, 0))
	c, _ := running(t)
	c.halt(four[0])
	c.nodes[four[0]].config.Tiles = Tiles{Listen: "127.0.0.1:0", Certificate: files.certificate, Key: files.key}
	c.start(four[0])
	connection, err := tls.Dial("tcp", c.nodes[four[0]].service.TilesAddr().String(), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	if got := connection.ConnectionState().PeerCertificates[0].SerialNumber.String(); got != "4" {
		t.Errorf("serial %s, want 4", got)
	}
}

func TestTilesConfigurationIsChecked(t *testing.T) {
	for name, c := range map[string]Tiles{
		"no port":         {Listen: "127.0.0.1"},
		"only a key":      {Listen: ":0", Key: "key.pem"},
		"only a chain":    {Listen: ":0", Certificate: "cert.pem"},
		"a chain, no one": {Certificate: "cert.pem"},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "tiles.") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (&Tiles{}).Validate(); err != nil {
		t.Errorf("none: %v", err)
	}
}
