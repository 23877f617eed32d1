package planjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

var update = flag.Bool("update", false, "write the golden files anew")

// callTypes reads the sources of package linux for the types that have the methods
// of a call; a list of them in Go would be one more to forget.
func callTypes(t *testing.T) []string {
	t.Helper()
	const dir = "../linux"
	names, err := filepath.Glob(dir + "/*.go")
	if err != nil || len(names) == 0 {
		t.Fatalf("no sources in %s: %v", dir, err)
	}
	var types []string
	for _, name := range names {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv != nil && f.Name.Name == "AppendArgs" {
				types = append(types, f.Recv.List[0].Type.(*ast.Ident).Name)
			}
		}
	}
	return types
}

func TestEveryCallTypeIsKnown(t *testing.T) {
	types := callTypes(t)
	if len(types) < 60 {
		t.Errorf("only %d call types found", len(types))
	}
	for _, name := range types {
		zero := linux.Zero(name)
		if zero == nil {
			t.Errorf("linux.Zero does not know the call type %s", name)
		} else if got := reflect.TypeOf(zero).Name(); got != name {
			t.Errorf("linux.Zero(%q) is a %s", name, got)
		}
	}
	if linux.Zero("FD") != nil {
		t.Error("linux.Zero makes what is no call")
	}
}

// random fills a value with anything that its type can hold.
func random(r *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			random(r, v.Field(i))
		}
	case reflect.String:
		v.SetString(randomString(r))
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int:
		v.SetInt(int64(r.Uint64()) >> r.IntN(64))
	case reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(r.Uint64() >> r.IntN(64) & (1<<v.Type().Bits() - 1))
	case reflect.Slice:
		n := r.IntN(4) - 1
		if n < 0 {
			return // nil is not the same as empty
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			random(r, v.Index(i))
		}
	}
}

func randomString(r *rand.Rand) string {
	switch r.IntN(4) {
	case 0:
		return []string{"", "<&>", "\u2028", "\"\\\x00\n", "{\"base64\":\"\"}", "7"}[r.IntN(6)]
	case 1:
		b := make([]byte, r.IntN(20))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return string(b)
	}
	return "/some/path"
}

func randomCall(r *rand.Rand, types []string) plan.Call {
	v := reflect.New(reflect.TypeOf(linux.Zero(types[r.IntN(len(types))]))).Elem()
	random(r, v)
	return v.Interface().(plan.Call)
}

func randomStep(r *rand.Rand, types []string) plan.Step {
	s := plan.Step{Actor: plan.Actor(r.IntN(3)), Chapter: plan.RootfsChapter, Why: "w" + randomString(r), Call: randomCall(r, types),
		TolerateAny: r.IntN(4) == 0, When: plan.When(r.IntN(3)), ZeroFails: r.IntN(4) == 0, Eager: r.IntN(4) == 0, Beside: r.IntN(4) == 0, Awaits: r.IntN(4) == 0, From: randomString(r)}
	if r.IntN(2) == 0 {
		s.Result = "reg"
	}
	for range r.IntN(3) {
		s.Tolerate = append(s.Tolerate, plan.Errno(1+r.IntN(133)))
	}
	if r.IntN(3) == 0 {
		s.Undo = randomCall(r, types)
	}
	return s
}

// Nothing is lost: whatever a plan holds, it comes back as it was.
func TestRoundTrip(t *testing.T) {
	types := callTypes(t)
	r := rand.New(rand.NewPCG(1, 2))
	for range 400 {
		p := new(plan.Plan)
		for range r.IntN(6) {
			p.Steps = append(p.Steps, randomStep(r, types))
		}
		var b bytes.Buffer
		if err := Encode(&b, p); err != nil {
			t.Fatalf("%+v: %v", p, err)
		}
		got, err := Decode(bytes.NewReader(b.Bytes()))
		if err != nil {
			t.Fatalf("%v\n%s", err, b.Bytes())
		}
		if !reflect.DeepEqual(got, p) {
			t.Fatalf("got  %+v\nwant %+v\n%s", got, p, b.Bytes())
		}
	}
}

func TestDocument(t *testing.T) {
	b := plan.Build(plan.Child, plan.RootfsChapter)
	b.Do("where it is", linux.Openat2{Dir: "root", Path: "a<b", Flags: linux.OPath}).As("at").Ok(plan.ENOENT).For("/mounts/0")
	b.Do("it was not there", linux.Mkdirat{Dir: "root", Path: "\xff", Mode: 0o755}).Else()
	b.Do("no limit", linux.Prlimit{Resource: linux.RlimitNofile, Soft: 1 << 53, Hard: ^uint64(0)})
	var out bytes.Buffer
	if err := Encode(&out, &plan.Plan{Steps: b.Steps}); err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/document.json"
	if *update {
		if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := `{"version":1,"steps":[{"actor":"child","chapter":"c","why":"w","call":"close","type":"Close","args":{"FD":"3"}}]}`
	if _, err := Decode(strings.NewReader(good)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"version":      {`"version":1`, `"version":2`},
		"actor":        {`"child"`, `"someone"`},
		"type":         {`"Close"`, `"Clone9"`},
		"field":        {`"FD"`, `"Fd"`},
		"kind":         {`"3"`, `3`},
		"extra":        {`"call"`, `"x":1,"call"`},
		"when":         {`"call"`, `"when":"never","call"`},
		"errno":        {`"call"`, `"tolerate":["EWHAT"],"call"`},
		"big number":   {`"Close","args":{"FD":"3"}`, `"Umask","args":{"Mask":4294967296}`},
		"no number":    {`"Close","args":{"FD":"3"}`, `"Umask","args":{"Mask":true}`},
		"undo":         {`"call"`, `"undo":{"type":"x"},"call"`},
		"null text":    {`"3"`, `{"base64":3}`},
		"not complete": {`}]}`, ``},
	} {
		text := strings.Replace(good, change[0], change[1], 1)
		if text == good {
			t.Fatalf("%s: nothing changed", name)
		}
		if _, err := Decode(strings.NewReader(text)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A call that Decode could not make again is not written in the first place.
func TestEncodeRefusesForeignCalls(t *testing.T) {
	err := Encode(new(bytes.Buffer), &plan.Plan{Steps: []plan.Step{{Why: "w", Call: foreign{}}}})
	if err == nil {
		t.Error("a foreign call was written")
	}
}

type foreign struct{}

func (foreign) Name() string                         { return "foreign" }
func (foreign) AppendArgs(dst []plan.Arg) []plan.Arg { return dst }

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"version":1,"steps":[{"actor":"host","chapter":"c","why":"w","type":"MapIDs","args":{"Map":[1,2,3],"PID":{"base64":"/w=="}}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Decode(bytes.NewReader(data))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := Encode(&b, p); err != nil {
			t.Fatal(err)
		}
		if !json.Valid(b.Bytes()) {
			t.Fatalf("not JSON: %s", b.Bytes())
		}
	})
}
