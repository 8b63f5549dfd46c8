// Package config reads a service's configuration from YAML into its typed struct, and writes the example file from the
// same struct.
//
// Source: YAML 1.2.2; house rules, "Configuration".
//
// Invariants:
//   - a key that no field names, or that appears twice, is an error: a misspelt limit must not mean "no limit";
//   - all errors are reported at once, each with its line or its path;
//   - what the file does not mention keeps the value that the caller put there (the default).
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Validator is implemented by a configuration struct, or any struct inside it, that has rules beyond its types.
// Validate returns all violations joined (errors.Join), naming fields as the YAML does.
type Validator interface {
	Validate() error
}

// Load reads the file at path over the values already in into, a pointer to a struct, and validates the result.
// Secrets are never in the file: it holds their paths.
func Load(path string, into any) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if err := Decode(content, into); err != nil {
		return fmt.Errorf("configuration %s: %w", path, err)
	}
	return nil
}

// Decode is Load for content already in memory. An empty document changes nothing; a second document is an error. The
// error joins everything that is wrong, in the order of the lines; what is missing has no line and comes first.
func Decode(content []byte, into any) error {
	var document yaml.Node
	if err := yaml.Unmarshal(content, &document); err != nil && !isTypeError(err) {
		return err // not YAML: there is nothing more to look at
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	var problems []problem
	if err := decoder.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		if !isTypeError(err) {
			return err
		}
		problems = typeProblems(err)
	}
	if err := decoder.Decode(new(any)); !errors.Is(err, io.EOF) {
		problems = append(problems, problem{err: errors.New("a second YAML document follows the first, expected one")})
	}
	return joinByLine(problems, ruleProblems(&document, violations(reflect.ValueOf(into), "")))
}

// Validate calls Validate on the value and on every struct within it, and joins what they return, each with the path
// of YAML keys that leads to it.
func Validate(value any) error {
	return errors.Join(violations(reflect.ValueOf(value), "")...)
}

func violations(value reflect.Value, path string) []error {
	var found []error
	switch value.Kind() {
	case reflect.Pointer, reflect.Interface:
		if value.IsNil() {
			return nil
		}
		return violations(value.Elem(), path)
	case reflect.Struct:
		for field, sub := range value.Fields() {
			if field.IsExported() {
				found = append(found, violations(sub, join(path, keyOf(field)))...)
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range value.Len() {
			found = append(found, violations(value.Index(i), fmt.Sprintf("%s[%d]", path, i))...)
		}
	case reflect.Map:
		for _, key := range sortedKeys(value) {
			found = append(found, violations(value.MapIndex(key), join(path, fmt.Sprint(key)))...)
		}
	default:
	}
	return append(found, own(value, path)...)
}

// own calls the value's Validate, declared on the value or on its pointer.
func own(value reflect.Value, path string) []error {
	validator, ok := value.Interface().(Validator)
	if !ok && value.CanAddr() {
		validator, ok = value.Addr().Interface().(Validator)
	}
	if !ok {
		return nil
	}
	err := validator.Validate()
	if err == nil {
		return nil
	}
	failures := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		failures = joined.Unwrap()
	}
	if path == "" {
		return failures
	}
	for i, failure := range failures {
		failures[i] = fmt.Errorf("%s: %w", path, failure)
	}
	return failures
}

// keyOf is the YAML key of a field; "" for an inlined one.
func keyOf(field reflect.StructField) string {
	name, options, _ := strings.Cut(field.Tag.Get("yaml"), ",")
	if strings.Contains(options, "inline") {
		return ""
	}
	if name == "" {
		return strings.ToLower(field.Name)
	}
	return name
}

func join(path, key string) string {
	if path == "" || key == "" {
		return path + key
	}
	return path + "." + key
}
