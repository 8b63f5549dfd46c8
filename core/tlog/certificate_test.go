package tlog_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/tlog"
)

func TestCertificateParsesAndVerifies(t *testing.T) {
	net := newNetwork(t, 4, 3, 5)
	for _, replicas := range [][]int{{0, 1, 2}, {3, 2, 1}, {2, 0, 3}} {
		certificate := net.certify(replicas...)
		back, err := tlog.ParseCertificate(certificate.Text())
		if err != nil || !bytes.Equal(back.Text(), certificate.Text()) {
			t.Fatal(err)
		}
		if err := net.policy.Check(signature.Direct{}, back); err != nil {
			t.Error(err)
		}
		if back.MedianTime() != certificate.MedianTime() {
			t.Error("the median changed on the way")
		}
	}
}

func TestB2_CertificateHasOneForm(t *testing.T) {
	net := newNetwork(t, 4, 3, 5)
	text := string(net.certify(0, 1, 2).Text())
	body, signatures, _ := strings.Cut(text, "\n\n")
	lines := strings.Split(strings.TrimSuffix(signatures, "\n"), "\n")
	join := func(lines ...string) string { return body + "\n\n" + strings.Join(lines, "\n") + "\n" }
	if join(lines...) != text {
		t.Fatal("the test takes certificates apart wrongly")
	}
	otherLog, err := tlog.SignLog(net.logs[1], net.checkpoint())
	if err != nil {
		t.Fatal(err)
	}
	strange, err := tlog.SignLog(net.logs[0], tlog.Checkpoint{Origin: "other.example/0", Size: 5, Root: net.checkpoint().Root})
	if err != nil {
		t.Fatal(err)
	}
	many := []string{lines[0]}
	for i := range tlog.MaxCosignatures + 1 {
		many = append(many, strings.Replace(lines[1], "replica0", fmt.Sprintf("replica%03d", i), 1))
	}
	for name, bad := range map[string]string{
		"empty":                 "",
		"checkpoint alone":      body + "\n",
		"no signature":          body + "\n\n",
		"log signature alone":   join(lines[0]),
		"no log signature":      join(lines[1:]...),
		"two log signatures":    join(lines[0], otherLog.Line(), lines[1], lines[2], lines[3]),
		"log of another name":   join(strange.Line(), lines[1], lines[2], lines[3]),
		"log signature last":    join(lines[1], lines[2], lines[3], lines[0]),
		"not sorted":            join(lines[0], lines[2], lines[1], lines[3]),
		"one twice":             join(lines[0], lines[1], lines[1], lines[2], lines[3]),
		"unknown line":          join(lines[0], lines[1], lines[2], lines[3], "— x AAAA"),
		"empty line between":    join(lines[0], "", lines[1], lines[2], lines[3]),
		"extra newline":         text + "\n",
		"missing newline":       strings.TrimSuffix(text, "\n"),
		"carriage returns":      strings.ReplaceAll(text, "\n", "\r\n"),
		"extension line":        body + "\nextension\n\n" + signatures,
		"too many cosignatures": join(many...),
		"too long":              text + strings.Repeat("x", tlog.MaxCertificateSize),
	} {
		c, err := tlog.ParseCertificate([]byte(bad))
		if !errors.Is(err, tlog.ErrMalformed) || c != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLargestCertificateFits(t *testing.T) {
	origin := strings.Repeat("o", tlog.MaxNameSize)
	c := tlog.Checkpoint{Origin: origin, Size: tlog.MaxTreeSize, Root: tlog.LeafHash(nil)}
	log, err := tlog.SignLog(signer("log"), c)
	if err != nil {
		t.Fatal(err)
	}
	var cosignatures []tlog.Cosignature
	for i := range tlog.MaxCosignatures {
		s, err := tlog.Cosign(signer("r"), fmt.Sprintf("%0*d", tlog.MaxNameSize, i), c, math.MaxInt64)
		if err != nil {
			t.Fatal(err)
		}
		cosignatures = append(cosignatures, s)
	}
	slices.Reverse(cosignatures)
	certificate, err := tlog.NewCertificate(c, log, cosignatures)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tlog.ParseCertificate(certificate.Text()); err != nil {
		t.Error(err)
	}
}

func TestC4_MedianOfHonestMajorityIsBoundedByHonestClocks(t *testing.T) {
	const low, high = 1_700_000_000, 1_700_000_010 // the honest clocks
	lies := []uint64{1, low - 1, low + 5, high + 1, math.MaxInt64}
	for faults := range 4 {
		q := 2*faults + 1
		for choice := range pow(len(lies), faults) {
			for spread := range 3 {
				stamps := make([]uint64, 0, q)
				for f, rest := 0, choice; f < faults; f, rest = f+1, rest/len(lies) {
					stamps = append(stamps, lies[rest%len(lies)])
				}
				for h := range q - faults {
					honest := []uint64{low, high, low + uint64(h)}[spread]
					stamps = append(stamps, honest)
				}
				c := &tlog.Certificate{}
				for _, s := range stamps {
					c.Cosignatures = append(c.Cosignatures, tlog.Cosignature{TimestampUnix: s})
				}
				if m := c.MedianTime(); m < low || m > high {
					t.Errorf("stamps %v (%d lie): median %d outside %d..%d", stamps, faults, m, low, high)
				}
			}
		}
	}
}

func pow(base, exponent int) int {
	n := 1
	for range exponent {
		n *= base
	}
	return n
}

func TestC4_LowerMedian(t *testing.T) {
	for _, c := range []struct {
		stamps []uint64
		want   uint64
	}{
		{nil, 0}, {[]uint64{7}, 7}, {[]uint64{9, 7}, 7}, {[]uint64{9, 8, 7}, 8}, {[]uint64{4, 1, 3, 2}, 2}, {[]uint64{5, 5, 1, 9, 9}, 5},
	} {
		certificate := &tlog.Certificate{}
		for _, s := range c.stamps {
			certificate.Cosignatures = append(certificate.Cosignatures, tlog.Cosignature{TimestampUnix: s})
		}
		if got := certificate.MedianTime(); got != c.want {
			t.Errorf("median of %v = %d, want %d", c.stamps, got, c.want)
		}
		for i, s := range certificate.Cosignatures {
			if s.TimestampUnix != c.stamps[i] {
				t.Error("MedianTime reordered the certificate")
			}
		}
	}
}

func FuzzParseCertificate(f *testing.F) {
	net := newNetwork(f, 4, 3, 5)
	f.Add(net.certify(0, 1, 2).Text())
	f.Add([]byte(c2spBody + "\n" + c2spCosignature + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := tlog.ParseCertificate(text)
		if err != nil {
			return
		}
		if !bytes.Equal(c.Text(), text) {
			t.Errorf("%q came back as %q", text, c.Text())
		}
		again, err := tlog.NewCertificate(c.Checkpoint, c.Log, c.Cosignatures)
		if err != nil || !bytes.Equal(again.Text(), text) {
			t.Errorf("%q is read but not written: %v", text, err)
		}
	})
}
