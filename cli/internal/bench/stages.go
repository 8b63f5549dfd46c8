package bench

import (
	"strings"

	"github.com/google/pprof/profile"
)

// Stage is a kind of work. Every sample of a CPU profile falls into one.
type Stage string

// The stages, in the order of tables.
const (
	StageVerify     Stage = "signature checks"
	StageSign       Stage = "signing"
	StageHash       Stage = "hashing (SHA-256)"
	StageSandbox    Stage = "sandbox"
	StageVector     Stage = "raw vector decoding"
	StageEncoding   Stage = "protobuf and record forms"
	StageTree       Stage = "tree, certificates, receipts"
	StageState      Stage = "state transition"
	StageOrdering   Stage = "ordering (Raft)"
	StageOrderLog   Stage = "ordering log on disk"
	StageStorage    Stage = "storage (segments, bbolt)"
	StageFsync      Stage = "fsync"
	StageTLS        Stage = "TLS"
	StageRPC        Stage = "gRPC and HTTP/2"
	StageNetwork    Stage = "network system calls"
	StageMemory     Stage = "allocation and garbage collection"
	StageScheduler  Stage = "goroutine scheduling"
	StageService    Stage = "the service's own logic"
	StageProfiling  Stage = "profiling"
	StageUnknown    Stage = "unknown"
	stageUnprofiled Stage = "not in the profile"
)

// Stages lists them in the order of tables.
var Stages = []Stage{
	StageVerify, StageSign, StageHash, StageSandbox, StageVector, StageEncoding, StageTree, StageState, StageOrdering, StageOrderLog,
	StageStorage, StageFsync, StageTLS, StageRPC, StageNetwork, StageMemory, StageScheduler, StageService, StageProfiling, StageUnknown, stageUnprofiled,
}

