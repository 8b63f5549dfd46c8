package speed_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/algorithms/speed"
)

// TestSourceIsAtMost200Lines holds the legally relevant source to the paper's
// size; the ABI's header is shared by all modules and counted apart.
func TestSourceIsAtMost200Lines(t *testing.T) {
	for _, file := range []struct {
		path  string
		limit int
	}{{"c/speed.c", 200}, {"c/lacre.h", 50}} {
		b, err := os.ReadFile(file.path)
		if err != nil {
			t.Fatal(err)
		}
		if lines := strings.Count(string(b), "\n"); lines > file.limit {
			t.Errorf("%s has %d lines, at most %d", file.path, lines, file.limit)
		}
	}
}

// TestModuleUsesNoFloats reads every instruction of the code section.
func TestModuleUsesNoFloats(t *testing.T) {
	seen := opcodes(t, section(t, speed.Module(), 10))
	if len(seen) < 30 {
		t.Fatalf("only %d different opcodes found: the reader is wrong", len(seen))
	}
	for op := range seen {
		float := op == 0x2a || op == 0x2b || op == 0x38 || op == 0x39 || op == 0x43 || op == 0x44 ||
			op >= 0x5b && op <= 0x66 || op >= 0x8b && op <= 0xa6 || op >= 0xa8 && op <= 0xab ||
			op >= 0xae && op <= 0xbf
		if float || op > 0xbf || op == 0x11 || op == 0x40 {
			t.Errorf("opcode %#x is outside the profile", op)
		}
	}
}

// TestModuleShape checks what the ABI promises of exports, memory and sections.
func TestModuleShape(t *testing.T) {
	module := speed.Module()
	for _, id := range []byte{2, 8, 9, 11} { // import, start, element, data
		if s := section(t, module, id); s != nil {
			t.Errorf("section %d is present with %d bytes", id, len(s))
		}
	}
	if !bytes.Contains(section(t, module, 0), []byte("\x0clacre.module"+speed.Name+" "+speed.ModuleVersion)) {
		t.Error("the custom section lacre.module does not hold name and version")
	}
	if len(module) > 64*1024 {
		t.Errorf("module has %d bytes", len(module))
	}
	rt := wazero.NewRuntime(t.Context())
	defer rt.Close(t.Context())
	compiled, err := rt.CompileModule(t.Context(), module)
	if err != nil {
		t.Fatal(err)
	}
	exports := compiled.ExportedFunctions()
	for _, name := range []string{"abi_version", "input_ptr", "input_cap", "output_ptr", "output_cap", "measure"} {
		if exports[name] == nil {
			t.Errorf("%s is not exported", name)
		}
		delete(exports, name)
	}
	if len(exports) != 0 {
		t.Errorf("more is exported than the ABI allows: %v", exports)
	}
	memory := compiled.ExportedMemories()["memory"]
	highest, bounded := memory.Max()
	if memory.Min() != highest || !bounded || highest > 64 {
		t.Errorf("memory has %d to %d pages", memory.Min(), highest)
	}
	r := newRunner(t)
	if r.output+uint32(abi.OutputSize(speed.ValueCount)) > r.input {
		t.Errorf("output at %d does not lie below the input at %d", r.output, r.input)
	}
	if end := uint64(r.input) + uint64(r.capacity); r.capacity < 96+512*1024 || end > uint64(r.memory.Size()) {
		t.Errorf("input of %d bytes ends at %d of %d bytes of memory", r.capacity, end, r.memory.Size())
	}
}

