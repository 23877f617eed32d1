// Package quickjson reads JSON text into Go values and writes them as JSON text, in less
// time than encoding/json when a process does it once.
//
// # Theory of operation
//
// encoding/json prepares encoders and decoders for every type that can be reached from
// the one that it is given, before it reads the first byte. That pays in a server. A
// program that reads one OCI configuration and ends would spend most of its reading on
// types that do not occur in the text. This package looks at a struct type when text
// for it turns up, and takes strings out of the text without copying them.
//
// Decode reads what RFC 8259 describes, and puts it where encoding/json would: fields go by
// their json tags, null empties pointers, slices and maps and leaves other values
// alone, unknown members are passed over, of equal members the last one counts, and
// what is no UTF-8 becomes U+FFFD. It differs in that names of members have to match
// exactly, not up to letter case. A test compares the two.
//
// What has to be filled may consist of structs, pointers, slices, maps with string
// keys, strings, booleans, numbers, empty interfaces, and structs that implement
// encoding.TextUnmarshaler and have no exported fields, as time.Time. Other types,
// such as bytes and embedded pointers, are an error when text for them turns up.
//
// Append writes values of the same types.
package quickjson

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// maxDepth bounds the nesting of text, and with it the stack.
const maxDepth = 1000

// Error says what is wrong with a text, and where.
type Error struct {
	// Pointer leads to the value (RFC 6901), empty for the whole.
	Pointer string
	// Offset counts the bytes before the place where reading ended.
	Offset int
	// Text says what was found or expected.
	Text string
}

// Error gives all three.
func (e *Error) Error() string {
	if e.Pointer == "" {
		return fmt.Sprintf("byte %d: %s", e.Offset, e.Text)
	}
	return fmt.Sprintf("%s (byte %d): %s", e.Pointer, e.Offset, e.Text)
}

// Decode fills the value that into points to. Strings in it share the memory of text.
// After an error, which is an *Error, the value may be filled in part.
func Decode(text string, into any) error { return DecodeUnless(text, into, nil, nil) }

// DecodeUnless is Decode, but where text for a value of type t turns up it asks known for that text first. If known says
// yes, the value stays as it is, and nobody looks at whether the text is JSON: known has to have seen it before. Of what
// is neither an object nor an array, the text that known gets may end anywhere.
func DecodeUnless(text string, into any, t reflect.Type, known func(text string) bool) error {
	d := decoder{text: text, aside: t, known: known}
	if err := d.value(reflect.ValueOf(into).Elem()); err != nil {
		return err
	}
	if d.space(); d.pos < len(d.text) {
		return d.fail("there is more text after the value")
	}
	return nil
}

type decoder struct {
	text  string
	pos   int
	depth int
	// aside and known: see DecodeUnless.
	aside reflect.Type
	known func(string) bool
}

// structs are the types that were looked at, for who reads a thousand texts of one type.
var structs struct {
	sync.Mutex
	fields map[reflect.Type][]field
}

// field is a field of a struct that members of an object go to.
type field struct {
	name string
	// index leads to it, through embedded structs if it has several elements.
	index               []int
	omitEmpty, omitZero bool
}

func (d *decoder) fail(text string) *Error { return &Error{Offset: d.pos, Text: text} }

// inside adds an element to the path of an error.
func inside(err *Error, name string) *Error {
	if err != nil {
		err.Pointer = "/" + strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1") + err.Pointer
	}
	return err
}

// value reads a value of any kind.
func (d *decoder) value(v reflect.Value) *Error {
	d.space()
	if d.aside != nil && v.Type() == d.aside {
		if end := d.end(); d.known(d.text[d.pos:end]) {
			d.pos = end
			return nil
		}
	}
	if strings.HasPrefix(d.text[d.pos:], "null") {
		d.pos += len("null")
		switch v.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
			v.SetZero()
		}
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		return d.value(v.Elem())
	case reflect.Struct:
		return d.structure(v)
	case reflect.Map:
		return d.dictionary(v)
	case reflect.Slice:
		return d.slice(v)
	case reflect.Interface:
		return d.any(v)
	}
	return d.scalar(v)
}

