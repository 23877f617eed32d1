package layering

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/containr/containr/"

// maxLines is the length of a file that can still be read in one sitting.
const maxLines = 700

//go:embed order.txt
var orderText string

// order says for each name what is directly below it.
type order map[string][]string

// parseOrder reads "a, b < c < d;" statements. The error names a statement that is none.
func parseOrder(text string) (order, error) {
	var lines []string
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		lines = append(lines, line)
	}
	o := order{"NONE": nil}
	for statement := range strings.SplitSeq(strings.Join(lines, ""), ";") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		levels := strings.Split(statement, "<")
		if len(levels) < 2 {
			return nil, fmt.Errorf("not an order: %q", strings.TrimSpace(statement))
		}
		for i := 1; i < len(levels); i++ {
			for _, upper := range names(levels[i]) {
				o[upper] = append(o[upper], names(levels[i-1])...)
			}
		}
	}
	return o, nil
}

func names(list string) []string {
	var all []string
	for name := range strings.SplitSeq(list, ",") {
		all = append(all, strings.TrimSpace(name))
	}
	return all
}

// below lists everything that a name may import. The error names a cycle, or a name that has no place of its own.
func (o order) below(name string) (map[string]bool, error) {
	all := map[string]bool{}
	var visit func(name string, path []string) error
	visit = func(name string, path []string) error {
		if slices.Contains(path, name) {
			return fmt.Errorf("a cycle: %s", strings.Join(append(path, name), " > "))
		}
		lower, known := o[name]
		if !known {
			return fmt.Errorf("%s is used in the order but has no place in it", name)
		}
		for _, l := range lower {
			if err := visit(l, append(path, name)); err != nil {
				return err
			}
			all[l] = true
		}
		return nil
	}
	return all, visit(name, nil)
}

// place is the name in the order that a package goes by: its own, or that of the nearest package above it in the tree.
func (o order) place(pkg string) string {
	for ; pkg != "."; pkg = filepath.Dir(pkg) {
		if _, ok := o[pkg]; ok {
			return pkg
		}
	}
	return ""
}

// goPackage is what the go command tells about a package of this module.
type goPackage struct {
	ImportPath, Name, Dir string
	Imports               []string
	GoFiles, CgoFiles     []string
	IgnoredGoFiles        []string // of other systems, or behind a build tag
}

// path is the import path below the module.
func (p goPackage) path() string { return strings.TrimPrefix(p.ImportPath, module) }

// packages asks the go command once for all packages of the module.
var packages = sync.OnceValues(func() ([]goPackage, error) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Name,Dir,Imports,GoFiles,CgoFiles,IgnoredGoFiles", "./...")
	cmd.Dir = root
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %v: %s", err, complaint.String())
	}
	var all []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); err == io.EOF {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
})

// root is the directory of the module, from the directory that tests run in.
const root = "../.."

