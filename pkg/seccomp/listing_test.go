package seccomp_test

import (
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/seccomp"
)

var update = flag.Bool("update", false, "write the golden files")

// smallPolicy is the example of the book.
func smallPolicy(t testing.TB) *specs.LinuxSeccomp {
	t.Helper()
	text, err := os.ReadFile("testdata/small.json")
	if err != nil {
		t.Fatal(err)
	}
	var policy specs.LinuxSeccomp
	if err := json.Unmarshal(text, &policy); err != nil {
		t.Fatal(err)
	}
	return &policy
}

// golden compares a text with a file.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", file, got, want)
	}
}

func TestListingOfSmallPolicy(t *testing.T) {
	program := mustCompile(t, smallPolicy(t), seccomp.AMD64)
	golden(t, "testdata/small.listing", program.Disassemble())
	tree, err := program.Tree(seccomp.AMD64)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/small.tree", tree)
}

func TestListingOfDockersProfile(t *testing.T) {
	golden(t, "testdata/docker.listing", mustCompile(t, dockerPolicy(seccomp.AMD64), seccomp.AMD64).Disassemble())
	golden(t, "testdata/docker-arm64.listing", mustCompile(t, dockerPolicy(seccomp.ARM64), seccomp.ARM64).Disassemble())
}

// The book shows these listings, and they must be true.
func TestBookShowsRealOutput(t *testing.T) {
	book, err := os.ReadFile("../../docs/book/seccomp.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"testdata/small.json", "testdata/small.listing", "testdata/small.tree"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(book), "\n"+string(text)+"```\n") {
			t.Errorf("docs/book/seccomp.md does not show %s as it is", file)
		}
	}
}

func TestListingOfForeignInstructions(t *testing.T) {
	program := &seccomp.Program{Instructions: []seccomp.Instruction{
		{Code: 0x20, K: 12},              // load ip, high
		{Code: 0x54, K: 0xff},            // and
		{Code: 0x25, JT: 1, K: 3},        // jgt
		{Code: 0x05, K: 1},               // ja
		{Code: 0x06, K: 0x7ff00007},      // ret trace
		{Code: 0x61, JT: 1, JF: 2, K: 9}, // ldx: not known
		{Code: 0x06, K: 0x12345678},      // ret of no action
	}}
	want := "   0  load ip.high\n" +
		"   1  mask with 0xff\n" +
		"   2  if ip.high & 0xff > 0x3: trace 7\n" +
		"   3  goto 5\n" +
		"   4  trace 7\n" +
		"   5  unknown code 0x61 1 2 0x9\n" +
		"   6  unknown action 0x12345678\n"
	if got := program.Disassemble(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if _, _, err := program.Simulate(seccomp.Call{}); err == nil || err.Error() != "seccomp program: instruction 5: unknown code 0x61" {
		t.Errorf("got %v", err)
	}
	program.Instructions = program.Instructions[5:]
	if _, err := program.Ranges(seccomp.AMD64); err == nil {
		t.Error("no error from Ranges")
	}
	if _, _, err := (&seccomp.Program{}).Simulate(seccomp.Call{}); err == nil {
		t.Error("no error from an empty program")
	}
}