func (d *decoder) scalar(v reflect.Value) *Error {
	switch v.Kind() {
	case reflect.String:
		s, err := d.str()
		v.SetString(s)
		return err
	case reflect.Bool:
		b, err := d.boolean()
		v.SetBool(b)
		return err
	}
	begin := d.pos
	word, err := d.number()
	if err != nil {
		return err
	}
	ok := false
	switch {
	case v.CanInt():
		n, failed := strconv.ParseInt(word, 10, 64)
		if ok = failed == nil && !v.OverflowInt(n); ok {
			v.SetInt(n)
		}
	case v.CanUint():
		n, failed := strconv.ParseUint(word, 10, 64)
		if ok = failed == nil && !v.OverflowUint(n); ok {
			v.SetUint(n)
		}
	case v.CanFloat():
		n, failed := strconv.ParseFloat(word, v.Type().Bits())
		if ok = failed == nil; ok {
			v.SetFloat(n)
		}
	}
	if !ok {
		d.pos = begin
		return d.fail("the number " + word + " does not fit into " + v.Type().String())
	}
	return nil
}

// object reads an object and calls member at the value of each member.
func (d *decoder) object(member func(name string) *Error) *Error {
	return d.list('{', '}', "an object", func(int) *Error {
		d.space()
		name, err := d.str()
		if err != nil {
			return err
		}
		if d.space(); !d.take(':') {
			return d.fail(`":" is missing`)
		}
		return inside(member(name), name)
	})
}

// list reads what objects and arrays have in common: elements between brackets, with
// commas between them.
func (d *decoder) list(open, shut byte, what string, element func(i int) *Error) *Error {
	if !d.take(open) {
		return d.fail("expected " + what)
	}
	if d.depth++; d.depth > maxDepth {
		return d.fail("nested too deeply")
	}
	defer func() { d.depth-- }()
	if d.space(); d.take(shut) {
		return nil
	}
	for i := 0; ; i++ {
		if err := element(i); err != nil {
			return err
		}
		d.space()
		if d.take(shut) {
			return nil
		}
		if !d.take(',') {
			return d.fail(`"," is missing`)
		}
	}
}

var textType = reflect.TypeFor[encoding.TextUnmarshaler]()

func (d *decoder) structure(v reflect.Value) *Error {
	fields := fieldsOf(v.Type())
	if len(fields) == 0 && v.Addr().Type().Implements(textType) {
		s, err := d.str()
		if err != nil {
			return err
		}
		if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s)); err != nil {
			return d.fail(err.Error())
		}
		return nil
	}
	next := 0 // members mostly come in the order of the fields
	return d.object(func(name string) *Error {
		for i := range fields {
			f := &fields[(next+i)%len(fields)]
			if f.name == name {
				next += i + 1
				return d.value(v.FieldByIndex(f.index))
			}
		}
		return d.skip()
	})
}

// fieldsOf lists the fields of a struct type, once for each type.
func fieldsOf(t reflect.Type) []field {
	structs.Lock()
	defer structs.Unlock()
	list, known := structs.fields[t]
	if !known {
		list = appendFields(make([]field, 0, t.NumField()), t, nil)
		if structs.fields == nil {
			structs.fields = make(map[reflect.Type][]field, 32)
		}
		structs.fields[t] = list
	}
	return list
}

// appendFields adds the fields of a struct type that is found at outer. Those of
// embedded structs come last, and are hidden by fields of the same name before them.
func appendFields(list []field, t reflect.Type, outer []int) []field {
	var embedded []reflect.StructField
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
			embedded = append(embedded, f)
			continue
		case !f.IsExported(), name == "-":
			continue
		case name == "":
			name = f.Name
		}
		if !slices.ContainsFunc(list, func(l field) bool { return l.name == name }) {
			list = append(list, field{name, below(outer, f.Index), options == "omitempty", options == "omitzero"})
		}
	}
	for _, f := range embedded {
		list = appendFields(list, f.Type, below(outer, f.Index))
	}
	return list
}

