package runtime

import (
	"testing"
	"time"

	"github.com/containr/containr/internal/child"
)

// Who is in the midst of an execve of the keeper's program shows no command line yet, and is looked at until there is one; who
// has none for good, as a thread of the kernel, or does not get one in time, is not.
func TestCommandLineOfWhoExecutes(t *testing.T) {
	const ours, line = "/memfd:containr-init (deleted)", "containr-init\x00one\x00"
	far := time.Now().Add(time.Hour)
	for name, c := range map[string]struct {
		exe, want string
		empty     int // how often there is no line
		until     time.Time
	}{
		"executes":           {ours, line, 3, far},
		"has executed":       {ours, line, 0, far},
		"another program":    {"/usr/bin/containr-init", "", 3, far},
		"thread or ended":    {"", "", 3, far},
		"too slow":           {ours, "", 3, time.Time{}},
		"ended after a look": {"", line, 0, far},
	} {
		looks := 0
		got := commandLine(func() string {
			if looks++; looks <= c.empty {
				return ""
			}
			return line
		}, func() string { return c.exe }, c.until)
		if got != c.want || child.TellsItIsFor(got, "one") != (c.want == line) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
