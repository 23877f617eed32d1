package planjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"unicode/utf8"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// maxExact is the largest number up to which a double holds all whole ones.
const maxExact = 1 << 53

// text is a string of any bytes.
type text string

// binary is the form of a string that is not UTF-8.
type binary struct {
	Base64 []byte `json:"base64"`
}

// MarshalJSON writes a JSON string if that loses nothing.
func (t text) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return marshal(string(t))
	}
	return marshal(binary{[]byte(t)})
}

// UnmarshalJSON reads both forms.
func (t *text) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '{' {
		var bin binary
		if err := unmarshal(b, &bin); err != nil {
			return err
		}
		*t = text(bin.Base64)
		return nil
	}
	return unmarshal(b, (*string)(t))
}

// marshal leaves <, > and & alone, which json.Marshal does not.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// fields are the fields of a call, in the order of the struct.
type fields struct {
	names  []string
	values map[string]json.RawMessage
}

// writeCall takes a call apart into its type and the fields that are not zero. Only
// types that can be read back are written.
func writeCall(c plan.Call) (string, *fields, error) {
	v := reflect.ValueOf(c)
	typ := v.Type().Name()
	if zero := linux.Zero(typ); zero == nil || reflect.TypeOf(zero) != v.Type() {
		return "", nil, fmt.Errorf("%s is no call type of package linux", v.Type())
	}
	f := &fields{values: make(map[string]json.RawMessage)}
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			continue
		}
		raw, err := writeValue(v.Field(i))
		if err != nil {
			return "", nil, fmt.Errorf("%s.%s: %w", typ, v.Type().Field(i).Name, err)
		}
		f.names = append(f.names, v.Type().Field(i).Name)
		f.values[v.Type().Field(i).Name] = raw
	}
	if len(f.names) == 0 {
		return typ, nil, nil
	}
	return typ, f, nil
}

func writeValue(v reflect.Value) (json.RawMessage, error) {
	switch v.Kind() {
	case reflect.String:
		return marshal(text(v.String()))
	case reflect.Bool:
		return marshal(v.Bool())
	case reflect.Int, reflect.Int64, reflect.Int32:
		n := v.Int()
		if n > maxExact || n < -maxExact {
			return marshal(strconv.FormatInt(n, 10))
		}
		return marshal(n)
	case reflect.Uint, reflect.Uint64, reflect.Uint32, reflect.Uint16:
		n := v.Uint()
		if n > maxExact {
			return marshal(strconv.FormatUint(n, 10))
		}
		return marshal(n)
	case reflect.Slice:
		list := make([]json.RawMessage, v.Len())
		for i := range list {
			raw, err := writeValue(v.Index(i))
			if err != nil {
				return nil, err
			}
			list[i] = raw
		}
		return marshal(list)
	}
	return nil, fmt.Errorf("a %s cannot be written down", v.Kind())
}

// MarshalJSON writes an object in the order of the names.
func (f *fields) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, name := range f.names {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(strconv.AppendQuote(b, name), ':')
		b = append(b, f.values[name]...)
	}
	return append(b, '}'), nil
}

// UnmarshalJSON keeps the values for fill.
func (f *fields) UnmarshalJSON(b []byte) error { return unmarshal(b, &f.values) }

// fill returns a copy of the zero call with the fields set.
func (f *fields) fill(zero plan.Call) (plan.Call, error) {
	v := reflect.New(reflect.TypeOf(zero)).Elem()
	for name, raw := range f.values {
		field := v.FieldByName(name)
		if !field.IsValid() {
			return nil, fmt.Errorf("%s has no field %q", v.Type().Name(), name)
		}
		if err := readValue(field, raw); err != nil {
			return nil, fmt.Errorf("%s.%s: %w", v.Type().Name(), name, err)
		}
	}
	return v.Interface().(plan.Call), nil
}

func readValue(v reflect.Value, raw json.RawMessage) error {
	switch v.Kind() {
	case reflect.String:
		var t text
		err := unmarshal(raw, &t)
		v.SetString(string(t))
		return err
	case reflect.Bool:
		var b bool
		err := unmarshal(raw, &b)
		v.SetBool(b)
		return err
	case reflect.Int, reflect.Int64, reflect.Int32:
		n, err := strconv.ParseInt(digits(raw), 10, v.Type().Bits())
		v.SetInt(n)
		return err
	case reflect.Uint, reflect.Uint64, reflect.Uint32, reflect.Uint16:
		n, err := strconv.ParseUint(digits(raw), 10, v.Type().Bits())
		v.SetUint(n)
		return err
	case reflect.Slice:
		var list []json.RawMessage
		if err := unmarshal(raw, &list); err != nil || list == nil {
			return err
		}
		v.Set(reflect.MakeSlice(v.Type(), len(list), len(list)))
		for i := range list {
			if err := readValue(v.Index(i), list[i]); err != nil {
				return fmt.Errorf("%d: %w", i, err)
			}
		}
		return nil
	}
	return fmt.Errorf("a %s cannot be read", v.Kind())
}

// digits are those of a number or of a string of digits.
func digits(raw json.RawMessage) string {
	return string(bytes.Trim(raw, `"`))
}