// rules say which function belongs to which stage, by prefix of its full name.
// A sample belongs to the innermost frame for which there is a rule, so what a
// rule does not name (arithmetic of curves, copying, system calls) counts for
// whoever called it. Of several prefixes the longest decides.
var rules = map[string]Stage{
	// Signatures. The key schedule of TLS handshakes signs and verifies too, before the window.
	"crypto/ed25519.Verify":                        StageVerify,
	"crypto/ed25519.verify":                        StageVerify,
	"crypto/internal/fips140/ed25519.Verify":       StageVerify,
	"crypto/internal/fips140/ed25519.verify":       StageVerify,
	"crypto/internal/fips140/ed25519.NewPublicKey": StageVerify,
	"crypto/ecdsa.Verify":                          StageVerify,
	"crypto/ecdsa.ParseUncompressedPublicKey":      StageVerify,
	"crypto/internal/fips140/ecdsa.Verify":         StageVerify,
	"crypto/internal/fips140/ecdsa.verify":         StageVerify,
	// Of this library only the primitives: the curve serves both.
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519.":                StageVerify,
	lacre + "core/signature.":                                                    StageVerify,
	lacre + "core/signature.Sign":                                                StageSign,
	"crypto/ed25519.PrivateKey.Sign":                                             StageSign,
	"crypto/ed25519.Sign":                                                        StageSign,
	"crypto/ed25519.sign":                                                        StageSign,
	"crypto/internal/fips140/ed25519.Sign":                                       StageSign,
	"crypto/internal/fips140/ed25519.sign":                                       StageSign,
	"crypto/internal/fips140/ed25519.NewPrivateKey":                              StageSign,
	"crypto/ecdsa.Sign":                                                          StageSign,
	"crypto/ecdsa.(*PrivateKey).Sign":                                            StageSign,
	"crypto/internal/fips140/ecdsa.Sign":                                         StageSign,
	"crypto/internal/fips140/ecdsa.sign":                                         StageSign,
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519.PrivateKey.Sign": StageSign,
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519.NewKey":          StageSign,

	"crypto/sha256.":                  StageHash,
	"crypto/internal/fips140/sha256.": StageHash,
	lacre + "core/digest.":            StageHash,
	// Code outside of any binary is what the sandbox's compiler made.
	"runtime._ExternalCode":             StageSandbox,
	"github.com/tetratelabs/wazero":     StageSandbox,
	lacre + "sandbox":                   StageSandbox,
	lacre + "core/vector.":              StageVector,
	"google.golang.org/protobuf/":       StageEncoding,
	"encoding/base64.":                  StageEncoding,
	"encoding/json.":                    StageEncoding,
	lacre + "gen/":                      StageEncoding,
	lacre + "core/wire.":                StageEncoding,
	lacre + "core/record.":              StageEncoding,
	lacre + "core/sample.":              StageEncoding,
	lacre + "core/claim.":               StageEncoding,
	lacre + "core/envelope.":            StageEncoding,
	lacre + "core/approval.":            StageEncoding,
	lacre + "core/tlog.":                StageTree,
	lacre + "core/receipt.":             StageTree,
	lacre + "core/trust.":               StageTree,
	"github.com/transparency-dev/":      StageTree,
	lacre + "core/state.":               StageState,
	lacre + "core/policy.":              StageState,
	lacre + ledger + "fsm.":             StageState,
	lacre + ledger + "certify.":         StageTree,
	lacre + ledger + "ordering":         StageOrdering,
	lacre + ledger + "propose.":         StageOrdering,
	"github.com/hashicorp/raft.":        StageOrdering,
	"github.com/hashicorp/go-msgpack/":  StageOrdering,
	"github.com/hashicorp/raft-wal":     StageOrderLog,
	lacre + ledger + "storage.":         StageStorage,
	"go.etcd.io/bbolt":                  StageStorage,
	"os.(*File).Sync":                   StageFsync,
	"syscall.Fsync":                     StageFsync,
	"syscall.Fdatasync":                 StageFsync,
	"golang.org/x/sys/unix.Fsync":       StageFsync,
	"golang.org/x/sys/unix.Fdatasync":   StageFsync,
	lacre + ledger + "storage.dataSync": StageFsync,

	"crypto/tls.":                 StageTLS,
	"crypto/aes":                  StageTLS,
	"crypto/cipher.":              StageTLS,
	"crypto/internal/fips140/aes": StageTLS,
	"google.golang.org/grpc":      StageRPC,
	"golang.org/x/net/http2":      StageRPC,
	"github.com/grpc-ecosystem/":  StageRPC,
	"go.opentelemetry.io/":        StageRPC,
	"github.com/prometheus/":      StageRPC,
	lacre + "platform/rpc":        StageRPC,
	lacre + "platform/identity.":  StageRPC,
	lacre + "platform/registry.":  StageRPC,
	"net.(*":                      StageNetwork,
	"net.":                        StageNetwork,
	"runtime.mallocgc":            StageMemory,
	"runtime.newobject":           StageMemory,
	"runtime.growslice":           StageMemory,
	"runtime.makeslice":           StageMemory,
	"runtime.gc":                  StageMemory,
	"runtime.(*gc":                StageMemory,
	"runtime.bgsweep":             StageMemory,
	"runtime.bgscavenge":          StageMemory,
	"runtime.sweepone":            StageMemory,
	"runtime.scan":                StageMemory,
	"runtime.(*mheap)":            StageMemory,
	"runtime.(*mcache)":           StageMemory,
	"runtime.(*mspan)":            StageMemory,
	"runtime.(*mcentral)":         StageMemory,
	"runtime.(*sweep":             StageMemory,
	"runtime.wbBufFlush":          StageMemory,
	"runtime.bulkBarrier":         StageMemory,
	"runtime.schedule":            StageScheduler,
	"runtime.findRunnable":        StageScheduler,
	"runtime.mcall":               StageScheduler,
	"runtime.park_m":              StageScheduler,
	"runtime.gosched":             StageScheduler,
	"runtime.goexit0":             StageScheduler,
	"runtime.newproc":             StageScheduler,
	"runtime.sysmon":              StageScheduler,
	"runtime.mstart":              StageScheduler,
	"runtime.startm":              StageScheduler,
	"runtime.stopm":               StageScheduler,
	"runtime.wakep":               StageScheduler,
	"runtime.ready":               StageScheduler,
	"runtime.goready":             StageScheduler,
	"runtime.futex":               StageScheduler,
	"runtime.notesleep":           StageScheduler,
	"runtime.notetsleep":          StageScheduler,
	"runtime.notewakeup":          StageScheduler,
	"runtime.netpoll":             StageScheduler,
	"runtime.morestack":           StageScheduler,
	"runtime.newstack":            StageScheduler,
	"runtime.handoffp":            StageScheduler,
	"runtime.entersyscall":        StageScheduler,
	"runtime.exitsyscall":         StageScheduler,
	"runtime.retake":              StageScheduler,
	"runtime.pprof":               StageProfiling,
	"runtime/pprof.":              StageProfiling,
	"runtime.sigprof":             StageProfiling,
	"github.com/google/pprof/":    StageProfiling,
	lacre + "services/":           StageService,
	lacre + "platform/":           StageService,
	lacre + "meter":               StageService,
	lacre + "cli/":                StageService,
	"github.com/HdrHistogram/":    StageService,
	"log/slog.":                   StageService,
}

const (
	lacre  = "github.com/lacre-metrology/lacre/"
	ledger = "services/ledger/internal/"
)

// stageOf is the stage of a function; false when no rule names it.
func stageOf(function string) (Stage, bool) {
	for end := len(function); end > 0; end-- {
		if s, ok := rules[function[:end]]; ok {
			return s, true
		}
	}
	return "", false
}

// attribute adds up a CPU profile by stage, in nanoseconds.
func attribute(p *profile.Profile) map[Stage]int64 {
	value := 0
	for i, t := range p.SampleType {
		if t.Type == "cpu" {
			value = i
		}
	}
	known := make(map[string]Stage)
	out := make(map[Stage]int64)
	for _, s := range p.Sample {
		out[stageOfStack(s, known)] += s.Value[value]
	}
	return out
}

// stageOfStack goes from the innermost frame outwards.
func stageOfStack(s *profile.Sample, known map[string]Stage) Stage {
	for _, location := range s.Location {
		if len(location.Line) == 0 && compiled(location) {
			return StageSandbox
		}
		for _, line := range location.Line { // inlined callees first
			name := line.Function.Name
			stage, seen := known[name]
			if !seen {
				stage, _ = stageOf(name)
				known[name] = stage
			}
			if stage != "" {
				return stage
			}
		}
	}
	return StageUnknown
}

// compiled says that an address belongs to no binary: code that the sandbox's
// compiler made, the only such code in these processes.
func compiled(l *profile.Location) bool {
	return l.Address != 0 && (l.Mapping == nil || l.Mapping.File == "" || strings.HasPrefix(l.Mapping.File, "//anon"))
}
