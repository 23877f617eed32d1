package quickjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/seccomp/profile"
)

// example has a member of every kind.
type example struct {
	Text    string             `json:"text"`
	Flag    bool               `json:"flag,omitempty"`
	Small   int8               `json:"small"`
	Natural uint32             `json:"natural"`
	Real    float32            `json:"real"`
	Words   []string           `json:"words"`
	Inner   *example           `json:"inner"`
	List    []example          `json:"list"`
	Map     map[string]string  `json:"map"`
	Deep    map[string]example `json:"deep"`
	Pointer *int               `json:"pointer"`
	Any     any                `json:"any"`
	When    time.Time          `json:"when"`
	Untold  string             `json:"-"`
	Untag   string
	Ended   time.Time `json:"ended,omitzero"`
	Part    embedded  `json:"part,omitzero"`
	//lint:ignore U1000 it must be passed over
	hidden string
	embedded
}

// embedded is hidden, but its fields are not.
type embedded struct {
	Text string `json:"text"` // behind the other text
	Base int    `json:"base"`
}

var texts = []string{
	``, ` `, `{`, `{}`, `[]`, `nul`, `null`, ` null `, `true`, `{}{}`, `{} x`,
	`{"text":"a","flag":true,"small":-128,"natural":4294967295,"real":1.5e-3,"words":["x","y"]}`,
	"\t{ \"text\" :\r\n\"a\" , \"words\" : [ \"x\" , \"y\" ] } ",
	`{"inner":{"inner":{"text":"deep"}},"list":[{},{"text":"second"},{"list":[{}]}]}`,
	`{"map":{"a":"b","":""},"deep":{"k":{"text":"v"}},"pointer":7}`,
	`{"any":{"a":[1,-2.5,true,null,"s",{"b":[]}]}}`,
	`{"any":[]}`, `{"any":"x"}`, `{"any":12e2}`, `{"any":false}`, `{"any":null}`,
	`{"when":"2026-01-02T03:04:05.678Z"}`, `{"when":"yesterday"}`, `{"when":5}`, `{"when":null}`, `{"ended":"2026-01-02T03:04:05Z","part":{"base":1}}`,
	`{"text":null,"flag":null,"small":null,"words":null,"inner":null,"map":null,"pointer":null}`,
	`{"words":[]}`, `{"words":[ ]}`, `{"words":[null,"a"]}`, `{"list":[null]}`,
	`{"text":"a","text":"b"}`, `{"map":{"a":"1","a":"2"}}`, `{"inner":{"text":"a"},"inner":{"small":1}}`,
	`{"Untold":"x","-":"y","Untag":"z","hidden":"h","unknown":{"a":[1,{"b":null}],"c":"d"}}`,
	`{"base":5,"text":"outer"}`, `{"embedded":{"base":5}}`,
	`{"unknown":tru}`, `{"unknown":nul}`, `{"unknown":[1,]}`, `{"unknown":{"a"}}`, `{"unknown":-}`, `{"unknown":01}`,
	`{"text":"\"\\\/\b\f\n\r\t\u00e9\uD83D\uDE00"}`, `{"text":"\ud83d"}`, `{"text":"\ud83dx\ude00"}`, `{"text":"\ud83d\u0041"}`, `{"text":"\ud83d\n"}`,
	`{"text":"\x"}`, `{"text":"\u12"}`, `{"text":"\u12g4"}`, `{"text":"\`, `{"text":"a`, "{\"text\":\"a\nb\"}", "{\"text\":\"\x00\"}",
	"{\"text\":\"\xff\xfea\"}", "{\"text\":\"é😀\"}", "{\"text\":\"\\n\x01\"}", "{\"\xff\":1}",
	`{"small":128}`, `{"small":1.0}`, `{"small":1e2}`, `{"small":"1"}`, `{"natural":-1}`, `{"natural":4294967296}`, `{"real":1e99}`, `{"any":1e999}`,
	`{"small":+1}`, `{"small":.5}`, `{"real":1.}`, `{"real":1e}`, `{"real":-0}`, `{"real":1E+2}`,
	`{"text":1}`, `{"text":{}}`, `{"flag":"true"}`, `{"words":"x"}`, `{"words":{}}`, `{"words":["a" "b"]}`, `{"words":["a",]}`, `{"words":[,]}`, `{"words":["a]"`,
	`{"words":["a","b"}`, `{"words":[[],{}]}`, `{"map":[]}`, `{"map":{"a":1}}`, `{"inner":[]}`, `{"list":{}}`, `{"text" "a"}`, `{text:"a"}`, `{"text":"a",}`, `{,}`,
}

// Texts are read as encoding/json reads them, and refused when it refuses them.
func TestDecodesAsEncodingJSON(t *testing.T) {
	for _, text := range texts {
		compare(t, text, new(example), new(example))
		compare(t, text, new(any), new(any))
	}
}

func compare(t *testing.T, text string, got, want any) {
	t.Helper()
	err, wantErr := Decode(text, got), json.Unmarshal([]byte(text), want)
	if (err == nil) != (wantErr == nil) {
		t.Errorf("%q: error %v, encoding/json says %v", text, err, wantErr)
		return
	}
	if err == nil && !reflect.DeepEqual(got, want) {
		t.Errorf("%q:\n%+v, encoding/json reads\n%+v", text, got, want)
	}
}

// A type can be left out where its text is known. Nobody who says no changes what is read, and nobody who says yes
// changes what is read of the rest.
func TestDecodesUnlessKnown(t *testing.T) {
	for _, text := range texts {
		got, want := new(example), new(example)
		err := DecodeUnless(text, got, reflect.TypeFor[*example](), func(string) bool { return false })
		wantErr := Decode(text, want)
		if (err == nil) != (wantErr == nil) || err == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("%q:\n%+v, %v; without a question\n%+v, %v", text, got, err, want, wantErr)
		}
	}
	for text, want := range map[string]string{
		`{"inner":{"text":"}]\"","words":[{}]},"text":"a"}`: `{"text":"}]\"","words":[{}]}`,
		`{"inner" : {"map":{"a":"b"}} ,"text":"a"}`:         `{"map":{"a":"b"}}`,
		`{"inner":{},"text":"a"}`:                           `{}`,
	} {
		var asked []string
		got := new(example)
		err := DecodeUnless(text, got, reflect.TypeFor[*example](), func(text string) bool { asked = append(asked, text); return true })
		if err != nil || len(asked) != 1 || asked[0] != want || got.Inner != nil || got.Text != "a" {
			t.Errorf("%q: %v, asked for %q, read %+v", text, err, asked, got)
		}
	}
	for _, text := range []string{`{"inner":{"text":`, `{"inner":{"text":"a`, `{"inner":[[[`, `{"inner"`, `{"inner":`, `{"inner":}`} {
		if err := DecodeUnless(text, new(example), reflect.TypeFor[*example](), func(string) bool { return true }); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, text := range texts {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Count(text, "[")+strings.Count(text, "{") >= maxDepth {
			t.Skip("skipped: encoding/json takes deeper texts")
		}
		compare(t, text, new(any), new(any))
	})
}

// Every type that an OCI configuration is made of can be filled, and comes out the same
// as with encoding/json. The text has each field once, with a value that is not zero.
func TestDecodesEveryFieldOfASpec(t *testing.T) {
	want := new(specs.Spec)
	fill(reflect.ValueOf(want).Elem(), 0)
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, string(text), new(specs.Spec), new(specs.Spec))
	if len(text) < 6900 {
		t.Errorf("the text has only %d bytes: fields are missing", len(text))
	}
}

