package bench

import (
	"testing"

	"github.com/google/pprof/profile"
)

// TestStageIsThatOfTheInnermostFrameWithARule: arithmetic, copying and system
// calls count for whoever called them.
func TestStageIsThatOfTheInnermostFrameWithARule(t *testing.T) {
	const us = "github.com/lacre-metrology/lacre/"
	tests := []struct {
		want  Stage
		stack []string // innermost first
	}{
		{StageVerify, []string{"crypto/internal/fips140/edwards25519.(*Point).Add", "crypto/internal/fips140/ed25519.verifyWithDom", "crypto/ed25519.Verify", us + "core/signature.Verify", us + "core/state.Apply"}},
		{StageSign, []string{"crypto/internal/fips140/edwards25519.(*Point).Add", "crypto/internal/fips140/ed25519.Sign", us + "core/signature.Sign"}},
		{StageVerify, []string{"github.com/oasisprotocol/curve25519-voi/curve.(*EdwardsPoint).Double", us + "core/signature.VerifyBatch"}},
		{StageSign, []string{"github.com/oasisprotocol/curve25519-voi/curve.vecMul_AVX2", "github.com/oasisprotocol/curve25519-voi/primitives/ed25519.PrivateKey.Sign", us + "core/signature.Sign"}},
		{StageHash, []string{"crypto/internal/fips140/sha256.blockSHANI", "crypto/sha256.Sum256", us + "core/tlog.LeafHash"}},
		{StageMemory, []string{"runtime.memclrNoHeapPointers", "runtime.mallocgcSmall", "runtime.growslice", "google.golang.org/protobuf/proto.Marshal"}},
		{StageEncoding, []string{"runtime.memmove", "google.golang.org/protobuf/internal/impl.appendBytes"}},
		{StageNetwork, []string{"internal/runtime/syscall.Syscall6", "syscall.write", "internal/poll.(*FD).Write", "net.(*netFD).Write", "crypto/tls.(*Conn).Write", "google.golang.org/grpc/internal/transport.(*bufWriter).flush"}},
		{StageFsync, []string{"internal/runtime/syscall.Syscall6", "syscall.Fdatasync", us + "services/ledger/internal/storage.dataSync", us + "services/ledger/internal/storage.(*Store).Commit"}},
		{StageStorage, []string{"internal/runtime/syscall.Syscall6", "syscall.pwrite", "os.(*File).WriteAt", "go.etcd.io/bbolt.(*Tx).write", us + "services/ledger/internal/storage.(*Store).Commit"}},
		{StageOrderLog, []string{"internal/runtime/syscall.Syscall6", "os.(*File).WriteAt", "github.com/hashicorp/raft-wal/segment.(*Writer).Append", "github.com/hashicorp/raft.(*Raft).dispatchLogs"}},
		{StageOrdering, []string{"runtime.chansend", "github.com/hashicorp/raft.(*Raft).dispatchLogs"}},
		{StageSandbox, []string{"runtime._ExternalCode", "runtime._System"}},
		{StageScheduler, []string{"internal/runtime/syscall.EpollWait", "runtime.netpoll", "runtime.findRunnable", "runtime.schedule", "runtime.mcall"}},
		{StageService, []string{"runtime.mapaccess2", us + "services/ingest/internal/gateway.(*Gateway).admit"}},
		{StageUnknown, []string{"example.com/somebody.Else"}},
	}
	for _, test := range tests {
		s := &profile.Sample{Value: []int64{1, 10}}
		for _, f := range test.stack {
			s.Location = append(s.Location, &profile.Location{Line: []profile.Line{{Function: &profile.Function{Name: f}}}})
		}
		if got := stageOfStack(s, make(map[string]Stage)); got != test.want {
			t.Errorf("%s counts as %q, want %q", test.stack[0]+" < "+test.stack[1:][0], got, test.want)
		}
	}
}

func TestStageOfCodeOutsideOfAnyBinary(t *testing.T) {
	s := &profile.Sample{Location: []*profile.Location{{Address: 0x7f0000001000}}}
	if got := stageOfStack(s, make(map[string]Stage)); got != StageSandbox {
		t.Errorf("an address of no mapping counts as %q", got)
	}
	s.Location[0].Mapping = &profile.Mapping{File: "/usr/lib/libc.so"}
	if got := stageOfStack(s, make(map[string]Stage)); got != StageUnknown {
		t.Errorf("an address in a library counts as %q", got)
	}
}

// TestAttributeAddsUpAll: no sample is lost or counted twice, and the value is
// that of CPU time.
func TestAttributeAddsUpAll(t *testing.T) {
	frame := func(name string) []*profile.Location {
		return []*profile.Location{{Line: []profile.Line{{Function: &profile.Function{Name: name}}}}}
	}
	p := &profile.Profile{
		SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		Sample: []*profile.Sample{
			{Value: []int64{1, 100}, Location: frame("crypto/ed25519.Verify")},
			{Value: []int64{2, 200}, Location: frame("crypto/ed25519.Verify")},
			{Value: []int64{1, 50}, Location: frame("nobody.Knows")},
		},
	}
	got := attribute(p)
	if got[StageVerify] != 300 || got[StageUnknown] != 50 || len(got) != 2 {
		t.Errorf("attributed %v, want 300 ns of signature checks and 50 unknown", got)
	}
}

func TestEveryRuleHasAStageOfTheTable(t *testing.T) {
	listed := make(map[Stage]bool)
	for _, s := range Stages {
		listed[s] = true
	}
	for prefix, stage := range rules {
		if !listed[stage] {
			t.Errorf("%s counts as %q, which no table shows", prefix, stage)
		}
	}
}
