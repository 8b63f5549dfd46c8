package command

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/meter/conformance"
)

func newMeterConformance(a *app) *cobra.Command {
	var vectors bool
	var challenge string
	c := a.reading(&cobra.Command{
		Use:   "conformance FILE|DIR...",
		Short: "Check samples that somebody else's firmware signed",
		Long: `Checks signed samples as the ledger and the endorsers would, and names every
check. A file holds one meter's samples from its first counter, as JSON in the
form of core/testdata/meter.json: network_id, meter_id, first_counter, channels,
sample_rate_millihertz and public_key (tagged), and of each sample header,
signature and raw_vector, bytes as hexadecimal. What the firmware was given
(values, captured_at_unix_nano, ..) is compared where it is told. Of a directory
all files *.json are taken, each a meter of its own.

--challenge writes the inputs of the built-in vectors, to be filled in; --vectors
then checks that the samples are what these inputs give. With the seed in the
challenge an Ed25519 meter gives equal signatures. A meter with a key of its own
puts its public key in; P-256 signatures are verified, 64 bytes, low S.

A check that lacks what it needs is "not checked". The exit code is 0 if all
hold, 1 if one failed, 2 if one that matters could not be made.`,
		Example: `  lacre meter conformance --challenge challenge.json
  lacre meter conformance answer.json --vectors
  lacre meter conformance samples/ --json`,
		Args: func(c *cobra.Command, args []string) error {
			if challenge != "" {
				return exactly(0)(c, args)
			}
			if len(args) == 0 {
				return usage("%q needs a file or a directory; usage: %s", c.CommandPath(), c.UseLine())
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if challenge != "" {
				text, err := conformance.Challenge()
				if err != nil {
					return err
				}
				return a.writeFile(challenge, text)
			}
			return a.runConformance(args, vectors)
		},
	})
	c.Flags().BoolVar(&vectors, "vectors", false, "the samples answer the challenge: compare with the built-in vectors")
	c.Flags().StringVar(&challenge, "challenge", "", "write the challenge to this file, and check nothing")
	c.MarkFlagsMutuallyExclusive("vectors", "challenge")
	return c
}

// conformity is the outcome for one file.
type conformity struct {
	File string `json:"file"`
	*conformance.Report
}

func (a *app) runConformance(args []string, vectors bool) error {
	files, err := submissions(args)
	if err != nil {
		return err
	}
	judge := conformance.Judge
	if vectors {
		judge = conformance.JudgeVectors
	}
	outcomes := make([]conformity, len(files))
	var text strings.Builder
	code := ExitOK
	for i, file := range files {
		submission, err := readSubmission(file)
		var path *fs.PathError
		if errors.As(err, &path) {
			return err
		}
		if err != nil {
			return fmt.Errorf("%s: %w; \"lacre meter conformance --challenge FILE\" writes an example", file, err)
		}
		outcomes[i] = conformity{file, judge(submission)}
		fmt.Fprintf(&text, "%s\n%s", file, outcomes[i].Report)
		switch outcomes[i].Verdict {
		case conformance.Failed:
			code = ExitRefuted
		case conformance.NotChecked:
			if code == ExitOK {
				code = ExitUndecidable
			}
		case conformance.OK:
		}
	}
	if err := a.print(outcomes, text.String()); err != nil {
		return err
	}
	return exit(code)
}

func readSubmission(file string) (*conformance.Submission, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from.
	return conformance.Read(f)
}

// submissions are the files meant: each argument itself, or what lies in it.
func submissions(args []string) (files []string, err error) {
	for _, arg := range args {
		info, err := os.Stat(arg)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			files = append(files, arg)
			continue
		}
		inside, err := filepath.Glob(filepath.Join(arg, "*.json"))
		if err != nil {
			return nil, err
		}
		slices.Sort(inside)
		files = append(files, inside...)
	}
	if len(files) == 0 {
		return nil, errors.New("no *.json in " + strings.Join(args, ", "))
	}
	return files, nil
}
