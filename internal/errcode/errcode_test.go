package errcode

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
	"github.com/containr/containr/pkg/runtime"
)

var update = flag.Bool("update", false, "write the golden files anew")

var codePattern = regexp.MustCompile(`^CTR-[0-9]{4}$`)

// TestEntriesAreComplete: codes are unique and well formed, and each entry says what happened and what to do.
func TestEntriesAreComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range All() {
		if !codePattern.MatchString(e.Code) || seen[e.Code] {
			t.Errorf("%q: not a code, or given twice", e.Code)
		}
		seen[e.Code] = true
		if e.Title == "" || e.Cause == "" || len(e.Do) == 0 {
			t.Errorf("%s: it says too little: %+v", e.Code, e)
		}
		if strings.HasSuffix(e.Title, ".") || !strings.HasSuffix(e.Cause, ".") {
			t.Errorf("%s: a title has no full stop, a sentence has one: %q, %q", e.Code, e.Title, e.Cause)
		}
	}
}

// TestCodesStay: a code that was given means the same for ever. testdata/codes.txt is only added to.
func TestCodesStay(t *testing.T) {
	const file = "testdata/codes.txt"
	now := map[string]string{}
	for _, e := range All() {
		now[e.Code] = e.Title
	}
	text, err := os.ReadFile(file)
	if err != nil && !*update {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		code, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if _, ok := now[code]; !ok {
			t.Errorf("%s was given, and is gone", code)
		}
	}
	var b strings.Builder
	for _, e := range All() {
		fmt.Fprintf(&b, "%s %s\n", e.Code, e.Title)
	}
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if b.String() != string(text) {
		t.Error("the codes have changed: -update writes testdata/codes.txt anew; only lines may be added")
	}
}

// apart are packages whose errors users never see: they belong to tests, or to programs of the built-in image.
var apart = []string{"internal/testkit", "internal/userland", "pkg/seccomp/internal", "internal/bench"}

// TestEverySentinelHasACode reads the sources: what callers branch on, people may look up.
func TestEverySentinelHasACode(t *testing.T) {
	have := map[string]bool{}
	for _, e := range table {
		have[e.Name] = true
	}
	found := 0
	for _, name := range sentinels(t) {
		found++
		if !have[name] {
			t.Errorf("%s has no code: add an entry to table.go", name)
		}
		delete(have, name)
	}
	delete(have, "")
	for name := range have {
		t.Errorf("%s has a code, and is not declared", name)
	}
	if found < 50 {
		t.Errorf("%d sentinels found: does this test still find them?", found)
	}
}

// sentinels are the exported errors of all packages, as "pkg/container.ErrNotFound".
func sentinels(t *testing.T) []string {
	var all []string
	root := filepath.Join("..", "..")
	for _, top := range []string{"pkg", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(file string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
				return err
			}
			dir, err := filepath.Rel(root, filepath.Dir(file))
			if err != nil || slices.ContainsFunc(apart, func(a string) bool { return strings.HasPrefix(dir, a) }) {
				return err
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			all = append(all, declared(dir, parsed)...)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// declared are the names Err... of a file that stand for values.
func declared(dir string, f *ast.File) []string {
	var all []string
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.VAR && g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			for _, n := range s.(*ast.ValueSpec).Names {
				if regexp.MustCompile(`^Err[A-Z]`).MatchString(n.Name) {
					all = append(all, path.Clean(dir)+"."+n.Name)
				}
			}
		}
	}
	return all
}

// TestEverySentinelIsFound: an error that wraps a sentinel has its code, and no other.
func TestEverySentinelIsFound(t *testing.T) {
	for _, e := range table {
		if e.Sentinel == nil {
			continue
		}
		if got := Of(fmt.Errorf("some operand: %w", e.Sentinel)); got != e.Code {
			t.Errorf("%s has the code %s, want %s", e.Name, got, e.Code)
		}
	}
}

func TestOf(t *testing.T) {
	step := &runtime.StepError{Step: plan.Step{Call: linux.Execve{Path: "/x"}}, Errno: plan.ENOEXEC}
	for _, c := range []struct {
		err  error
		want string
	}{
		{errors.New("something"), Other},
		{step, "CTR-5002"},
		{fmt.Errorf("x: %w", runtime.KilledError{}), Killed},
		{fmt.Errorf("x: %w", &engine.ProgramError{Err: step, Cause: engine.NoInterpreter}), "CTR-4001"},
		{fmt.Errorf("%w: %w", image.ErrNotFound, unix.ENOSPC), "CTR-2007"},
		{&os.PathError{Op: "write", Path: "/x", Err: unix.ENOSPC}, "CTR-3901"},
		{&os.PathError{Op: "open", Path: "/x", Err: unix.EACCES}, "CTR-3906"},
		{errors.Join(container.ErrNotFound, context.Canceled), "CTR-1001"},
	} {
		if got := Of(c.err); got != c.want {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
	}
}

func TestFind(t *testing.T) {
	for code, want := range map[string]bool{"CTR-1001": true, "ctr-5001": true, "CTR-9999": false, "": false} {
		if _, ok := Find(code); ok != want {
			t.Errorf("%q is found: %v", code, ok)
		}
	}
	if !IsCode("ctr-1") || IsCode("run") || IsCode("CTR-") {
		t.Error("IsCode takes something for what it is not")
	}
	if near := Nearest("CTR-999"); near != Other {
		t.Errorf("nearest to CTR-999 is %q", near)
	}
}
