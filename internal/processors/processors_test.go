package processors_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/containr/containr/internal/processors"
)

// A process that the entry has started with one processor takes all when it is told to,
// and has no variable left. What the user wants stays.
func TestAll(t *testing.T) {
	if os.Getenv("PROCESSORS_CHILD") != "" {
		processors.Clean()
		before := runtime.GOMAXPROCS(0)
		processors.All()
		processors.All()
		fmt.Printf("\n%d %d %q\n", before, runtime.GOMAXPROCS(0), os.Getenv("GOMAXPROCS"))
		return
	}
	ask := func(env ...string) string {
		cmd := exec.Command(os.Args[0], "-test.run", "TestAll")
		cmd.Env = slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "GOMAXPROCS=") })
		cmd.Env = append(cmd.Env, append(env, "PROCESSORS_CHILD=1")...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return strings.Split(string(out), "\n")[1]
	}
	var all, same int
	if _, err := fmt.Sscanf(ask(), "%d %d", &all, &same); err != nil || all != same {
		t.Fatalf("without the variable: %d, then %d, %v", all, same, err)
	}
	for env, want := range map[string]string{
		"GOMAXPROCS=" + processors.Marked: fmt.Sprintf(`1 %d ""`, all),
		"GOMAXPROCS=1":                    `1 1 "1"`,
		"GOMAXPROCS=7":                    `7 7 "7"`,
	} {
		if got := ask(env); got != want {
			t.Errorf("%s: %s, want %s", env, got, want)
		}
	}
}
