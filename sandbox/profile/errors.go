package profile

import "fmt"

// Reason is the stable code of one rule of the profile. It is an error, so that
// errors.Is(err, profile.ReasonImport) works.
type Reason string

// Error implements error.
func (r Reason) Error() string { return "profile " + Version + ": " + string(r) }

// Reasons. Each names the rule that a module breaks.
const (
	ReasonModuleSize    Reason = "module_size"         // more than MaxModuleBytes
	ReasonMagic         Reason = "magic"               // not "\0asm" version 1
	ReasonTruncated     Reason = "truncated"           // the content ends too early
	ReasonInteger       Reason = "integer_encoding"    // LEB128 too long, out of range, or padded in the structure
	ReasonTrailing      Reason = "trailing_bytes"      // a section or body is longer than its content
	ReasonSectionOrder  Reason = "section_order"       // repeated or out of order
	ReasonSection       Reason = "section_forbidden"   // a section id outside the whitelist
	ReasonImport        Reason = "import_section"      // imports
	ReasonStart         Reason = "start_section"       // a start function
	ReasonElement       Reason = "element_section"     // table elements
	ReasonCustom        Reason = "custom_section"      // missing, another or a misplaced custom section
	ReasonIdentity      Reason = "module_identity"     // content of lacre.module is not "name 1.2.3"
	ReasonTable         Reason = "table"               // not the linker's inert table
	ReasonMemory        Reason = "memory"              // not exactly one memory with min = max in the limit
	ReasonType          Reason = "function_type"       // malformed or more than one result
	ReasonValueType     Reason = "value_type"          // anything but i32 and i64
	ReasonTypeCount     Reason = "type_count"          // more than MaxTypes
	ReasonFunctionCount Reason = "function_count"      // more than MaxFunctions, or functions without bodies
	ReasonGlobalCount   Reason = "global_count"        // more than MaxGlobals
	ReasonGlobal        Reason = "global"              // malformed global or initial value
	ReasonDataCount     Reason = "data_count"          // more than MaxDataSegments
	ReasonData          Reason = "data_segment"        // passive, out of order, overlapping or outside its range
	ReasonIndex         Reason = "index"               // refers to something that does not exist
	ReasonLocals        Reason = "locals"              // more than MaxLocals
	ReasonOpcode        Reason = "opcode"              // outside the whitelist
	ReasonNesting       Reason = "nesting"             // deeper than MaxNesting
	ReasonBlocks        Reason = "block_count"         // more than MaxBlocks in a function
	ReasonBranchTable   Reason = "branch_table"        // more than MaxBranchTable targets
	ReasonOperands      Reason = "operand_stack"       // higher than MaxOperands
	ReasonTypeMismatch  Reason = "type_mismatch"       // the validation algorithm found another type or height
	ReasonAlignment     Reason = "alignment"           // beyond the natural alignment
	ReasonImmutable     Reason = "immutable_global"    // global.set of a constant
	ReasonControl       Reason = "control_structure"   // else or end without its opening, if without else but with a result
	ReasonRecursion     Reason = "recursion"           // the call graph has a cycle
	ReasonExport        Reason = "export"              // not exactly the exports of the ABI
	ReasonSignature     Reason = "export_signature"    // an export of another type
	ReasonGetter        Reason = "getter_not_constant" // a getter that is more than one constant
	ReasonABIVersion    Reason = "abi_version"         // not 1
	ReasonInputRegion   Reason = "input_region"        // too small or outside memory
	ReasonOutputRegion  Reason = "output_region"       // too small, too large or not below the input region
)

// Reasons lists every reason, for documentation and for the test that breaks
// each rule once.
func Reasons() []Reason {
	return []Reason{
		ReasonModuleSize, ReasonMagic, ReasonTruncated, ReasonInteger, ReasonTrailing, ReasonSectionOrder,
		ReasonSection, ReasonImport, ReasonStart, ReasonElement, ReasonCustom, ReasonIdentity, ReasonTable,
		ReasonMemory, ReasonType, ReasonValueType, ReasonTypeCount, ReasonFunctionCount, ReasonGlobalCount,
		ReasonGlobal, ReasonDataCount, ReasonData, ReasonIndex, ReasonLocals, ReasonOpcode, ReasonNesting,
		ReasonBlocks, ReasonBranchTable, ReasonOperands, ReasonTypeMismatch, ReasonAlignment, ReasonImmutable,
		ReasonControl, ReasonRecursion, ReasonExport, ReasonSignature, ReasonGetter, ReasonABIVersion,
		ReasonInputRegion, ReasonOutputRegion,
	}
}

// Error says which rule a module breaks, where, and both sides of it.
type Error struct {
	Reason Reason
	Offset int    // byte offset in the module
	Have   string // what the module holds
	Want   string // what the profile requires
}

// Error implements error: "profile lacre/1: memory at byte 37: have .., want ..".
func (e *Error) Error() string {
	return fmt.Sprintf("%s at byte %d: have %s, want %s", e.Reason.Error(), e.Offset, e.Have, e.Want)
}

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Reason }

func sprint(format string, args ...any) string { return fmt.Sprintf(format, args...) }
