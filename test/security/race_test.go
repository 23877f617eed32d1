package security

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/runtime"
)

// swapping exchanges two names as fast as it can until the test ends.
func swapping(t *testing.T, a, b string) {
	stop := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE); err != nil {
				t.Error(err)
				return
			}
		}
	})
	t.Cleanup(func() { close(stop); done.Wait() })
}

// A process that shares a volume with a container and swaps a directory in it for a
// symbolic link, while mounts are made below, moves no mount and makes no file or
// directory on the host (CVE-2021-30465, CVE-2024-45310).
func TestRacingLinksInVolumesLeadNowhere(t *testing.T) {
	begin(t)
	outside, shared := t.TempDir(), t.TempDir()
	file := filepath.Join(t.TempDir(), "file")
	testkit.WriteFile(t, file, "mounted", 0o644)
	testkit.WriteFile(t, filepath.Join(outside, "kept", "file"), "not covered", 0o644)
	dir, link := filepath.Join(shared, "a"), filepath.Join(shared, "b")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.Symlink(outside, link)); err != nil {
		t.Fatal(err)
	}
	before := testkit.Fingerprint(t, outside)
	inside, err := os.OpenRoot(shared)
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	swapping(t, dir, link)
	ran := 0
	for range 60 {
		_, err := run(t, container.Config{Mounts: []container.Mount{
			{Type: container.MountBind, Source: shared, Target: "/vol"},
			{Type: container.MountTmpfs, Target: "/vol/a/new/deep"},
			{Type: container.MountBind, Source: file, Target: "/vol/a/newfile"},
		}})
		var step *runtime.StepError
		switch {
		case err == nil:
			ran++
		case !errors.As(err, &step):
			t.Fatal(err)
		}
		for _, name := range []string{"a/new", "a/newfile", "a/kept", "b/new", "b/newfile", "b/kept"} {
			_ = inside.RemoveAll(name) // so that the next round has something to make; it stays inside too
		}
		if diff := before.Diff(testkit.Fingerprint(t, outside)); len(diff) > 0 {
			t.Fatalf("outside changed: %v", diff)
		}
	}
	t.Logf("%d of 60 containers ran", ran)
}
