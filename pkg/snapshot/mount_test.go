package snapshot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// drivers are the ways to present a chain; each must pass the tests of this
// file.
var drivers = map[string]Options{
	"overlay": {Rootless: os.Geteuid() != 0},
	"native":  {Rootless: os.Geteuid() != 0, Driver: Native},
}

// Prepare gives each container a tree of its own; what one changes, no other
// and no view sees.
func TestPrepareIsPrivate(t *testing.T) {
	needRoot(t)
	for name, o := range drivers {
		t.Run(name, func(t *testing.T) {
			s := open(t, o)
			chain := unpack(t, s, archive(t, dir(".", 0o711), dir("d", 0o755), reg("d/f", "below"), reg("gone", "x")), archive(t, reg("d/g", "above"), whiteout(".wh.gone")))
			clean := viewed(t, s, chain)
			base := t.TempDir()
			mounts, err := s.Prepare(t.Context(), chain, base+"/upper", base+"/work")
			if err != nil {
				t.Fatal(err)
			}
			inMountNamespace(t, func() error {
				target := base + "/target"
				if err := errors.Join(os.Mkdir(target, 0o755), mounts[0].mount(target)); err != nil {
					return err
				}
				defer unix.Unmount(target, unix.MNT_DETACH)
				tree, err := fingerprint(target)
				if d := diff(clean, tree); d != "" {
					t.Errorf("Prepare and View differ:\n%s", d)
				}
				return errors.Join(err, os.Remove(target+"/d/f"), os.WriteFile(target+"/d/g", []byte("mine"), 0o644), os.WriteFile(target+"/new", nil, 0o644))
			})
			if d := diff(clean, viewed(t, s, chain)); d != "" {
				t.Errorf("a change shows in the view:\n%s", d)
			}
			if d := diff(clean, mounted(t, s, chain)); d != "" {
				t.Errorf("a change shows in another container:\n%s", d)
			}
		})
	}
}

// A view cannot be written.
func TestViewIsReadOnly(t *testing.T) {
	needRoot(t)
	for name, o := range drivers {
		for _, n := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s of %d layers", name, n), func(t *testing.T) {
				s := open(t, o)
				chain := unpack(t, s, someLayers(t, n)...)
				mounts, err := s.View(t.Context(), chain)
				if err != nil {
					t.Fatal(err)
				}
				inMountNamespace(t, func() error {
					target := t.TempDir()
					if err := mounts[0].mount(target); err != nil {
						return err
					}
					defer unix.Unmount(target, unix.MNT_DETACH)
					if err := os.WriteFile(target+"/new", nil, 0o600); !errors.Is(err, unix.EROFS) {
						t.Errorf("write: %v, want %v", err, unix.EROFS)
					}
					return nil
				})
			})
		}
	}
}

// The empty chain is an empty tree.
func TestNoLayers(t *testing.T) {
	needRoot(t)
	for name, o := range drivers {
		t.Run(name, func(t *testing.T) {
			s := open(t, o)
			for way, tree := range map[string]map[string]string{"mounted": mounted(t, s, ""), "viewed": viewed(t, s, "")} {
				if len(tree) != 1 || !strings.HasPrefix(tree["."], "040755 0:0") {
					t.Errorf("%s: %v", way, tree)
				}
			}
		})
	}
}

// Chains of any length fit into the page of options that mount(2) takes, and
// the same mount can be made directory by directory.
func TestLongChains(t *testing.T) {
	needRoot(t)
	s := open(t, Options{})
	archives := someLayers(t, 127)
	for _, n := range []int{2, 40, 127} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			chain := unpack(t, s, archives[:n]...)
			base := t.TempDir()
			mounts, err := s.Prepare(t.Context(), chain, base+"/upper", base+"/work")
			if err != nil {
				t.Fatal(err)
			}
			m := mounts[0]
			if data := strings.Join(m.Options, ","); len(data) >= maxMountData || !strings.HasPrefix(data, "lowerdir=") {
				t.Errorf("%d bytes of options: %.80s", len(data), data)
			}
			if len(m.Lower) != n {
				t.Errorf("%d lower directories, want %d", len(m.Lower), n)
			}
			byString := look(t, mounts)
			if want := 1 + n*51; len(byString) != want {
				t.Errorf("%d names, want %d", len(byString), want)
			}
			inMountNamespace(t, func() error {
				target := t.TempDir()
				err := m.mountByDirectory(target)
				if errors.Is(err, unix.EINVAL) {
					t.Log("this kernel has no lowerdir+ (Linux 6.7)")
					return nil
				}
				if err != nil {
					return err
				}
				defer unix.Unmount(target, unix.MNT_DETACH)
				tree, err := fingerprint(target)
				if d := diff(byString, tree); d != "" {
					t.Errorf("both ways differ:\n%s", d)
				}
				return err
			})
		})
	}
}

