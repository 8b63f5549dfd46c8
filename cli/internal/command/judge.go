package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/cli/internal/change"
	"github.com/lacre-metrology/lacre/cli/internal/founding"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/follower"
)

// judging says by what it is judged who may sign a statement: the configuration
// in force on the certified ledger, which takes a connection, or the one that
// founded the network.
type judging struct {
	target
	genesis string
	follow  bool
}

func (j *judging) flags(c *cobra.Command) {
	j.target.flags(c)
	f := c.Flags()
	f.StringVar(&j.genesis, "genesis", "", "file of the network's genesis, which names the keys that may sign (default: the network directory's)")
	f.BoolVar(&j.follow, "follow", false, "judge by the configuration in force: follow the certified ledger, which takes a connection")
}

// judge knows who may sign.
type judge struct {
	config  *state.Config
	certain *follower.Snapshot // of the certified ledger; nil offline
}

// by names the configuration that judges.
func (j *judge) by() string {
	c := j.config
	if n := c.Message.GetHeader().GetSequence(); j.certain == nil && n > 1 {
		return fmt.Sprintf("configuration %d, %s, as \"lacre trust update\" kept it; the ledger judges by the one in force, for which --follow asks", n, c.Digest.Short())
	}
	if j.certain == nil {
		return fmt.Sprintf("the founding configuration %s; the ledger judges by the one in force, for which --follow asks", c.Digest.Short())
	}
	head := j.certain.Head()
	return fmt.Sprintf("configuration %d, %s, in force at the certified block %d of %s", c.Message.GetHeader().GetSequence(), c.Digest.Short(), head.Height,
		time.Unix(0, head.BlockTimeUnixNano).UTC().Format(time.RFC3339))
}

// parties are those who must sign, and who has.
func (j *judge) parties(e *envelope.Envelope) ([]state.Party, error) {
	if j.certain == nil {
		return state.Parties(j.config, e)
	}
	return state.PartiesIn(j.certain, e)
}

// judge is who judges a statement; nil when nothing says who may. The default
// directory counts only if it is of the statement's network.
func (j *judging) judge(ctx context.Context, e *envelope.Envelope) (*judge, error) {
	founded, explicit, err := j.founding()
	if err != nil {
		return nil, err
	}
	known := &judge{config: founded}
	switch {
	case j.follow:
		if founded == nil {
			return nil, usage("--follow needs the network's genesis: --network DIR, or --genesis FILE with --server and --spki")
		}
		if known.certain, err = j.certified(ctx, founded.NetworkID.String()); err != nil {
			return nil, err
		}
		known.config = known.certain.Config()
	case founded == nil:
		return nil, nil
	}
	_, err = known.parties(e)
	why := reason.Of(err)
	switch {
	case err == nil:
		return known, nil
	case why == reason.WrongNetwork && !explicit && !j.follow:
		return nil, nil
	case why == reason.UnknownMeter && !j.follow: // a rollover's old key stands on the ledger alone
		return nil, nil
	case why == reason.InvalidStatement && e.PayloadType == record.TypeNodeRevocation && !j.follow: // and so does whose node it is
		return nil, nil
	}
	return nil, err
}

// founding is what the genesis founds, or the configuration that a trust update
// kept in the network's directory; nil without either.
func (j *judging) founding() (config *state.Config, explicit bool, err error) {
	path, explicit := j.genesis, true
	if path == "" {
		dir := j.dir
		if dir == "" {
			dir, explicit = defaultNetworkDir, false
		}
		kept, err := change.Kept(dir)
		if err != nil {
			return nil, explicit, err
		}
		if kept != nil {
			return kept.InForce(), explicit, nil
		}
		path = filepath.Join(dir, founding.GenesisFile)
	}
	text, err := founding.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !explicit {
		return nil, false, nil
	}
	if err != nil {
		return nil, explicit, err
	}
	genesis := new(recordv1.Genesis)
	if err := record.Decode(text, len(text), genesis); err != nil {
		return nil, explicit, fmt.Errorf("%s is no genesis: %w", path, err)
	}
	if config, err = state.GenesisConfig(genesis); err != nil {
		return nil, explicit, fmt.Errorf("%s: %w", path, err)
	}
	return config, explicit, nil
}
