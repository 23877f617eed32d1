package engine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestAnotherUsersStateRootIsRefused: who can change the state says what root runs.
func TestAnotherUsersStateRootIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give directories away")
	}
	for name, c := range map[string]struct {
		uid  int
		mode os.FileMode
		fine bool
	}{
		"one's own": {0, 0o755, true}, "another user's": {1000, 0o700, false}, "everybody's": {0, 0o777 | os.ModeSticky, false},
	} {
		t.Run(name, func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "root")
			if err := errors.Join(os.Mkdir(root, 0o700), os.Chmod(root, c.mode), os.Chown(root, c.uid, c.uid)); err != nil {
				t.Fatal(err)
			}
			_, err := New(Options{Root: root}).List(t.Context())
			if c.fine != (err == nil) || err != nil && !errors.Is(err, fs.ErrPermission) {
				t.Errorf("error %v", err)
			}
			if _, err := os.Stat(filepath.Join(root, "containers")); !c.fine && err == nil {
				t.Error("something was made in it")
			}
		})
	}
}
