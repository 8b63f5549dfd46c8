package state

import (
	"bytes"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/tlog"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// BeginRecovery starts the block after head that holds a recovery and nothing
// else (rule C8). No certificate is asked for, because the replicas that could
// give one are lost or locked; whether head is the right block to continue, the
// recovery's locks decide. Time stands still. Each surviving replica makes the
// block for itself; it is certified by the new replicas.
func BeginRecovery(view View, head BlockRef, opts Options) (*Block, error) {
	b := newBlock(view, opts)
	config, err := b.loadConfig()
	if err != nil {
		return nil, err
	}
	if config == nil {
		return nil, corrupt("no configuration at height %d", head.Height)
	}
	if err := checkVersion(config.Message); err != nil {
		return nil, err
	}
	b.head, b.height, b.blockTimeUnixNano, b.admin = head, head.Height+1, head.BlockTimeUnixNano, head.Admin
	b.config, b.certifiedHeight, b.recovering = config, head.CertifiedHeight, true
	return b, nil
}

// recoveryOf reads the recovery that a leaf is; nil for every other leaf.
func recoveryOf(leaf []byte) *recordv1.Recovery {
	const statementTag = 0x0a // field 1 of Record: spares decoding all other leaves twice
	if len(leaf) == 0 || leaf[0] != statementTag {
		return nil
	}
	if it := parseItem(leaf); it.statement != nil {
		return it.statement.config().GetRecovery()
	}
	return nil
}

// Survivor is where one surviving replica stands in a recovery.
type Survivor struct {
	NodeID string
	Lock   *recordv1.RecoveryLock
	Kept   bool // what it cosigned is continued; otherwise it is discarded
}

// RecoveryPlan is what follows from the locks of the surviving replicas.
type RecoveryPlan struct {
	Continue      BlockRef
	Survivors     []Survivor // ascending by node id
	Lost          []string   // replicas of the configuration without a lock
	OrderingIndex uint64     // the lowest that may be named: above what every survivor applied
}

// PlanRecovery says what it means to continue the ledger behind view after head.
// The locks are DSSE envelopes of RecoveryLock, ascending by node id. The error is
// a *reason.Error when that cannot be: a lock that is not what it must be, or a
// block that would be dropped although it is, or may have been, certified.
//
// With n replicas, quorum q, l lost ones and d survivors whose lock is not on the
// continued chain, a dropped block had at most l+d cosignatures, for an honest
// replica signs one chain (rule C1). So it may have been certified only if
// l+d >= q. Blocks that no survivor holds can be continued by nobody and are not
// counted. A survivor that signed both chains can make this wrong; then its lock
// and the certificate that comes up convict it.
func PlanRecovery(view View, head BlockRef, locks []*envelope.Envelope, opts Options) (*RecoveryPlan, error) {
	b, err := BeginRecovery(view, head, opts)
	if err != nil {
		return nil, err
	}
	return b.planRecovery(locks)
}

func (b *Block) planRecovery(locks []*envelope.Envelope) (*RecoveryPlan, error) {
	plan := &RecoveryPlan{Continue: b.head}
	var ids ascending
	var dropped []string
	for _, e := range locks {
		lock, err := b.openLock(e)
		if err != nil {
			return nil, err
		}
		if err := ids.take(lock.GetNodeId()); err != nil {
			return nil, reason.New(reason.InvalidStatement, "locks: %v", err)
		}
		if certified := lock.GetCertified(); certified != nil {
			on, err := b.onChain(certified)
			if err != nil {
				return nil, err
			}
			if !on {
				return nil, reason.New(reason.InvalidStatement, "%s holds a certificate of block %d, header %s; to continue block %d, header %s, would drop it",
					lock.GetNodeId(), certified.GetHeight(), shortOf(certified.GetHeader()), b.head.Height, b.head.Header.Short())
			}
		}
		kept := true
		if locked := lock.GetLocked(); locked != nil {
			if kept, err = b.onChain(locked); err != nil {
				return nil, err
			}
		}
		if !kept {
			dropped = append(dropped, lock.GetNodeId())
		}
		plan.Survivors = append(plan.Survivors, Survivor{NodeID: lock.GetNodeId(), Lock: lock, Kept: kept})
		plan.OrderingIndex = max(plan.OrderingIndex, lock.GetAppliedIndex()+1)
	}
	if len(plan.Survivors) == 0 {
		return nil, reason.New(reason.InvalidStatement, "a recovery carries the lock of at least one surviving replica")
	}
	for _, r := range b.config.Message.GetReplicas() {
		if !plan.survives(r.GetNodeId()) {
			plan.Lost = append(plan.Lost, r.GetNodeId())
		}
	}
	if could, q := len(plan.Lost)+len(dropped), int(b.config.Message.GetQuorum()); len(dropped) > 0 && could >= q {
		return nil, reason.New(reason.InvalidStatement,
			"what %s cosigned may have been certified: with the %d lost replicas that makes %d cosignatures, the quorum is %d; to continue block %d, header %s, would drop it",
			strings.Join(dropped, " and "), len(plan.Lost), could, q, b.head.Height, b.head.Header.Short())
	}
	return plan, nil
}

func (p *RecoveryPlan) survives(id string) bool {
	for _, s := range p.Survivors {
		if s.NodeID == id {
			return true
		}
	}
	return false
}

// openLock verifies one survivor's word under the configuration in force.
func (b *Block) openLock(e *envelope.Envelope) (*recordv1.RecoveryLock, error) {
	lock, err := ParseRecoveryLock(e)
	if err != nil {
		return nil, err
	}
	id := lock.GetNodeId()
	replica := b.config.Replica(id)
	switch {
	case !bytes.Equal(lock.GetNetworkId(), b.config.NetworkID[:]):
		return nil, reason.New(reason.WrongNetwork, "the lock of %s is for network %s, this is %s", id, shortOf(lock.GetNetworkId()), b.config.NetworkID.Short())
	case replica == nil:
		return nil, reason.New(reason.InvalidStatement, "there is a lock of %.80q, which is no replica of the configuration in force", id)
	case !bytes.Equal(lock.GetConfig(), b.config.Digest[:]):
		return nil, reason.New(reason.InvalidStatement, "the lock of %s was made under configuration %s, in force is %s", id, shortOf(lock.GetConfig()), b.config.Digest.Short())
	}
	key := storedKey(replica.GetCosignerKey())
	if len(e.Signatures) != 1 || e.Signatures[0].KeyID != key.ID() {
		return nil, reason.New(reason.NotAuthorised, "the lock of %s has %d signatures, want one, by its cosigner key", id, len(e.Signatures))
	}
	if !b.verifier.Verify(signature.Ed25519, key, e.PAE(), e.Signatures[0].Sig) {
		return nil, reason.New(reason.BadSignature, "the lock of %s does not verify under its cosigner key", id)
	}
	return lock, nil
}

// ParseRecoveryLock reads a lock's payload and checks its form, not its signature.
// The error is a *reason.Error.
func ParseRecoveryLock(e *envelope.Envelope) (*recordv1.RecoveryLock, error) {
	if e.PayloadType != record.TypeRecoveryLock {
		return nil, reason.New(reason.Malformed, "a lock has the type %q, this has %.80q", record.TypeRecoveryLock, e.PayloadType)
	}
	lock := new(recordv1.RecoveryLock)
	if err := record.Decode(e.Payload, record.MaxBytes, lock); err != nil {
		return nil, err
	}
	if lock.GetHead() == nil {
		return nil, reason.New(reason.Malformed, "the lock of %.80q names no head", lock.GetNodeId())
	}
	for _, p := range []*recordv1.RecoveryPoint{lock.GetLocked(), lock.GetCertified(), lock.GetHead()} {
		if p == nil {
			continue
		}
		if err := checkPoint(p.GetHeader(), p.GetSize(), p.GetRoot()); err != nil {
			return nil, fmt.Errorf("lock of %.80q: %w", lock.GetNodeId(), err)
		}
	}
	return lock, nil
}

func checkPoint(header []byte, size uint64, root []byte) error {
	if _, err := record.Digest32("header", header); err != nil {
		return err
	}
	if size == 0 || size > tlog.MaxTreeSize {
		return reason.New(reason.Malformed, "a tree of size %d", size)
	}
	_, err := record.Digest32("root", root)
	return err
}

// onChain says whether a point is on the chain that ends in head.
func (b *Block) onChain(p *recordv1.RecoveryPoint) (bool, error) {
	ref := b.head
	switch {
	case p.GetHeight() > b.head.Height:
		return false, nil
	case p.GetHeight() < b.head.Height:
		var ok bool
		var err error
		if ref, ok, err = b.view.Block(p.GetHeight()); err != nil {
			return false, fmt.Errorf("read block %d: %w", p.GetHeight(), err)
		}
		if !ok && b.administrative {
			return true, nil // a follower holds no blocks so old; the replicas that certified this do
		}
		if !ok {
			return false, corrupt("block %d is missing below head %d", p.GetHeight(), b.head.Height)
		}
	}
	return bytes.Equal(p.GetHeader(), ref.Header[:]) && p.GetSize() == ref.Size && bytes.Equal(p.GetRoot(), ref.Root[:]), nil
}

// checkRecoveryForm is what needs no state.
func (c networkConfig) checkRecoveryForm(st *statement) error {
	r := c.GetRecovery()
	if r == nil {
		return nil
	}
	if st.sequence == 1 {
		return reason.New(reason.InvalidStatement, "a network is not founded by a recovery")
	}
	if n := len(r.GetLocks()); n == 0 || n > MaxReplicas {
		return reason.New(reason.InvalidStatement, "%d locks, want 1 to %d", n, MaxReplicas)
	}
	return checkPoint(r.GetHeader(), r.GetSize(), r.GetRoot())
}

// checkRecovery judges a recovery against the ledger that it continues.
func (c networkConfig) checkRecovery(b *Block) error {
	r := c.GetRecovery()
	invalid := func(format string, args ...any) error { return reason.New(reason.InvalidStatement, format, args...) }
	if h := b.head; r.GetHeight() != h.Height || !bytes.Equal(r.GetHeader(), h.Header[:]) || r.GetSize() != h.Size || !bytes.Equal(r.GetRoot(), h.Root[:]) {
		return invalid("the recovery continues block %d, header %s; here is block %d, header %s", r.GetHeight(), shortOf(r.GetHeader()), h.Height, h.Header.Short())
	}
	if err := onlyReplicasDiffer(b.config.Message, c.NetworkConfig); err != nil {
		return err
	}
	old := make(map[string]string)
	for _, o := range b.config.Message.GetReplicas() {
		old[string(o.GetCosignerKey())], old[string(o.GetLogKey())] = "cosigner key of "+o.GetNodeId(), "log key of "+o.GetNodeId()
	}
	for _, n := range c.GetReplicas() {
		for _, key := range [][]byte{n.GetCosignerKey(), n.GetLogKey()} {
			if whose, used := old[string(key)]; used {
				return invalid("replica %s keeps a key: it is the %s; a recovery replaces all of them", n.GetNodeId(), whose)
			}
		}
	}
	locks := make([]*envelope.Envelope, len(r.GetLocks()))
	for i, l := range r.GetLocks() {
		locks[i] = record.ToEnvelope(l)
	}
	plan, err := b.planRecovery(locks)
	if err != nil {
		return err
	}
	if r.GetOrderingIndex() < plan.OrderingIndex {
		return invalid("ordering goes on at %d, a surviving replica has applied %d", r.GetOrderingIndex(), plan.OrderingIndex-1)
	}
	for _, s := range plan.Survivors {
		n := replicaOf(c.NetworkConfig, s.NodeID)
		if n != nil && (!bytes.Equal(n.GetCosignerKey(), s.Lock.GetCosignerKey()) || !bytes.Equal(n.GetLogKey(), s.Lock.GetLogKey())) {
			return invalid("the new keys of %s are not those that its lock names", s.NodeID)
		}
	}
	return b.checkReplicasRegistered(c.NetworkConfig)
}

// onlyReplicasDiffer wants a recovery to change nothing but replicas and quorum.
func onlyReplicasDiffer(before, after *recordv1.NetworkConfig) error {
	bare := func(m *recordv1.NetworkConfig) *recordv1.NetworkConfig {
		c := proto.CloneOf(m)
		c.Header, c.Replicas, c.Quorum, c.Recovery = nil, nil, 0, nil
		return c
	}
	if !proto.Equal(bare(before), bare(after)) {
		return reason.New(reason.InvalidStatement, "a recovery changes replicas and quorum alone; everything else is changed once the network goes on")
	}
	return nil
}

// RecoveryBase is the tree that a recovery continues.
func RecoveryBase(r *recordv1.Recovery) (size uint64, root digest.Digest, err error) {
	root, err = record.Digest32("root", r.GetRoot())
	return r.GetSize(), root, err
}
