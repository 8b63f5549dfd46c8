package command

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/core/trust"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

func newTrust(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "trust",
		Short: "The trust bundle: all that a verifier must be given beforehand",
	}, newTrustShow(a), newTrustUpdate(a))
}

// shownTrust is a trust bundle for people and programs.
type shownTrust struct {
	Origin string       `json:"origin"`
	Digest string       `json:"digest"` // what people compare and pin
	Epochs []shownEpoch `json:"epochs"` // oldest first
}

type shownEpoch struct {
	LastSize uint64   `json:"last_size"` // the last tree size that it certifies; 0 while it is open
	Logs     []string `json:"logs"`
	Replicas []string `json:"replicas"`
	Quorum   string   `json:"quorum"`
}

func newTrustShow(a *app) *cobra.Command {
	var t target
	var f trustFlags
	var out string
	c := a.reading(&cobra.Command{
		Use:   "show",
		Short: "Show a trust bundle: of a file, a network directory, or a replica",
		Long: `Shows who certifies, and the digest by which the trust bundle is pinned. With
--trust it reads a file; with --server it asks a replica, which proves nothing:
compare the digest with one that you got in another way.`,
		Example: `  lacre trust show
  lacre trust show --trust trust
  lacre trust show --server 127.0.0.1:4000 --spki HEX --pin DIGEST --out trust`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			bundle, err := fetchTrust(c.Context(), &t, &f)
			if err != nil {
				return err
			}
			if out != "" {
				if err := a.writeFile(out, bundle.Bytes()); err != nil {
					return err
				}
			}
			s := describeTrust(bundle)
			return a.print(s, s.text())
		},
	})
	t.flags(c)
	f.flags(c)
	c.Flags().StringVar(&out, "out", "", "file to keep the bundle in")
	return c
}

func fetchTrust(ctx context.Context, t *target, f *trustFlags) (bundle *trust.Bundle, err error) {
	if f.file != "" || t.server == "" {
		n, err := t.network()
		if err != nil {
			return nil, err
		}
		bundle, err := f.read(n)
		if err == nil && bundle == nil {
			err = usage("no trust bundle: give --trust FILE, --network DIR, or --server HOST:PORT with --spki HEX")
		}
		return bundle, err
	}
	err = t.call(ctx, recordv1.Role_ROLE_REPLICA, func(ctx context.Context, c grpc.ClientConnInterface) error {
		response, err := ledgerv1.NewLedgerServiceClient(c).GetTrust(ctx, &ledgerv1.GetTrustRequest{})
		if err != nil {
			return err
		}
		if bundle, err = trust.Parse(response.GetTrust()); err != nil {
			return err
		}
		return f.check(bundle)
	})
	return bundle, err
}

func describeTrust(bundle *trust.Bundle) shownTrust {
	s := shownTrust{Origin: bundle.Origin(), Digest: bundle.Digest().String()}
	for _, e := range bundle.Epochs() {
		shown := shownEpoch{LastSize: e.LastSize, Quorum: e.Policy.Quorum}
		for _, k := range e.Policy.Logs {
			shown.Logs = append(shown.Logs, k.String())
		}
		for _, w := range e.Policy.Witnesses {
			shown.Replicas = append(shown.Replicas, w.Key.String())
		}
		for _, g := range e.Policy.Groups {
			if g.Name == e.Policy.Quorum {
				shown.Quorum = fmt.Sprintf("%s of %d %s", g.Threshold, len(g.Members), g.Name)
			}
		}
		s.Epochs = append(s.Epochs, shown)
	}
	return s
}

func (s shownTrust) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "origin   %s\ndigest   %s\n", s.Origin, s.Digest)
	for i, e := range s.Epochs {
		until := "open"
		if e.LastSize > 0 {
			until = fmt.Sprintf("until tree size %d", e.LastSize)
		}
		fmt.Fprintf(&b, "epoch %d  %s, quorum %s\n", i, until, e.Quorum)
		for _, r := range e.Replicas {
			fmt.Fprintf(&b, "  replica  %s\n", r)
		}
		for _, l := range e.Logs {
			fmt.Fprintf(&b, "  log key  %s\n", l)
		}
	}
	return b.String()
}
