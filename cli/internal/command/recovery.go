package command

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/cli/internal/founding"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/config"
	"github.com/lacre-metrology/lacre/services/ledger"
)

func newRecovery(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "recovery",
		Short: "Go on after the loss of a majority, or after conflicting locks, by root keys",
		Long: `When the replicas that are left cannot certify any more, a majority of the root keys
continues the ledger with other replicas and other cosigner keys (rule C8). Each
surviving replica is stopped and says what it signed ("lock"); one drafts from all
of these words ("draft"); the root keys and the new keys sign ("lacre network change
sign"); each surviving replica is continued ("apply") and started. Replicas that
are lost join anew afterwards ("lacre ledger join").`,
	}, newRecoveryLock(a), newRecoveryDraft(a), newRecoveryApply(a))
}

func loadReplica(path string) (c ledger.Config, err error) {
	if err = config.Load(path, &c); err != nil {
		return c, usage("%w", err)
	}
	return c, nil
}

func newRecoveryLock(a *app) *cobra.Command {
	var out string
	c := a.reading(&cobra.Command{
		Use:   "lock CONFIG",
		Short: "Sign what a stopped replica cosigned last, and make its new keys",
		Long: `Reads the directory of a stopped replica, without changing it, and signs with its
cosigner key: the newest block that it cosigned, the newest that it knows to be
certified, the newest that it holds. Beside its cosigner and log key it makes new
ones, in files that end in .next.pem.`,
		Example: `  lacre recovery lock institute/nodes/replica-institute/config.yaml --out institute.lock`,
		Args:    exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if out == "" {
				return usage("--out FILE is needed")
			}
			c, err := loadReplica(args[0])
			if err != nil {
				return err
			}
			e, err := ledger.LockOf(c)
			if err != nil {
				return err
			}
			text, err := e.Encode()
			if err != nil {
				return err
			}
			if err := a.createFile(out, append(text, '\n')); err != nil {
				return err
			}
			lock, err := state.ParseRecoveryLock(e)
			if err != nil {
				return err
			}
			return a.print(shownLock(lock), lockText(lock))
		},
	})
	c.Flags().StringVar(&out, "out", "", "file to write; must not exist")
	return c
}

// shownPoint is a block for people and programs.
type shownPoint struct {
	Height uint64 `json:"height"`
	Header string `json:"header"`
}

func shownLock(l *recordv1.RecoveryLock) any {
	point := func(p *recordv1.RecoveryPoint) *shownPoint {
		if p == nil {
			return nil
		}
		return &shownPoint{p.GetHeight(), fmt.Sprintf("%x", p.GetHeader())}
	}
	return struct {
		NodeID    string      `json:"node_id"`
		Locked    *shownPoint `json:"locked"`
		Certified *shownPoint `json:"certified"`
		Head      *shownPoint `json:"head"`
	}{l.GetNodeId(), point(l.GetLocked()), point(l.GetCertified()), point(l.GetHead())}
}

func lockText(l *recordv1.RecoveryLock) string {
	var b strings.Builder
	fmt.Fprintf(&b, "replica    %s\n", l.GetNodeId())
	for _, p := range []struct {
		name  string
		point *recordv1.RecoveryPoint
	}{{"cosigned", l.GetLocked()}, {"certified", l.GetCertified()}, {"holds", l.GetHead()}} {
		if p.point == nil {
			fmt.Fprintf(&b, "%-10s nothing\n", p.name)
			continue
		}
		fmt.Fprintf(&b, "%-10s block %d, header %x\n", p.name, p.point.GetHeight(), p.point.GetHeader())
	}
	return b.String()
}

// recoveryDraft is the command line of `recovery draft`.
type recoveryDraft struct {
	data, out string
	quorum    uint32
	leave     []string
}

func newRecoveryDraft(a *app) *cobra.Command {
	var d recoveryDraft
	c := a.reading(&cobra.Command{
		Use:   "draft LOCK... --data DIR",
		Short: "Draft the recovery from the surviving replicas' locks",
		Long: `Says what it means to continue the newest block in the data directory of one
surviving replica, and drafts the configuration that does: the surviving replicas
with their new keys, and the quorum. Run it on the replica that holds the newest
block.

With l lost replicas and d survivors that cosigned another history, a block of that
history had at most l+d cosignatures. If that reaches the quorum it may have been
certified: then nothing is drafted. A survivor's certificate is never dropped.`,
		Example: `  lacre recovery draft *.lock --data institute/nodes/replica-institute/data --out recovery.json
  lacre network change sign recovery.json --key institute.pem --key cosigner.next.pem --key log.next.pem --network institute --out recovery.dsse`,
		Args: atLeastOne,
		RunE: func(_ *cobra.Command, args []string) error { return a.runRecoveryDraft(&d, args) },
	})
	f := c.Flags()
	f.StringVar(&d.data, "data", "", "data directory of the stopped replica whose newest block is continued")
	f.StringVar(&d.out, "out", "", "file to write; must not exist")
	f.Uint32Var(&d.quorum, "quorum", 0, "cosignatures of a certificate (default: the smallest that rule C6 admits)")
	f.StringArrayVar(&d.leave, "leave-out", nil, "id of a surviving replica that does not go on (repeat)")
	return c
}

