package statement

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/record"
)

// Text is all that a statement says, for whoever signs it: every field that is
// in the bytes, once, and nothing besides. A statement that is not in its one
// form, or of no known type, has no text.
func Text(e *envelope.Envelope) (string, error) {
	var b strings.Builder
	if e.PayloadType == record.TypeApproval {
		a, err := approval.Parse(e.Payload)
		if err != nil {
			return "", err
		}
		writeApproval(&b, a)
		return b.String(), nil
	}
	m := record.NewMessage(e.PayloadType)
	if m == nil {
		return "", fmt.Errorf("nobody can read a statement of type %.80q here", e.PayloadType)
	}
	if err := record.Decode(e.Payload, record.MaxBytes, m); err != nil {
		return "", err
	}
	fmt.Fprintf(&b, "%s\n", m.ProtoReflect().Descriptor().Name())
	writeMessage(&b, m.ProtoReflect(), "  ")
	return b.String(), nil
}

func writeApproval(b *strings.Builder, a *approval.Approval) {
	row := func(name, format string, args ...any) {
		fmt.Fprintf(b, "  %-19s %s\n", name, fmt.Sprintf(format, args...))
	}
	b.WriteString("TYPE APPROVAL of an algorithm\n")
	row("module", "%s %s", a.ModuleName, a.ModuleVersion)
	row("SHA-256", "%s", a.Module)
	row("manufacturer", "%s", a.Manufacturer.Name)
	row("  its key", "%s %x", a.Manufacturer.Key.Kind(), a.Manufacturer.Key.Raw())
	row("notified body", "%s", a.NotifiedBody)
	row("valid from", "%s", seconds(a.NotBeforeUnix))
	row("valid until", "%s (no capture from then on)", seconds(a.NotAfterUnix))
	row("endorsement policy", "%s", a.Policy)
	row("", "%d organisations suffice to collude", a.Policy.Fewest())
	row("test report", "SHA-256 %s", a.TestReport)
	row("disclosure", "%s", a.Disclosure)
	row("sandbox profile", "%d", a.ProfileVersion)
	row("fuel limit", "%d for one run", a.FuelLimit)
	for _, list := range []struct {
		name   string
		fields []approval.Field
	}{{"parameter", a.Schema.Parameters}, {"value", a.Schema.Values}} {
		for i, f := range list.fields {
			row(fmt.Sprintf("%s %d", list.name, i), "%s in %s x 10^%d", f.Name, f.Unit, f.Scale)
		}
	}
	for _, r := range a.Schema.Refusals {
		row("refusal code", "%d %s", r.Code, r.Name)
	}
	row("network", "%s", a.NetworkID)
	row("statement", "%d on %s", a.Sequence, a.Subject())
	if a.Predecessor != digest.Zero {
		row("predecessor", "%s", a.Predecessor)
	}
	row("issued at", "%s (the signer's clock; it decides nothing)", seconds(a.IssuedAtUnix))
}

func seconds(unix int64) string { return time.Unix(unix, 0).UTC().Format(time.RFC3339) }

// Word is an enum's value as people write it: ALGORITHM_ACTION_SUSPEND is
// "suspend"; of a value without a name the number.
func Word(e protoreflect.Enum) string { return word(e.Descriptor(), e.Number()) }

// word takes off what all names of an enum begin with: Buf's lint has the first
// one end in UNSPECIFIED behind it.
func word(d protoreflect.EnumDescriptor, number protoreflect.EnumNumber) string {
	value := d.Values().ByNumber(number)
	if value == nil {
		return fmt.Sprint(number)
	}
	prefix := strings.TrimSuffix(string(d.Values().Get(0).Name()), "UNSPECIFIED")
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(string(value.Name()), prefix), "_", " "))
}

// writeMessage writes the fields that are set, in the order of the schema; in the
// one form of the ledger a field that is not set has its zero value.
func writeMessage(b *strings.Builder, m protoreflect.Message, indent string) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !m.Has(f) {
			continue
		}
		if !f.IsList() {
			writeValue(b, f, m.Get(f), indent)
			continue
		}
		list := m.Get(f).List()
		for j := range list.Len() {
			writeValue(b, f, list.Get(j), indent)
		}
	}
}

func writeValue(b *strings.Builder, f protoreflect.FieldDescriptor, v protoreflect.Value, indent string) {
	name := indent + strings.ReplaceAll(string(f.Name()), "_", " ")
	switch {
	case f.Kind() == protoreflect.MessageKind:
		fmt.Fprintf(b, "%s:\n", name)
		writeMessage(b, v.Message(), indent+"  ")
		return
	case f.Kind() == protoreflect.BytesKind:
		fmt.Fprintf(b, "%s: %s\n", name, hex.EncodeToString(v.Bytes()))
	case f.Kind() == protoreflect.EnumKind:
		fmt.Fprintf(b, "%s: %s\n", name, word(f.Enum(), v.Enum()))
	case strings.HasSuffix(string(f.Name()), "_unix_nano"):
		fmt.Fprintf(b, "%s: %s\n", strings.TrimSuffix(name, " unix nano"), time.Unix(0, v.Int()).UTC().Format(time.RFC3339Nano))
	case f.Kind() == protoreflect.StringKind: // quoted: a line of it must not pass for a field
		fmt.Fprintf(b, "%s: %q\n", name, v.String())
	default:
		fmt.Fprintf(b, "%s: %v\n", name, v.Interface())
	}
}
