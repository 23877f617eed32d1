package conformance

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/containr/containr/internal/testkit"
)

var writeIt = flag.Bool("table", false, "write the table of docs/conformance.md")

// tries is how often containr-runtime may try what a peer passed: some programs are races against the runtime, which
// it loses now and then as everybody does.
const tries = 3

// TestSuite: containr-runtime passes what any peer passes, and what the page says that it passes.
func TestSuite(t *testing.T) {
	testkit.RequireRoot(t)
	s, list := buildSuite(t), runtimes(t)
	lock, err := testkit.LockMachine()
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	defer func() {
		if err := testkit.ReleaseHierarchies(); err != nil {
			t.Error(err)
		}
	}()
	defer removeCgroups(t)
	got := runAll(t, s, list)
	ours := list[0]
	for _, program := range s.programs {
		for range tries - 1 {
			if best(got[program], ours.name) >= got[program][ours.name].failures() {
				break
			}
			o, err := s.run(t.Context(), ours, program, openDir(t))
			if err != nil {
				t.Fatal(err)
			}
			got[program][ours.name] = o
		}
	}
	if *writeIt {
		writeTable(t, table(s.programs, list, got))
	}
	compare(t, s.programs, ours.name, got)
}

// compare fails the test for each program in which containr-runtime is worse than a peer or than the page says.
func compare(t *testing.T, programs []string, ours string, got results) {
	t.Helper()
	said := promised(t)
	for _, program := range programs {
		o := got[program][ours]
		if notes[program].wrong {
			continue
		}
		if best(got[program], ours) < o.failures() {
			t.Errorf("%s: %s: %q %s; but of the others %v", program, o, o.failed, o.fatal, verdicts(got[program], ours))
		}
		if said[program] && !o.ok() {
			t.Errorf("%s: %s: %q %s; but %s says that it passes", program, o, o.failed, o.fatal, document)
		}
	}
}

// best is the smallest number of failures that a peer had. Without peers it is that of nobody.
func best(of map[string]outcome, ours string) int {
	least := 1 << 30
	for name, o := range of {
		if name != ours {
			least = min(least, o.failures())
		}
	}
	return least
}

func verdicts(of map[string]outcome, ours string) []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		if name != ours {
			all = append(all, name+": "+of[name].String())
		}
	}
	return all
}

// runAll runs every program against every runtime: the runtimes at the same time, as the programs wait much, the
// programs one after the other.
func runAll(t *testing.T, s suite, list []peer) results {
	t.Helper()
	got := results{}
	for _, program := range s.programs {
		got[program] = map[string]outcome{}
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, p := range list {
		tmp := openDir(t)
		wg.Go(func() {
			for _, program := range s.programs {
				o, err := s.run(t.Context(), p, program, tmp)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				got[program][p.name] = o
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return got
}

// openDir makes a temporary directory that every user may search: a container's root may be one of them.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
