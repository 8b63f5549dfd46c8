package config

import (
	"bytes"
	"cmp"
	"fmt"
	"reflect"
	"slices"

	"go.yaml.in/yaml/v3"
)

// Example renders a configuration struct, usually filled with its defaults, as a YAML file that Decode accepts. The
// struct tag `doc:"..."` of a field becomes the comment above its key.
func Example(value any) ([]byte, error) {
	var document yaml.Node
	if err := document.Encode(value); err != nil {
		return nil, fmt.Errorf("render example: %w", err)
	}
	annotate(&document, reflect.TypeOf(value))
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(&document); err != nil {
		return nil, fmt.Errorf("render example: %w", err)
	}
	return out.Bytes(), encoder.Close()
}

// annotate puts the doc tags of a type over the keys of its encoded mapping.
func annotate(node *yaml.Node, of reflect.Type) {
	for of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	switch {
	case node.Kind == yaml.SequenceNode && (of.Kind() == reflect.Slice || of.Kind() == reflect.Array):
		for _, element := range node.Content {
			annotate(element, of.Elem())
		}
	case node.Kind == yaml.MappingNode && of.Kind() == reflect.Map:
		for i := 1; i < len(node.Content); i += 2 {
			annotate(node.Content[i], of.Elem())
		}
	case node.Kind == yaml.MappingNode && of.Kind() == reflect.Struct:
		for field := range of.Fields() {
			annotateField(node, field)
		}
	}
}

func annotateField(mapping *yaml.Node, field reflect.StructField) {
	key := keyOf(field)
	if key == "" {
		annotate(mapping, field.Type)
		return
	}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			mapping.Content[i].HeadComment = field.Tag.Get("doc")
			annotate(mapping.Content[i+1], field.Type)
		}
	}
}

func sortedKeys(value reflect.Value) []reflect.Value {
	return slices.SortedFunc(slices.Values(value.MapKeys()), func(a, b reflect.Value) int {
		return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b))
	})
}
