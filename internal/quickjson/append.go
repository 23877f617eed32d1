package quickjson

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Append adds a value as JSON text. It takes what Decode fills; structs without
// exported fields have to implement encoding.TextMarshaler. Members come in the order
// of the fields, those of embedded structs last, and of a map in the order of the
// keys; omitempty and omitzero are heeded, and what is no UTF-8 becomes U+FFFD. Values that go in a
// circle, and others than those, are an error.
func Append(dst []byte, value any) ([]byte, error) {
	e := encoder{out: dst, structs: make(map[reflect.Type][]field)}
	err := e.value(reflect.ValueOf(value))
	return e.out, err
}

type encoder struct {
	out     []byte
	depth   int
	structs map[reflect.Type][]field
}

func (e *encoder) value(v reflect.Value) error {
	if e.depth++; e.depth > maxDepth {
		return errors.New("json: nested too deeply")
	}
	defer func() { e.depth-- }()
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			break
		}
		return e.value(v.Elem())
	case reflect.Struct:
		return e.structure(v)
	case reflect.Map:
		return e.dictionary(v)
	case reflect.Slice:
		return e.slice(v)
	case reflect.Invalid:
	default:
		return e.scalar(v)
	}
	e.out = append(e.out, "null"...)
	return nil
}

func (e *encoder) scalar(v reflect.Value) error {
	switch {
	case v.Kind() == reflect.String:
		e.out = appendString(e.out, v.String())
	case v.Kind() == reflect.Bool:
		e.out = strconv.AppendBool(e.out, v.Bool())
	case v.CanInt():
		e.out = strconv.AppendInt(e.out, v.Int(), 10)
	case v.CanUint():
		e.out = strconv.AppendUint(e.out, v.Uint(), 10)
	case v.CanFloat() && !math.IsInf(v.Float(), 0) && !math.IsNaN(v.Float()):
		e.out = strconv.AppendFloat(e.out, v.Float(), 'g', -1, v.Type().Bits())
	default:
		return fmt.Errorf("json: cannot be written: %s", v.Type())
	}
	return nil
}

func (e *encoder) structure(v reflect.Value) error {
	fields, known := e.structs[v.Type()]
	if !known {
		fields = appendFields(make([]field, 0, v.NumField()), v.Type(), nil)
		e.structs[v.Type()] = fields
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok && len(fields) == 0 {
		text, err := m.MarshalText()
		e.out = appendString(e.out, string(text))
		return err
	}
	e.out = append(e.out, '{')
	first := true
	for i := range fields {
		f := &fields[i]
		value := v.FieldByIndex(f.index)
		if f.omitEmpty && isEmpty(value) || f.omitZero && isZero(value) {
			continue
		}
		e.member(f.name, &first)
		if err := e.value(value); err != nil {
			return err
		}
	}
	e.out = append(e.out, '}')
	return nil
}

// member begins a member of an object.
func (e *encoder) member(name string, first *bool) {
	if !*first {
		e.out = append(e.out, ',')
	}
	*first = false
	e.out = append(appendString(e.out, name), ':')
}

// isEmpty is what omitempty means: false, 0, nil, and what has the length 0.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

// isZero is what omitzero means.
func isZero(v reflect.Value) bool {
	if z, ok := v.Interface().(interface{ IsZero() bool }); ok {
		return z.IsZero()
	}
	return v.IsZero()
}

func (e *encoder) dictionary(v reflect.Value) error {
	switch {
	case v.Type().Key().Kind() != reflect.String:
		return fmt.Errorf("json: cannot be written: %s", v.Type())
	case v.IsNil():
		e.out = append(e.out, "null"...)
		return nil
	}
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	e.out = append(e.out, '{')
	first := true
	for _, key := range keys {
		e.member(key.String(), &first)
		if err := e.value(v.MapIndex(key)); err != nil {
			return err
		}
	}
	e.out = append(e.out, '}')
	return nil
}

func (e *encoder) slice(v reflect.Value) error {
	switch {
	case v.Type().Elem().Kind() == reflect.Uint8:
		return fmt.Errorf("json: cannot be written: %s", v.Type())
	case v.IsNil():
		e.out = append(e.out, "null"...)
		return nil
	}
	e.out = append(e.out, '[')
	for i := range v.Len() {
		if i > 0 {
			e.out = append(e.out, ',')
		}
		if err := e.value(v.Index(i)); err != nil {
			return err
		}
	}
	e.out = append(e.out, ']')
	return nil
}

// appendString writes a string: everything but quotes, backslashes and control
// characters stands for itself.
func appendString(dst []byte, s string) []byte {
	dst = append(slices.Grow(dst, len(s)+2), '"')
	plain := 0 // so many bytes are as they are
	for plain < len(s) && s[plain] >= ' ' && s[plain] < utf8.RuneSelf && s[plain] != '"' && s[plain] != '\\' {
		plain++
	}
	dst, s = append(dst, s[:plain]...), s[plain:]
	for i, r := range s {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r < ' ':
			const hex = "0123456789abcdef"
			dst = append(dst, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		case r < utf8.RuneSelf:
			dst = append(dst, s[i])
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}
