package fsm

import (
	"bytes"
	"testing"

	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// FuzzGenesis: a genesis file is refused, or it founds a network whose first block
// an auditor rebuilds from its leaves. Only the file that was signed founds the
// network of that identity with those nodes.
func FuzzGenesis(f *testing.F) {
	n := statetest.New(f, statetest.Options{})
	good := wire.MustEncode(&recordv1.Genesis{Records: n.GenesisRecords(), BlockTimeUnixNano: statetest.GenesisUnix * statetest.Second})
	f.Add(uint16(0), good[:0], good)
	f.Add(uint16(0), []byte{}, []byte{})
	for i := range uint16(16) {
		f.Add(i*331, []byte{byte(i), 1}, good)
	}
	f.Fuzz(func(t *testing.T, at uint16, patch, file []byte) {
		if len(file) > 1<<16 {
			return
		}
		file = bytes.Clone(file)
		if len(file) > 0 {
			copy(file[int(at)%len(file):], patch)
		}
		genesis := new(recordv1.Genesis)
		if record.Decode(file, 16<<20, genesis) != nil {
			return
		}
		if again := wire.MustEncode(genesis); !bytes.Equal(again, file) {
			t.Fatalf("%x decodes and encodes to %x (rule B1)", file, again)
		}
		block, err := GenesisBlock(genesis)
		if err != nil {
			return
		}
		replayed, err := state.ReplayGenesis(block.Leaves, state.Options{})
		if err != nil {
			t.Fatalf("a genesis that no auditor rebuilds: %v", err)
		}
		if replayed.Complete(block.Ref.Root) != block.Ref || state.DigestWrites(replayed.Writes) != state.DigestWrites(block.Writes) {
			t.Fatalf("block %+v is rebuilt as %+v", block.Ref, replayed.Ref)
		}
		if block.Ref.Admin == n.Store.Blocks[0].Admin && genesis.GetBlockTimeUnixNano() == statetest.GenesisUnix*statetest.Second && !bytes.Equal(file, good) {
			t.Fatal("another file founds the same")
		}
	})
}