// fill gives every field a value.
func fill(v reflect.Value, depth int) {
	switch {
	case depth > 12:
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), depth+1)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), depth+1)
		}
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), depth+1)
		fill(v.Index(1), depth+1)
	case v.Kind() == reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		element := reflect.New(v.Type().Elem()).Elem()
		fill(element, depth+1)
		v.SetMapIndex(reflect.ValueOf("key").Convert(v.Type().Key()), element)
	case v.Kind() == reflect.String:
		v.SetString("word")
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.CanInt():
		v.SetInt(7)
	case v.CanUint():
		v.SetUint(8)
	case v.CanFloat():
		v.SetFloat(0.5)
	case v.Kind() == reflect.Interface:
		v.Set(reflect.ValueOf("any"))
	}
}

// What is written is read as what it was, by encoding/json and by us.
func TestAppends(t *testing.T) {
	for _, text := range texts {
		for _, want := range []any{new(example), new(any)} {
			if Decode(text, want) != nil {
				continue
			}
			appended(t, want)
		}
	}
	spec := new(specs.Spec)
	fill(reflect.ValueOf(spec).Elem(), 0)
	appended(t, spec)
	appended(t, new(specs.Spec))
	appended(t, &example{Text: "\x00\x1f\"\\/<é😀\x7f\u2028", Real: 1e30, When: time.Unix(1, 5).UTC(), Any: 1e-9})
}

