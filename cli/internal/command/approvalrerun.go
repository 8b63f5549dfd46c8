package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/lacre-metrology/lacre/algorithms/campaign"
	"github.com/lacre-metrology/lacre/cli/internal/progress"
	"github.com/lacre-metrology/lacre/core/receipt"
)

// approvedTest is what is read of a type test's report. Figures are compared as
// bytes: the report's types are for writing.
type approvedTest struct {
	Module   string            `json:"module_sha256"`
	Held     bool              `json:"held"`
	Criteria []json.RawMessage `json:"criteria"`
	Campaign struct {
		Config json.RawMessage `json:"config"`
		Grids  json.RawMessage `json:"grids"`
	} `json:"campaign"`
	seed   uint64
	passes int // in each cell of the first grid
}

func readTestReport(text []byte) (*approvedTest, error) {
	t := new(approvedTest)
	if err := json.Unmarshal(text, t); err != nil {
		return nil, err
	}
	var c struct {
		Seed  uint64 `json:"seed"`
		Grids []struct {
			Passes int `json:"passes_per_cell"`
		} `json:"grids"`
	}
	if err := json.Unmarshal(t.Campaign.Config, &c); err != nil {
		return nil, fmt.Errorf("its configuration: %w", err)
	}
	if len(c.Grids) == 0 || t.Campaign.Grids == nil {
		return nil, errors.New("it has no figures")
	}
	t.seed, t.passes = c.Seed, c.Grids[0].Passes
	return t, nil
}

// maxSmallPasses bounds what --rerun runs without --full.
const maxSmallPasses = 20

// rerunTypeTest runs the campaign again with the report's seed.
func (a *app) rerunTypeTest(ctx context.Context, v *approvalVerify, r *verification, approved *approvedTest, module []byte) (err error) {
	m := moduleTest{full: v.full, passes: 2, seed: approved.seed}
	if approved.passes >= 1 && approved.passes <= maxSmallPasses {
		m.passes = approved.passes
	}
	c, err := m.config()
	if err != nil {
		return err
	}
	bench, err := newModuleBench(ctx, module, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bench.close(context.WithoutCancel(ctx))) }()
	bar := progress.New(a.err, "passes")
	defer bar.Stop()
	again, err := campaign.Run(ctx, c, bench.measure, campaign.Options{Workers: v.workers, Progress: bar.Set})
	if err != nil {
		return err
	}
	bar.Stop()
	return judgeRerun(r, approved, again)
}

// judgeRerun compares the figures, or where the campaigns differ judges the
// criteria alone.
func judgeRerun(r *verification, approved *approvedTest, again campaign.Report) error {
	const name = "type test again"
	if criteria, held := campaign.Judge(again); !held {
		r.add(name, receipt.Refuted, "not all of %d criteria hold", len(criteria))
		return nil
	}
	same, err := equalJSON(approved.Campaign.Config, again.Config)
	if err != nil {
		return err
	}
	if !same {
		r.add(name, receipt.Undecidable, "all criteria hold, but in another campaign than the report's, whose figures were not compared; try --full, or the version that made the report")
		return nil
	}
	if same, err = equalJSON(approved.Campaign.Grids, again.Grids); err != nil {
		return err
	}
	if !same {
		r.add(name, receipt.Refuted, "the same campaign gives other figures than the report has")
		return nil
	}
	r.add(name, receipt.Verified, "all criteria hold, and every figure is the report's")
	return nil
}

// equalJSON reports whether a value is written as these bytes, white space aside.
func equalJSON(written json.RawMessage, value any) (bool, error) {
	var compact bytes.Buffer
	if err := json.Compact(&compact, written); err != nil {
		return false, err
	}
	again, err := json.Marshal(value)
	return bytes.Equal(compact.Bytes(), again), err
}