// TestMalformedInputIsARefusal damages one header field at a time.
func TestMalformedInputIsARefusal(t *testing.T) {
	good := passOf512(t)
	word := func(at int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { binary.LittleEndian.PutUint32(b[at:], v); return b }
	}
	parameter := func(i int, v int64) func([]byte) []byte {
		return func(b []byte) []byte { binary.LittleEndian.PutUint64(b[32+8*i:], uint64(v)); return b }
	}
	for name, damage := range map[string]func([]byte) []byte{
		"empty": func([]byte) []byte { return nil }, "header only": func(b []byte) []byte { return b[:96] },
		"one byte short": func(b []byte) []byte { return b[:len(b)-1] },
		"one byte more":  func(b []byte) []byte { return append(b, 0) },
		"version":        word(0, 2), "header bytes": word(4, 104), "one channel": word(8, 1), "channels": word(8, 1<<31),
		"samples": word(12, 511), "many samples": word(12, 1<<31), "no rate": word(16, 0), "rate": word(20, 1<<31),
		"parameter count": word(24, 7), "reserved": word(28, 1),
		"spacing": parameter(0, 0), "spacing uncertainty": parameter(1, -1), "loop": parameter(2, 1<<40),
		"rise": parameter(3, 901), "fall above rise": parameter(4, 251), "snr": parameter(5, 0),
		"min speed": parameter(6, 0), "max below min": parameter(7, 1388),
	} {
		t.Run(name, func(t *testing.T) {
			out, err := abi.DecodeOutput(speed.Measure(damage(bytes.Clone(good))))
			if err != nil || out.Code != speed.MalformedInput || len(out.Values) != speed.ValueCount {
				t.Errorf("code %d with %d values (%v), want MALFORMED_INPUT", out.Code, len(out.Values), err)
			}
			for i, v := range out.Values {
				if v != 0 {
					t.Errorf("value %d is %d", i, v)
				}
			}
		})
	}
}

// TestSchemaMatchesIndices keeps the tables and the constants together.
func TestSchemaMatchesIndices(t *testing.T) {
	s := speed.Schema()
	if len(s.Parameters) != speed.ParameterCount || len(s.Values) != speed.ValueCount || len(s.Refusals) != int(speed.NoVehicle) {
		t.Fatalf("%d parameters, %d values, %d refusals", len(s.Parameters), len(s.Values), len(s.Refusals))
	}
	for i, r := range s.Refusals {
		if int(r.Code) != i+1 {
			t.Errorf("%s has code %d at place %d", r.Name, r.Code, i)
		}
	}
	if s.Values[speed.ValueLength].Name != "length" || s.Parameters[speed.ParameterMaxSpeed].Name != "max_speed" ||
		s.Refusals[speed.SpeedsDisagree-1].Name != "SPEEDS_DISAGREE" {
		t.Error("indices and schema disagree")
	}
}

// section returns the content of a module's first section of an id, or nil.
func section(t *testing.T, module []byte, id byte) []byte {
	t.Helper()
	for rest := module[8:]; len(rest) > 0; {
		size, n := binary.Uvarint(rest[1:])
		end := 1 + n + int(size)
		if rest[0] == id {
			return rest[1+n : end]
		}
		rest = rest[end:]
	}
	return nil
}

// opcodes returns every opcode in a code section of WebAssembly 1.0.
func opcodes(t *testing.T, code []byte) map[byte]bool {
	t.Helper()
	seen := map[byte]bool{}
	at := 0
	leb := func() (v uint64) {
		for shift := 0; ; shift += 7 {
			b := code[at]
			at++
			v |= uint64(b&0x7f) << shift
			if b < 0x80 {
				return v
			}
		}
	}
	for functions := leb(); functions > 0; functions-- {
		size := leb()
		end := at + int(size)
		for locals := leb(); locals > 0; locals-- {
			leb()
			at++
		}
		for at < end {
			op := code[at]
			at++
			seen[op] = true
			switch {
			case op == 0x02 || op == 0x03 || op == 0x04: // block type
				at++
			case op == 0x0e: // br_table
				for n := leb() + 1; n > 0; n-- {
					leb()
				}
			case op >= 0x28 && op <= 0x3e || op == 0x11: // memory access, call_indirect
				leb()
				leb()
			case op == 0x0c || op == 0x0d || op == 0x10 || op >= 0x20 && op <= 0x24 || op == 0x3f || op == 0x40 || op == 0x41 || op == 0x42:
				leb()
			case op == 0x43:
				at += 4
			case op == 0x44:
				at += 8
			}
		}
		if at != end {
			t.Fatalf("a function ends at %d, read up to %d", end, at)
		}
	}
	return seen
}
