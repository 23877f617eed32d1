// A test inside the package would make it import os.
package filelimit_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/containr/containr/internal/filelimit"
)

// A process that is started with a low soft limit has raised it, and knows the low one.
func TestOriginalIsWhatWeWereStartedWith(t *testing.T) {
	if os.Getenv("FILELIMIT_CHILD") != "" {
		soft, hard := filelimit.Original()
		var now syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &now); err != nil {
			t.Fatal(err)
		}
		fmt.Printf("original %d of %d, raised %v\n", soft, hard, uint64(now.Cur) > soft)
		return
	}
	cmd := exec.Command("sh", "-c", "ulimit -S -n 123; ulimit -H -n 4000; exec \"$0\" -test.run TestOriginal -test.v", os.Args[0])
	cmd.Env = append(os.Environ(), "FILELIMIT_CHILD=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "original 123 of 4000, raised true\n") {
		t.Errorf("%s, error %v", out, err)
	}
}
