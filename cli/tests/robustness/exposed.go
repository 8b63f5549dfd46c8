package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
)

// good are the replicas that did not stop with DATA_LOSS.
func (n *network) good() []string {
	return slices.DeleteFunc(n.replicas(), func(id string) bool {
		p := n.processes[id]
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.held
	})
}

// exposed checks that the liar's lies were found out where they can be: a replica
// that was given other entries stops with DATA_LOSS, and a double signer is named
// with two signatures that verify and exclude each other.
func (n *network) exposed(ctx context.Context, s *striker, r *result) error {
	if s.liar == "" {
		return nil
	}
	if lineupOf(r.Seed) == mixed || n.processes[s.liar].isLost() {
		// Its counts died with a process, and what it said may have reached nobody.
		// Who was misled stops when it learns of it; nobody else is named.
		if misled := s.doomed(); misled != "" && !slices.Contains(n.good(), misled) {
			r.Misled = misled
		}
		var err error
		r.DoubleSigner, err = n.named(s.liar)
		return err
	}
	equivocated, err := n.processes[s.liar].ask("count equivocate")
	doubled, err2 := n.processes[s.liar].ask("count double-sign")
	if err := errors.Join(err, err2); err != nil {
		return fmt.Errorf("the liar %s does not say how often it lied: %w", s.liar, err)
	}
	if misled := s.doomed(); equivocated > 0 && misled != "" {
		r.Misled = misled
		for slices.Contains(n.good(), misled) {
			if wait(ctx, 100*time.Millisecond) != nil {
				return fmt.Errorf("UNNOTICED: %s was given other entries than the rest, %d times, and goes on", misled, equivocated)
			}
		}
	}
	if doubled == 0 {
		return nil
	}
	for {
		if r.DoubleSigner, err = n.named(s.liar); err != nil || r.DoubleSigner != "" {
			return err
		}
		if wait(ctx, 200*time.Millisecond) != nil {
			return fmt.Errorf("UNNOTICED: %s signed two trees, %d times, and nobody names it", s.liar, doubled)
		}
	}
}

// evidence is what a replica logs of a double signer.
type evidence struct {
	Message          string `json:"msg"`
	Cosigner         string `json:"cosigner"`
	Checkpoint       string `json:"checkpoint"`
	Cosignature      string `json:"cosignature"`
	OtherCheckpoint  string `json:"other_checkpoint"`
	OtherCosignature string `json:"other_cosignature"`
}

// named looks through the replicas' logs for evidence against a double signer and
// verifies it; anybody else who is named is an error.
func (n *network) named(liar string) (string, error) {
	found := ""
	for _, id := range n.replicas() {
		f, err := os.Open(n.logPath(id))
		if err != nil {
			return "", err
		}
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var e evidence
			if json.Unmarshal(lines.Bytes(), &e) != nil || e.Message != "a replica signed two histories" {
				continue // a line of another kind, or one that a kill cut short
			}
			who, err := n.verifyEvidence(e)
			if err != nil {
				return "", errors.Join(fmt.Errorf("the evidence of %s against %s: %w", id, e.Cosigner, err), f.Close())
			}
			if who != liar {
				return "", errors.Join(fmt.Errorf("FRAMED: %s names %s, the liar is %s", id, who, liar), f.Close())
			}
			found = who
		}
		if err := f.Close(); err != nil {
			return "", err
		}
	}
	return found, nil
}

// verifyEvidence checks both signatures with the key that the trust bundle has,
// and that they can exclude each other; where the sizes differ, the ledgers that
// inspect compares complete the proof.
func (n *network) verifyEvidence(e evidence) (node string, err error) {
	var checkpoints [2]tlog.Checkpoint
	for i, side := range [][2]string{{e.Checkpoint, e.Cosignature}, {e.OtherCheckpoint, e.OtherCosignature}} {
		if checkpoints[i], err = tlog.ParseCheckpoint([]byte(side[0])); err != nil {
			return "", err
		}
		cosignature, err := tlog.ParseCosignature(side[1])
		if err != nil {
			return "", err
		}
		policy, err := n.trusted().Policy(checkpoints[i].Size)
		if err != nil {
			return "", err
		}
		at := slices.IndexFunc(policy.Witnesses, func(w tlog.Witness) bool { return w.Key.Name == cosignature.Name })
		if at < 0 || cosignature.Name != e.Cosigner {
			return "", fmt.Errorf("cosigner %q is not in the trust bundle, or not %q", cosignature.Name, e.Cosigner)
		}
		if err := cosignature.Verify(signature.Direct{}, policy.Witnesses[at].Key, checkpoints[i]); err != nil {
			return "", err
		}
	}
	if checkpoints[0].Size < checkpoints[1].Size || checkpoints[0] == checkpoints[1] {
		return "", fmt.Errorf("sizes %d and %d with roots %s and %s do not exclude each other",
			checkpoints[0].Size, checkpoints[1].Size, checkpoints[0].Root, checkpoints[1].Root)
	}
	for _, id := range n.replicas() {
		if state.CosignerName(n.trusted().Origin(), id) == e.Cosigner {
			return id, nil
		}
	}
	return "", fmt.Errorf("no replica is %q", e.Cosigner)
}
