package wire

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	ingestv1 "github.com/lacre-metrology/lacre/gen/lacre/ingest/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// pageWidth is where the page's tables of fields break, in columns.
const pageWidth = 110

// The tables of messages on the page on formats are the descriptors', so that
// nobody needs the .proto files to read or write one.
func TestB1_FormatsPageHasEveryField(t *testing.T) {
	page, err := os.ReadFile("../../docs/formats.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, files := range map[string][]protoreflect.FileDescriptor{
		"records": {
			recordv1.File_lacre_record_v1_measurement_proto, recordv1.File_lacre_record_v1_record_proto,
			recordv1.File_lacre_record_v1_statement_proto, recordv1.File_lacre_record_v1_bundle_proto,
			recordv1.File_lacre_record_v1_completeness_proto, recordv1.File_lacre_record_v1_configurations_proto,
		},
		"transport": {ingestv1.File_lacre_ingest_v1_ingest_proto},
	} {
		var lines []string
		for _, file := range files {
			for i := range file.Messages().Len() {
				lines = append(lines, describe(file.Messages().Get(i))...)
			}
			for i := range file.Enums().Len() {
				lines = append(lines, describeEnum(file.Enums().Get(i))...)
			}
		}
		if want := "```\n" + strings.Join(lines, "\n") + "\n```\n"; !strings.Contains(string(page), want) {
			t.Errorf("docs/formats.md does not hold the tables of the %s:\n%s", name, want)
		}
	}
}

// describe is "Message: number name type, ..", a list's type with a star.
func describe(m protoreflect.MessageDescriptor) []string {
	var fields []string
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		kind := f.Kind().String()
		switch f.Kind() {
		case protoreflect.MessageKind:
			kind = string(f.Message().Name())
		case protoreflect.EnumKind:
			kind = string(f.Enum().Name())
		}
		if f.IsList() {
			kind += "*"
		}
		fields = append(fields, fmt.Sprintf("%d %s %s", f.Number(), f.Name(), kind))
	}
	return wrap(string(m.Name())+":", fields)
}

// describeEnum is "enum Name: number VALUE, ..", without the prefix that all share.
func describeEnum(e protoreflect.EnumDescriptor) []string {
	var values []string
	prefix := strings.TrimSuffix(string(e.Values().Get(0).Name()), "UNSPECIFIED")
	for i := 1; i < e.Values().Len(); i++ {
		v := e.Values().Get(i)
		values = append(values, fmt.Sprintf("%d %s", v.Number(), strings.TrimPrefix(string(v.Name()), prefix)))
	}
	return wrap("enum "+string(e.Name())+":", values)
}

func wrap(line string, words []string) (lines []string) {
	for i, word := range words {
		if i < len(words)-1 {
			word += ","
		}
		if len(line)+1+len(word) > pageWidth {
			lines, line = append(lines, line), "   "
		}
		line += " " + word
	}
	return append(lines, line)
}
