package command

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/cli/internal/founding"
)

func newCertificate(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "certificate",
		Short: "Issue TLS certificates by an organisation's own CA",
		Long: `A node is its TLS key, as the ledger registers it; no date of a certificate is
looked at between nodes. Certificates are for other people's TLS tools.`,
	}, newCertificateIssue(a))
}

func newCertificateIssue(a *app) *cobra.Command {
	var days int
	var until string
	c := a.reading(&cobra.Command{
		Use:   "issue DIR NODE",
		Short: "Replace a node's certificate, for the key that it has",
		Long: `Issues a certificate for the node's TLS key and the hosts of the organisation's
member file, by the CA whose key lies in DIR/ca, and replaces
DIR/nodes/NODE/tls.crt. A running node takes it within ten seconds, without a
restart. Without --days and --until it has no end.`,
		Example: `  lacre certificate issue institute replica-institute
  lacre certificate issue institute replica-institute --days 365`,
		Args: exactly(2),
		RunE: func(_ *cobra.Command, args []string) error {
			from := time.Now()
			var end time.Time
			switch {
			case until != "" && days != 0:
				return usage("--days and --until exclude each other")
			case days < 0:
				return usage("--days is %d, want at least 1", days)
			case days > 0:
				end = from.AddDate(0, 0, days)
			case until != "":
				var err error
				if end, err = time.Parse(time.RFC3339, until); err != nil {
					return usage("--until: %w", err)
				}
				if end.Before(from) {
					a.say("the certificate has expired already: other people's TLS tools will refuse it")
				}
			}
			if from = from.Add(-time.Hour); !end.IsZero() && end.Before(from) {
				from = end.Add(-time.Hour)
			}
			path, err := founding.IssueCertificate(args[0], args[1], from, end)
			if err != nil {
				return err
			}
			v := struct {
				Node        string     `json:"node"`
				Certificate string     `json:"certificate"`
				NotAfter    *time.Time `json:"not_after,omitempty"` // absent without an end
			}{Node: args[1], Certificate: path}
			ends := "without end"
			if !end.IsZero() {
				end = end.UTC().Truncate(time.Second)
				v.NotAfter, ends = &end, "until "+end.Format(time.RFC3339)
			}
			return a.print(v, fmt.Sprintf("%s: certificate of %s, %s\n", path, args[1], ends))
		},
	})
	c.Flags().IntVar(&days, "days", 0, "days that it is valid")
	c.Flags().StringVar(&until, "until", "", "time (RFC 3339) at which it expires")
	return c
}