// mountByDirectory does what an overlay Mount says by fsconfig(2).
func (m Mount) mountByDirectory(target string) error {
	fd, err := unix.Fsopen(m.Type, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, dir := range m.Lower {
		if err := unix.FsconfigSetString(fd, "lowerdir+", dir); err != nil {
			return err
		}
	}
	for _, o := range m.Options {
		key, value, _ := strings.Cut(o, "=")
		if key == "lowerdir" {
			continue
		}
		if err := unix.FsconfigSetString(fd, key, value); err != nil {
			return fmt.Errorf("%s: %w", o, err)
		}
	}
	if err := unix.FsconfigCreate(fd); err != nil {
		return err
	}
	mfd, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(mfd)
	return unix.MoveMount(mfd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// The mounts are data, of which only upper and work are made.
func TestMountData(t *testing.T) {
	o := Options{Rootless: os.Geteuid() != 0}
	s := open(t, o)
	chain := unpack(t, s, someLayers(t, 2)...)
	all, err := s.chain(chain)
	if err != nil {
		t.Fatal(err)
	}
	base := t.TempDir()
	mounts, err := s.Prepare(t.Context(), chain, base+"/u", base+"/w")
	if err != nil {
		t.Fatal(err)
	}
	m := mounts[0]
	lower := []string{s.fs(all[0]), s.fs(all[1])}
	want := []string{"lowerdir=" + strings.Join(lower, ":"), "upperdir=" + base + "/u", "workdir=" + base + "/w", "index=off"}
	if m.Type != "overlay" || !slices.Equal(m.Options[:4], want) || !slices.Equal(m.Lower, lower) || m.Dir != "" {
		t.Errorf("got %+v, want options %q", m, want)
	}
	if got := slices.Contains(m.Options, "userxattr"); got != o.Rootless {
		t.Errorf("userxattr in %q: %v", m.Options, got)
	}
	if _, err := s.Prepare(t.Context(), chain, base+"/a,b", base+"/w"); err == nil {
		t.Error("a comma in a name was not refused")
	}
	if _, err := s.Prepare(t.Context(), "sha256:../../..", base+"/u", base+"/w"); err == nil {
		t.Error("a chain id that is a path was not refused")
	}
	base1, err := s.View(t.Context(), all[1].Chain)
	if err != nil || base1[0].Type != "bind" || base1[0].Source != lower[1] || !slices.Contains(base1[0].Options, "ro") {
		t.Errorf("view of one layer: %+v, %v, want a read-only bind of %s", base1, err, lower[1])
	}
}

// Short names stay different when chain ids begin alike.
func TestShortNames(t *testing.T) {
	s := open(t, Options{})
	seen := map[string]bool{}
	for _, end := range []string{"0", "1", "2"} {
		chain := ChainID("sha256:" + strings.Repeat("a", 63) + end)
		short, err := s.shorten(chain)
		if err != nil || seen[short] {
			t.Fatalf("shorten(%s) = %s, %v; taken: %v", chain, short, err, seen)
		}
		seen[short] = true
		if again, err := s.shorten(chain); err != nil || again != short {
			t.Errorf("shorten(%s) = %s, then %s, %v", chain, short, again, err)
		}
		if target, _ := os.Readlink(filepath.Join(s.dir, shortDir, short)); !strings.HasSuffix(target, end+"/"+fsDir) {
			t.Errorf("%s leads to %s", short, target)
		}
	}
}