func (a *app) runRecoveryDraft(d *recoveryDraft, files []string) error {
	if d.data == "" || d.out == "" {
		return usage("--data DIR and --out FILE are needed")
	}
	locks, err := readLocks(files)
	if err != nil {
		return err
	}
	archive, err := ledger.OpenArchive(d.data)
	if err != nil {
		return err
	}
	defer archive.Close() //nolint:errcheck // only read from.
	inForce, plan, err := archive.PlanRecovery(locks)
	if err != nil {
		return &exitError{code: ExitRefuted, err: err}
	}
	m := proto.CloneOf(inForce.Message)
	p := plan.Continue
	m.Header = &recordv1.StatementHeader{
		NetworkId: inForce.NetworkID.Bytes(), Subject: record.SubjectNetwork, Sequence: m.GetHeader().GetSequence() + 1,
		Predecessor: inForce.Digest.Bytes(), IssuedAtUnixNano: time.Now().UnixNano(),
	}
	m.Recovery = &recordv1.Recovery{Height: p.Height, Header: p.Header.Bytes(), Size: p.Size, Root: p.Root.Bytes(), OrderingIndex: plan.OrderingIndex}
	m.Replicas = nil
	var b strings.Builder
	fmt.Fprintf(&b, "continues block %d, header %s\n", p.Height, p.Header)
	for i, s := range plan.Survivors {
		m.Recovery.Locks = append(m.Recovery.Locks, &recordv1.Envelope{PayloadType: locks[i].PayloadType, Payload: locks[i].Payload,
			Signatures: []*recordv1.EnvelopeSignature{{KeyId: locks[i].Signatures[0].KeyID, Signature: locks[i].Signatures[0].Sig}}})
		says := "is continued"
		if !s.Kept {
			says = fmt.Sprintf("cosigned block %d, header %x, which is discarded: it had at most %d cosignatures of the %d that certify, so nothing in it was acknowledged",
				s.Lock.GetLocked().GetHeight(), s.Lock.GetLocked().GetHeader(), len(plan.Lost)+discarded(plan), inForce.Message.GetQuorum())
			evidence, err := convicting(archive, inForce, s)
			if err != nil {
				return err
			}
			if evidence != "" {
				says += "\n  DOUBLE SIGNER: it also cosigned\n" + evidence
			}
		}
		fmt.Fprintf(&b, "  %-24s %s\n", s.NodeID, says)
		if slices.Contains(d.leave, s.NodeID) {
			continue
		}
		m.Replicas = append(m.Replicas, &recordv1.Replica{NodeId: s.NodeID, Organisation: inForce.Replica(s.NodeID).GetOrganisation(),
			CosignerKey: s.Lock.GetCosignerKey(), LogKey: s.Lock.GetLogKey()})
	}
	for _, id := range plan.Lost {
		fmt.Fprintf(&b, "  %-24s is lost; blocks that only lost replicas held are gone\n", id)
	}
	if m.Quorum = d.quorum; m.Quorum == 0 {
		m.Quorum = founding.DefaultQuorum(len(m.Replicas))
	}
	e, err := a.createDraft(d.out, m)
	if err != nil {
		return err
	}
	fmt.Fprintf(&b, "%d replicas go on, quorum %d\ndigest  %s\n", len(m.Replicas), m.Quorum, e.Digest())
	return a.print(struct {
		Digest    string     `json:"digest"`
		Continues shownPoint `json:"continues"`
		Lost      []string   `json:"lost"`
		Replicas  int        `json:"replicas"`
		Quorum    uint32     `json:"quorum"`
	}{e.Digest().String(), shownPoint{p.Height, p.Header.String()}, append([]string{}, plan.Lost...), len(m.Replicas), m.Quorum}, b.String())
}

func discarded(plan *state.RecoveryPlan) int {
	n := 0
	for _, s := range plan.Survivors {
		if !s.Kept {
			n++
		}
	}
	return n
}

