package tlog_test

import (
	"bytes"
	"errors"
	"sync"
	"testing"

	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/tlog"
)

// counting is a verifier that counts what is asked of it, and can say no.
type counting struct {
	asked int
	no    bool
}

func (c *counting) Verify(kind signature.Kind, key signature.Key, message, sig []byte) bool {
	c.asked++
	return !c.no && signature.Verify(kind, key, message, sig)
}

func TestB4_KnownCertificatesAnswerAsFreshOnes(t *testing.T) {
	net, other := newNetwork(t, 4, 3, 5), newNetwork(t, 4, 2, 5)
	text := net.certify(0, 1, 2).Text()
	known := new(tlog.Certificates)
	c, err := known.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	refusing, verifier := &counting{no: true}, new(counting)
	for range 2 { // a refusal is not remembered
		if err := known.Check(refusing, net.policy, c); !errors.Is(err, tlog.ErrNotCertified) {
			t.Errorf("refused signatures: %v", err)
		}
	}
	for range 3 {
		again, err := known.Parse(bytes.Clone(text))
		if err != nil || again != c {
			t.Fatalf("the same text was parsed again: %v", err)
		}
		if err := known.Check(verifier, net.policy, again); err != nil {
			t.Error(err)
		}
	}
	if verifier.asked != 4 {
		t.Errorf("%d signatures computed, want those of one certificate", verifier.asked)
	}
	for range 2 { // accepted by one policy, it still is more than another one's quorum
		if err := known.Check(verifier, other.policy, c); !errors.Is(err, tlog.ErrNotCertified) {
			t.Errorf("another policy: %v", err)
		}
	}
	if err := known.Check(refusing, net.policy, net.certify(0, 1, 2)); !errors.Is(err, tlog.ErrNotCertified) {
		t.Errorf("a certificate that Parse did not give was taken for the known one: %v", err)
	}
	for i := range text {
		for bit := range 8 {
			flipped := bytes.Clone(text)
			flipped[i] ^= 1 << bit
			_, want := tlog.ParseCertificate(flipped)
			changed, err := known.Parse(flipped)
			if (err == nil) != (want == nil) {
				t.Fatalf("bit %d of byte %d flipped: %v, a fresh one says %v", bit, i, err, want)
			}
			if err == nil && known.Check(signature.Direct{}, net.policy, changed) == nil {
				t.Fatalf("bit %d of byte %d flipped: accepted", bit, i)
			}
		}
	}
}

func TestKnownCertificatesAreBounded(t *testing.T) {
	net := newNetwork(t, 4, 3, 5)
	known := new(tlog.Certificates)
	first := net.certify(0, 1, 2)
	c, err := known.Parse(first.Text())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 40 { // as many certificates of as many trees
		net.tree.Append(tlog.LeafHash([]byte{byte(i)}))
		if _, err := known.Parse(net.certify(0, 1, 2).Text()); err != nil {
			t.Fatal(err)
		}
	}
	again, err := known.Parse(first.Text())
	if err != nil || again == c {
		t.Errorf("still known after 40 others: %v", err)
	}
	var none *tlog.Certificates
	one, err := none.Parse(first.Text())
	if err != nil {
		t.Fatal(err)
	}
	verifier := new(counting)
	for range 2 {
		if err := none.Check(verifier, net.policy, one); err != nil {
			t.Error(err)
		}
	}
	if verifier.asked != 8 {
		t.Errorf("nil remembered: %d signatures computed", verifier.asked)
	}
}

func TestKnownCertificatesAreSafeForConcurrentUse(t *testing.T) {
	net := newNetwork(t, 4, 3, 5)
	var texts [][]byte
	for i := range 12 { // more than are known at a time
		net.tree.Append(tlog.LeafHash([]byte{byte(i)}))
		texts = append(texts, net.certify(0, 1, 2).Text())
	}
	known, cache := new(tlog.Certificates), signature.NewCache(1024)
	var group sync.WaitGroup
	for g := range 4 {
		group.Go(func() {
			for i := range 300 {
				c, err := known.Parse(texts[(i+5*g)%len(texts)])
				if err == nil {
					err = known.Check(cache, net.policy, c)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}
