package command

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
)

// today is how a receipt's meter stands now, by a ledger that was followed from
// the genesis block under its certificates: what no file can know.
type today struct {
	Standing        string           `json:"standing"` // for a capture at At
	At              string           `json:"at"`       // this machine's clock
	CertifiedHeight uint64           `json:"certified_height"`
	AsOf            string           `json:"as_of"` // median time of that block's certificate
	Later           []shownStatement `json:"later"` // on the meter, after the receipt's checkpoint
}

// todayFlags say whether a replica is asked, and which.
type todayFlags struct {
	target
	ask bool
}

func (t *todayFlags) flags(c *cobra.Command) {
	c.Flags().BoolVar(&t.ask, "today", false, "also follow the ledger of a replica, and say how the meter stands today")
	t.target.flags(c)
}

// of asks for a receipt that was verified.
func (t *todayFlags) of(ctx context.Context, r *receipt.Receipt) (*today, error) {
	l, err := t.meterLife(ctx, r.Sample.NetworkID.String(), r.Sample.MeterID)
	if err != nil {
		return nil, err
	}
	head, size := l.snapshot.Head(), r.Proof.Certificate.Checkpoint.Size
	if head.Size < size {
		return nil, fmt.Errorf("the replica's ledger has %d certified leaves, the receipt's checkpoint %d: it is behind; ask another with --server", head.Size, size)
	}
	certificate, err := tlog.ParseCertificate(l.snapshot.Certificate())
	if err != nil {
		return nil, err
	}
	at := now()
	asOf := max(head.BlockTimeUnixNano, int64(min(certificate.MedianTime(), 1<<33))*int64(time.Second))
	v := &today{Standing: string(state.MeterStandingAt(l.meter, at.UnixNano())), At: timeOf(at.UnixNano()),
		CertifiedHeight: head.Height, AsOf: timeOf(asOf), Later: []shownStatement{}}
	statements, err := l.statements(ctx, &t.target)
	if err != nil {
		return nil, err
	}
	for _, st := range statements {
		if st.Index >= size {
			v.Later = append(v.Later, st)
		}
	}
	return v, nil
}

func (t *today) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\ntoday       the meter is %s for a capture at %s, by block %d, certified as of %s\n", t.Standing, t.At, t.CertifiedHeight, t.AsOf)
	if len(t.Later) == 0 {
		b.WriteString("            no statement on it came after the checkpoint\n")
	}
	for _, st := range t.Later {
		fmt.Fprintf(&b, "            after the checkpoint, record %d, by %s: %s\n", st.Index, strings.Join(st.Signers, " and "), st.Effect)
	}
	return b.String()
}
