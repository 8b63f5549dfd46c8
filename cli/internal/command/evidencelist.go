package command

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	evidencev1 "github.com/lacre-metrology/lacre/gen/lacre/evidence/v1"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// listedEvidence is a piece that a measurement on the ledger names.
type listedEvidence struct {
	Counter   uint64        `json:"counter"`
	Digest    digest.Digest `json:"digest"`
	Size      uint64        `json:"size"`
	MediaType string        `json:"media_type"`
	Standing  string        `json:"standing"` // kept, absent or erased
}

func newEvidenceList(a *app) *cobra.Command {
	var t target
	c := a.reading(&cobra.Command{
		Use:   "list METER",
		Short: "List the evidence that a meter's measurements name, and whether it is kept",
		Long: `Reads the meter's measurements from a replica and asks the gateway which of the
pieces that they name it keeps. A piece that is named and neither kept nor erased
is absent: not uploaded yet, or lost.

Exit code: 0 nothing is absent, 1 something is.`,
		Example: `  lacre evidence list my-meter`,
		Args:    exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			list, err := namedEvidence(c.Context(), &t, args[0])
			if err != nil {
				return err
			}
			absent, err := standings(c.Context(), &t, list)
			if err != nil {
				return err
			}
			var b strings.Builder
			for _, e := range list {
				fmt.Fprintf(&b, "%8d  %s  %-7s %9d  %s\n", e.Counter, e.Digest, e.Standing, e.Size, e.MediaType)
			}
			fmt.Fprintf(&b, "%d pieces named, %d absent\n", len(list), absent)
			if err := a.print(list, b.String()); err != nil || absent == 0 {
				return err
			}
			return exit(ExitRefuted)
		},
	})
	t.flags(c)
	return c
}

// namedEvidence is what the measurements of a meter name, as a replica lists them.
func namedEvidence(ctx context.Context, t *target, meter string) (list []listedEvidence, err error) {
	list = []listedEvidence{} // an empty list in JSON
	err = (&target{dir: t.dir}).call(ctx, recordv1.Role_ROLE_REPLICA, func(ctx context.Context, c grpc.ClientConnInterface) error {
		client := ledgerv1.NewLedgerServiceClient(c)
		request := &ledgerv1.ListMeasurementsRequest{MeterId: meter, PageSize: 1000}
		for {
			page, err := client.ListMeasurements(ctx, request)
			if err != nil {
				return err
			}
			for _, m := range page.GetMeasurements() {
				r, err := record.Parse(m.GetRecord())
				if err != nil {
					return err
				}
				s, err := sample.Parse(r.GetMeasurement().GetHeader())
				if err != nil {
					return err
				}
				for _, e := range s.Evidence {
					list = append(list, listedEvidence{Counter: s.Counter, Digest: e.Digest, Size: e.Size, MediaType: e.MediaType})
				}
			}
			if request.PageToken = page.GetNextPageToken(); request.GetPageToken() == "" {
				return nil
			}
		}
	})
	return list, err
}

// standings asks the gateway, 256 at a time, and counts what is absent.
func standings(ctx context.Context, t *target, list []listedEvidence) (absent int, err error) {
	err = t.callGateway(ctx, nil, func(ctx context.Context, client evidencev1.EvidenceServiceClient) error {
		for from := 0; from < len(list); from += 256 {
			part := list[from:min(from+256, len(list))]
			request := new(evidencev1.StatRequest)
			for _, e := range part {
				request.Digests = append(request.Digests, e.Digest.Bytes())
			}
			response, err := client.Stat(ctx, request)
			if err != nil {
				return err
			}
			if have := len(response.GetStandings()); have != len(part) {
				return fmt.Errorf("%d standings for %d pieces", have, len(part))
			}
			for i, s := range response.GetStandings() {
				part[i].Standing = strings.ToLower(strings.TrimPrefix(s.String(), "STANDING_"))
				if s == evidencev1.Standing_STANDING_ABSENT {
					absent++
				}
			}
		}
		return nil
	})
	return absent, err
}
