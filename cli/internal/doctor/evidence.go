package doctor

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	evidencev1 "github.com/lacre-metrology/lacre/gen/lacre/evidence/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/follower"
)

const (
	storeRemedy = "let the user that runs the gateway own the directory (mode 0700), or correct evidence.store"
	statsAtOnce = 256 // pieces in a question to a gateway
)

// localEvidence looks at a gateway's directory of evidence. A bucket is the
// gateway's alone: its driver and credentials are not here, and the gateway does
// not start without it.
func (x *examination) localEvidence(n *node) {
	switch {
	case n.evidence == "":
		return
	case strings.Contains(n.evidence, "://"):
		location, _, _ := strings.Cut(n.evidence, "?")
		x.add(n.ID, "evidence", Skipped, "", "%s is a bucket, which the gateway itself looks at when it starts", location)
		return
	}
	info, err := os.Stat(n.evidence)
	switch {
	case errors.Is(err, os.ErrNotExist):
		x.add(n.ID, "evidence", Warn, "start the gateway, which makes it; if it was there before, restore it: what it held is lost otherwise", "%s is not there", n.evidence)
		return
	case err == nil && !info.IsDir():
		err = errors.New(n.evidence + " is no directory")
	case err == nil:
		err = unix.Access(n.evidence, unix.R_OK|unix.W_OK|unix.X_OK)
	}
	if !x.judge(n.ID, "evidence", err, storeRemedy, "%s is there, readable and writable", n.evidence) {
		return
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(n.evidence, &fs); err != nil {
		x.add(n.ID, "evidence_disk", Skipped, "", "free space of %s: %v", n.evidence, err)
		return
	}
	free, total := fs.Bavail*uint64(fs.Bsize), fs.Blocks*uint64(fs.Bsize) // as of a replica's disk
	level := OK
	if free < warnFreeBytes || free < total/20 {
		level = Warn
	}
	x.add(n.ID, "evidence_disk", level, "give the store more room: a gateway whose store is full refuses evidence, and meters keep theirs until they are full too", "%.1f GB of %.1f GB are free at %s", float64(free)/1e9, float64(total)/1e9, n.evidence)
}

// namedPiece is a piece of evidence and a measurement that names it.
type namedPiece struct {
	piece   digest.Digest
	meter   string
	counter uint64
}

// keepsEvidence reports whether some gateway does, as far as the files say; where
// only addresses are known, any may.
func (x *examination) keepsEvidence(contacts []*contact) bool {
	known := false
	for _, n := range x.nodes {
		if n.Role == recordv1.Role_ROLE_GATEWAY {
			known = true
			if n.evidence != "" {
				return true
			}
		}
	}
	for _, c := range contacts {
		if c.Role == recordv1.Role_ROLE_GATEWAY && !known {
			return true
		}
	}
	return false
}

// namedPieces reads every record up to the snapshot's head.
func namedPieces(ctx context.Context, f *follower.Follower, snapshot *follower.Snapshot) ([]namedPiece, error) {
	var list []namedPiece
	seen := make(map[digest.Digest]bool)
	err := f.Records(ctx, snapshot, func(leaf []byte) error {
		r, err := record.Parse(leaf)
		if err != nil || r.GetMeasurement() == nil {
			return err
		}
		s, err := sample.Parse(r.GetMeasurement().GetHeader())
		if err != nil {
			return err
		}
		for _, e := range s.Evidence {
			if !seen[e.Digest] {
				seen[e.Digest] = true
				list = append(list, namedPiece{e.Digest, s.MeterID, s.Counter})
			}
		}
		return nil
	})
	return list, err
}

// evidence asks the gateways for the pieces that certified measurements name.
func (x *examination) evidence(ctx context.Context, contacts []*contact) {
	if !x.keepsEvidence(contacts) {
		return
	}
	if x.unread != nil {
		x.add(networkNode, "evidence", Skipped, "", "the ledger's records were not all read: %v", x.unread)
		return
	}
	left, asked, silent := x.named, 0, 0
	for _, c := range contacts {
		if c.Role != recordv1.Role_ROLE_GATEWAY || c.connection == nil {
			continue
		}
		absent, err := x.absent(ctx, evidencev1.NewEvidenceServiceClient(c.connection), left)
		switch {
		case status.Code(err) == codes.Unimplemented: // it keeps none
		case err != nil:
			silent++
			x.add(c.ID, "evidence", Skipped, "", "which evidence it keeps: %v", err)
		default:
			asked++
			left = absent
		}
	}
	total := len(x.named)
	switch {
	case total == 0:
		x.add(networkNode, "evidence", OK, "", "no certified measurement names any")
	case asked == 0 || silent > 0 && len(left) > 0:
		x.add(networkNode, "evidence", Skipped, "", "%d pieces are named; %d gateways answered and %d did not", total, asked, silent)
	case len(left) > 0:
		x.add(networkNode, "evidence", Warn, "`lacre evidence list METER` names them: a meter that still has a piece sends it when it is connected; what was lost, restore from a copy of the store",
			"%d of %d pieces that certified measurements name are neither kept nor erased, such as that of counter %d of meter %s", len(left), total, left[0].counter, left[0].meter)
	default:
		x.add(networkNode, "evidence", OK, "", "all %d pieces that certified measurements name are kept, or were erased by order", total)
	}
}

// absent are the pieces of a list that a gateway neither keeps nor knows erased.
func (x *examination) absent(ctx context.Context, client evidencev1.EvidenceServiceClient, list []namedPiece) ([]namedPiece, error) {
	var absent []namedPiece
	for from := 0; from == 0 || from < len(list); from += statsAtOnce { // once for an empty list: does it keep any?
		part := list[from:min(from+statsAtOnce, len(list))]
		request := new(evidencev1.StatRequest)
		for _, p := range part {
			request.Digests = append(request.Digests, p.piece.Bytes())
		}
		asking, cancel := context.WithTimeout(ctx, x.Timeout)
		response, err := client.Stat(asking, request)
		cancel()
		if err != nil {
			return nil, err
		}
		if len(response.GetStandings()) != len(part) {
			return nil, errors.New("it answered for another number of pieces than it was asked for")
		}
		for i, s := range response.GetStandings() {
			if s == evidencev1.Standing_STANDING_ABSENT {
				absent = append(absent, part[i])
			}
		}
	}
	return absent, nil
}