func appended(t *testing.T, want any) {
	t.Helper()
	text, err := Append(nil, want)
	if err != nil {
		t.Errorf("%+v: %v", want, err)
		return
	}
	compare(t, string(text), reflect.New(reflect.TypeOf(want).Elem()).Interface(), reflect.New(reflect.TypeOf(want).Elem()).Interface())
	ours, theirs := new(any), new(any)
	other, err := json.Marshal(want)
	if err := errors.Join(err, json.Unmarshal(text, ours), json.Unmarshal(other, theirs)); err != nil {
		t.Error(err)
	}
	if !reflect.DeepEqual(ours, theirs) {
		t.Errorf("%+v is written as\n%s\nand by encoding/json as\n%s", want, text, other)
	}
}

// What is spread over lines looks as encoding/json spreads it.
func TestIndents(t *testing.T) {
	values := []any{map[string]any{}, []any{}, map[string]any{"a": []any{}, "b": map[string]any{}, "c": []any{1, "x", nil, []any{true}}},
		[]any{`{"[,:`, `\`, `"`, `\"`, `a\\`, map[string]any{`k"\`: `,`}}, "text", 1}
	spec := new(specs.Spec)
	fill(reflect.ValueOf(spec).Elem(), 0)
	for _, v := range append(values, spec) {
		text, err := Append(nil, v)
		if err != nil {
			t.Fatal(err)
		}
		var want bytes.Buffer
		if err := json.Indent(&want, text, "", "  "); err != nil {
			t.Fatal(err)
		}
		if got := Indent([]byte("> "), text, "  "); string(got) != "> "+want.String() {
			t.Errorf("%s is spread as\n%s\nwant\n%s", text, got, &want)
		}
	}
}

func TestAppendRefuses(t *testing.T) {
	type circle struct{ Next *circle }
	c := new(circle)
	c.Next = c
	for name, v := range map[string]any{
		"infinity": math.Inf(1), "bytes": []byte("a"), "numbered": map[int]string{}, "channel": make(chan int), "circle": c,
	} {
		if text, err := Append(nil, v); err == nil {
			t.Errorf("%s: written as %s, want an error", name, text)
		}
	}
}

func TestErrorsSayWhere(t *testing.T) {
	for text, want := range map[string]string{
		`{"list":[{},{"deep":{"a/b~c":{"words":[1]}}}]}`: "/list/1/deep/a~1b~0c/words/0 (byte 39): expected a string",
		`{"small":300}`: "/small (byte 9): the number 300 does not fit into int8",
		`[`:             "byte 0: expected an object",
	} {
		var e *Error
		if err := Decode(text, new(example)); !errors.As(err, &e) || e.Error() != want {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func TestRefuses(t *testing.T) {
	var bytes struct{ B []byte }
	if err := Decode(`{"B":"AA=="}`, &bytes); err == nil {
		t.Error("bytes: no error")
	}
	var numbered map[int]string
	if err := Decode(`{"1":"a"}`, &numbered); err == nil {
		t.Error("a map with numbers for keys: no error")
	}
	for open, shut := range map[string]string{"[": "]", `{"a":`: "}"} {
		text := strings.Repeat(open, maxDepth+1) + "1" + strings.Repeat(shut, maxDepth+1)
		if err := Decode(text, new(any)); err == nil || !strings.Contains(err.Error(), "deep") {
			t.Errorf("%q repeated: error %v, want one about the depth", open, err)
		}
	}
}

// full is a configuration as containers mostly have it.
func full(b *testing.B) string {
	spec := &specs.Spec{Linux: &specs.Linux{Seccomp: profile.Default(profile.Target{})}}
	text, err := json.Marshal(spec)
	if err != nil {
		b.Fatal(err)
	}
	return string(text)
}

func BenchmarkDecode(b *testing.B) {
	text := full(b)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if err := Decode(text, new(specs.Spec)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodingJSON(b *testing.B) {
	text := []byte(full(b))
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if err := json.Unmarshal(text, new(specs.Spec)); err != nil {
			b.Fatal(err)
		}
	}
}