// readLocks reads lock files, ascending by node id. Two of one replica that differ
// in what it cosigned convict it, and are named.
func readLocks(files []string) ([]*envelope.Envelope, error) {
	type read struct {
		file string
		e    *envelope.Envelope
		lock *recordv1.RecoveryLock
	}
	var all []read
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		e, err := envelope.Parse(bytes.TrimRight(text, "\n"))
		if err != nil {
			return nil, fmt.Errorf("%s is no lock: %w", file, err)
		}
		lock, err := state.ParseRecoveryLock(e)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, read{file, e, lock})
	}
	slices.SortStableFunc(all, func(x, y read) int { return strings.Compare(x.lock.GetNodeId(), y.lock.GetNodeId()) })
	var locks []*envelope.Envelope
	var failures []error
	for i, r := range all {
		if i > 0 && all[i-1].lock.GetNodeId() == r.lock.GetNodeId() {
			other := all[i-1]
			what := "says two things"
			if x, y := other.lock.GetLocked(), r.lock.GetLocked(); x.GetHeight() == y.GetHeight() && !bytes.Equal(x.GetHeader(), y.GetHeader()) {
				what = fmt.Sprintf("is a DOUBLE SIGNER: at height %d it cosigned header %x and header %x", x.GetHeight(), x.GetHeader(), y.GetHeader())
			}
			failures = append(failures, fmt.Errorf("replica %s %s: keep %s and %s, they are evidence, and give one of them or neither", r.lock.GetNodeId(), what, other.file, r.file))
		}
		locks = append(locks, r.e)
	}
	return locks, errors.Join(failures...)
}

// convicting is a certificate of the continued history with a cosignature of a
// replica that says its newest is another one at that height or below: evidence
// that its key signed both. Empty if there is none.
func convicting(archive *ledger.Archive, inForce *state.Config, s state.Survivor) (string, error) {
	name := state.CosignerName(inForce.Origin(), s.NodeID)
	for height := s.Lock.GetLocked().GetHeight(); height < archive.Blocks(); height++ {
		block, err := archive.Block(height)
		if err != nil {
			return "", err
		}
		if len(block.Certificate) == 0 {
			continue
		}
		certificate, err := tlog.ParseCertificate(block.Certificate)
		if err != nil {
			return "", err
		}
		for _, c := range certificate.Cosignatures {
			if c.Name == name {
				return string(certificate.Checkpoint.Body()) + "\n" + c.Line(), nil
			}
		}
	}
	return "", nil
}

func newRecoveryApply(a *app) *cobra.Command {
	var anew bool
	c := a.reading(&cobra.Command{
		Use:   "apply CONFIG FILE",
		Short: "Continue a stopped surviving replica by a signed recovery",
		Long: `Makes the recovery's block on top of the block that is continued, cosigned with the
replica's new key, begins its ordering engine anew with the new members, and puts
the new keys in the place of the old. What is replaced stays beside it, with the
ending .before-recovery. Run it again after an interruption. A replica that holds
another newest block is refused and not changed.

Such a replica, which cosigned another history or lacks blocks, goes on with --anew:
all that it holds is put aside, with that ending, and it begins as a replica that
joins, with its new keys. Started, it fetches the ledger from the others.`,
		Example: `  lacre recovery apply institute/nodes/replica-institute/config.yaml recovery.dsse
  lacre recovery apply operator/nodes/replica-operator/config.yaml recovery.dsse --anew`,
		Args: exactly(2),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := loadReplica(args[0])
			if err != nil {
				return err
			}
			text, err := os.ReadFile(args[1])
			if err != nil {
				return err
			}
			e, err := envelope.Parse(bytes.TrimRight(text, "\n"))
			if err != nil {
				return fmt.Errorf("%s is no signed statement: %w", args[1], err)
			}
			if anew {
				if err := ledger.RecoverAnew(c, e, slog.New(slog.DiscardHandler)); err != nil {
					return fmt.Errorf("%s, by %s: %w", c.DataDir, args[1], err)
				}
				return a.print(struct {
					NodeID string `json:"node_id"`
					Anew   bool   `json:"anew"`
				}{c.NodeID, true}, fmt.Sprintf("replica %s begins anew in %s; what it held is beside it, with the ending .before-recovery\n", c.NodeID, c.DataDir))
			}
			r, err := ledger.Recover(c, e, slog.New(slog.DiscardHandler))
			if err != nil {
				return fmt.Errorf("%s, by %s: %w", c.DataDir, args[1], err)
			}
			did := "continued"
			if r.Done {
				did = "was continued before, and went on since"
			}
			return a.print(struct {
				NodeID string `json:"node_id"`
				Height uint64 `json:"height"`
				Done   bool   `json:"done_before"`
			}{c.NodeID, r.Height, r.Done}, fmt.Sprintf("replica %s %s: block %d is the recovery\n", c.NodeID, did, r.Height))
		},
	})
	c.Flags().BoolVar(&anew, "anew", false, "the replica's newest block is not the one that is continued: put what it holds aside, and let it join")
	return c
}