func allPackages(t *testing.T) []goPackage {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command here to ask for the imports")
	}
	all, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func theOrder(t *testing.T) order {
	t.Helper()
	o, err := parseOrder(orderText)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestImportsFollowTheOrder(t *testing.T) {
	o := theOrder(t)
	for _, p := range allPackages(t) {
		at := o.place(p.path())
		if at == "" {
			t.Errorf("%s has no place in order.txt: decide which packages it may import", p.path())
			continue
		}
		allowed, err := o.below(at)
		if err != nil {
			t.Fatal(err)
		}
		for _, imported := range p.Imports {
			imported, ours := strings.CutPrefix(imported, module)
			if to := o.place(imported); ours && to != at && !allowed[to] {
				t.Errorf("%s imports %s, which is not below it in order.txt", p.path(), imported)
			}
		}
	}
}

func TestTheOrderHasNoCycle(t *testing.T) {
	o := theOrder(t)
	for name := range o {
		if _, err := o.below(name); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"a;", "NONE < a < b; b < a;", "a < b;"} {
		o, err := parseOrder(bad)
		for name := range o {
			if err == nil {
				_, err = o.below(name)
			}
		}
		if err == nil {
			t.Errorf("%q was taken for an order", bad)
		}
	}
}

// libraries are what the packages from ground to running may use besides the standard library: a container runtime
// should not have to trust more.
var libraries = []string{"golang.org/x/sys/", "github.com/opencontainers/runtime-spec/"}

func TestLowerLayersUseFewLibraries(t *testing.T) {
	o := theOrder(t)
	lower, err := o.below("RUNNING")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range allPackages(t) {
		if !lower[o.place(p.path())] || p.path() == "pkg/seccomp/profile" || p.Name == "main" {
			continue
		}
		for _, imported := range p.Imports {
			first, _, _ := strings.Cut(imported, "/")
			listed := slices.ContainsFunc(libraries, func(l string) bool { return strings.HasPrefix(imported+"/", l) })
			if strings.Contains(first, ".") && !strings.HasPrefix(imported, module) && !listed {
				t.Errorf("%s imports %s: from ground to running only %s are used", p.path(), imported, strings.Join(libraries, ", "))
			}
		}
	}
}

// pure are the packages that turn values into values, the same on every machine: no input, no output. Of pkg/cgroup,
// pkg/seccomp and others only the planning is; they also act, in files of their own.
var pure = []string{"pkg/plan", "pkg/plan/linux", "pkg/namespace", "pkg/rootfs", "pkg/security", "pkg/network"}

// effects are the packages of the standard library, and beyond, that reach out.
var effects = []string{"os", "os/exec", "net", "net/http", "syscall", "golang.org/x/sys/unix"}

func TestPlannersArePure(t *testing.T) {
	for _, p := range allPackages(t) {
		if !slices.Contains(pure, p.path()) {
			continue
		}
		for _, imported := range p.Imports {
			if slices.Contains(effects, imported) {
				t.Errorf("%s imports %s: a planner does no input or output", p.path(), imported)
			}
		}
	}
}

// goFiles lists the Go files of a package, without its tests.
func (p goPackage) goFiles() []string {
	files := slices.Concat(p.GoFiles, p.CgoFiles)
	for _, f := range p.IgnoredGoFiles { // of other systems
		if !strings.HasSuffix(f, "_test.go") {
			files = append(files, f)
		}
	}
	return files
}

func read(t *testing.T, dir, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// oracle is the only package with cgo: tests compare our compiler with the C library, if it is there.
const oracle = "pkg/seccomp/internal/libseccomp"

func TestUnsafeHasItsPlaces(t *testing.T) {
	for _, p := range allPackages(t) {
		for _, file := range p.goFiles() {
			text := read(t, p.Dir, file)
			allowed := slices.Contains([]string{"internal/sys", "internal/child"}, p.path()) && strings.HasSuffix(file, "_unsafe.go") || p.path() == oracle
			if strings.Contains(text, "\n\t\"unsafe\"\n") && !allowed {
				t.Errorf("%s/%s imports unsafe: only files *_unsafe.go of internal/sys and internal/child may", p.path(), file)
			}
			if strings.Contains(text, "\nimport \"C\"") && p.path() != oracle {
				t.Errorf("%s/%s uses cgo", p.path(), file)
			}
		}
	}
}

func TestPackagesSayWhatTheyAreFor(t *testing.T) {
	for _, p := range allPackages(t) {
		if base := filepath.Base(p.path()); slices.Contains([]string{"util", "utils", "common", "helpers", "helper", "misc"}, base) {
			t.Errorf("%s: the name does not say what it is for", p.path())
		}
		if p.Name == "main" || p.path() == oracle {
			continue
		}
		documented := slices.ContainsFunc(p.goFiles(), func(file string) bool {
			comment, _, found := strings.Cut(read(t, p.Dir, file), "\npackage ")
			return found && strings.Contains(comment, "// Package "+p.Name+" ") && strings.Contains(comment, "Theory of operation")
		})
		if !documented && len(p.goFiles()) > 0 {
			t.Errorf("%s does not open with a doc comment that has a Theory of operation", p.path())
		}
	}
}

// sources calls do with every file of the project that a person writes.
func sources(t *testing.T, do func(name, text string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		if d.IsDir() && (slices.Contains([]string{".git", ".cache", "bin", "coverage"}, name) || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !d.Type().IsRegular() || name == ".git" || strings.Contains(name, ".oci.tar") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err == nil && !bytes.Contains(text[:min(len(text), 8000)], []byte{0}) {
			do(name, string(text))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

func TestFilesCanBeReadInOneSitting(t *testing.T) {
	sources(t, func(name, text string) {
		if lines := strings.Count(text, "\n"); strings.HasSuffix(name, ".go") && lines > maxLines && !generated.MatchString(text) {
			t.Errorf("%s has %d lines, more than %d", name, lines, maxLines)
		}
	})
}

// elsewhere are traces of the machine or the process by which the code came about. They are put together here so that
// this file has none.
var elsewhere = regexp.MustCompile(`(^|[^a-z0-9_}])/` + `work/|proxy\.golang\.` + `org|/root/` + `go/`)

func TestTheProjectSpeaksOfItselfAlone(t *testing.T) {
	sources(t, func(name, text string) {
		for i, line := range strings.Split(text, "\n") {
			if elsewhere.MatchString(line) && name != "go.sum" {
				t.Errorf("%s:%d names a place of one machine: %s", name, i+1, strings.TrimSpace(line))
			}
		}
	})
}