// below joins the paths of a struct and of a field in it.
func below(outer, index []int) []int {
	if len(outer) == 0 {
		return index
	}
	return append(outer[:len(outer):len(outer)], index...)
}

func (d *decoder) dictionary(v reflect.Value) *Error {
	t := v.Type()
	if t.Key().Kind() != reflect.String {
		return d.fail("cannot be put into " + t.String())
	}
	if v.IsNil() {
		v.Set(reflect.MakeMap(t))
	}
	return d.object(func(name string) *Error {
		element := reflect.New(t.Elem()).Elem()
		err := d.value(element)
		if err == nil {
			v.SetMapIndex(reflect.ValueOf(name).Convert(t.Key()), element)
		}
		return err
	})
}

func (d *decoder) slice(v reflect.Value) *Error {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		return d.fail("cannot be put into " + v.Type().String())
	}
	n := d.count()
	v.Set(reflect.MakeSlice(v.Type(), n, n))
	return d.list('[', ']', "an array", func(i int) *Error {
		if i >= v.Len() {
			return d.fail("not an array") // count was deceived by what is no JSON
		}
		if err := d.value(v.Index(i)); err != nil {
			return inside(err, strconv.Itoa(i))
		}
		return nil
	})
}

// count counts the elements of the array that begins here, so that memory for them is
// taken once. Of text that is no JSON the number means nothing.
func (d *decoder) count() (n int) {
	depth, empty := 0, true
	for i := d.pos; i < len(d.text); i++ {
		switch c := d.text[i]; c {
		case ' ', '\t', '\r', '\n':
			continue
		case '[', '{':
			depth++
			if depth == 1 {
				continue
			}
		case ']', '}':
			if depth--; depth == 0 {
				if !empty {
					n++
				}
				return n
			}
		case ',':
			if depth == 1 {
				n++
			}
		case '"':
			i = d.quoted(i)
		}
		empty = false
	}
	return 0
}

// end finds the end of the object or array that begins here. Of other text it means nothing.
func (d *decoder) end() int {
	depth := 0
	for i := d.pos; i < len(d.text); i++ {
		switch d.text[i] {
		case '[', '{':
			depth++
		case ']', '}':
			if depth--; depth <= 0 {
				return i + 1
			}
		case '"':
			i = d.quoted(i)
		}
	}
	return len(d.text)
}

// quoted finds the end of the string that begins at i: its last quotation mark, or the
// end of the text. Most strings have no other mark in them.
func (d *decoder) quoted(i int) int {
	for {
		n := strings.IndexByte(d.text[i+1:], '"')
		if n < 0 {
			return len(d.text)
		}
		begin := i + 1
		i += n + 1
		escapes := 0
		for i-1-escapes >= begin && d.text[i-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return i
		}
	}
}

// any reads a value into an empty interface, as encoding/json does.
func (d *decoder) any(v reflect.Value) *Error {
	if v.NumMethod() > 0 {
		return d.fail("cannot be put into " + v.Type().String())
	}
	var target reflect.Value
	switch d.peek() {
	case '{':
		target = reflect.New(reflect.TypeFor[map[string]any]()).Elem()
	case '[':
		target = reflect.New(reflect.TypeFor[[]any]()).Elem()
	case '"':
		target = reflect.New(reflect.TypeFor[string]()).Elem()
	case 't', 'f':
		target = reflect.New(reflect.TypeFor[bool]()).Elem()
	default:
		target = reflect.New(reflect.TypeFor[float64]()).Elem()
	}
	err := d.value(target)
	if err == nil {
		v.Set(target)
	}
	return err
}

// skip passes over a value.
func (d *decoder) skip() (err *Error) {
	d.space()
	switch d.peek() {
	case '{':
		return d.object(func(string) *Error { return d.skip() })
	case '[':
		return d.list('[', ']', "an array", func(int) *Error { return d.skip() })
	case '"':
		_, err = d.str()
	case 't', 'f':
		_, err = d.boolean()
	case 'n':
		if !strings.HasPrefix(d.text[d.pos:], "null") {
			return d.fail("expected a value")
		}
		d.pos += len("null")
	default:
		_, err = d.number()
	}
	return err
}
