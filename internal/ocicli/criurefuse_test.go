package ocicli

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/probe"
)

// What cannot be frozen goes on, and the error says what to do.
func TestCRIUCannotFreeze(t *testing.T) {
	c := newCounting(t, nil)
	c.must("create", "c")
	t.Cleanup(func() { c.run("delete", "--force", "c") })
	c.refused("has not been started", "checkpoint", "--image-path", c.image, "c")
	c.must("start", "c")
	c.until(func(list []probe.Counted) bool { return len(list) > 2 })
	old := filepath.Join(t.TempDir(), "criu")
	testkit.WriteFile(t, old, "#!/bin/sh\necho Version: 3.15\n", 0o755)
	c.refused("hint: install CRIU", "--criu", "/nowhere/criu", "checkpoint", "--image-path", c.image, "c")
	c.refused("3.16 is the oldest", "--criu", old, "checkpoint", "--image-path", c.image, "c")
	c.env = []string{"PATH=/nowhere"}
	c.refused("in none of the directories of $PATH", "checkpoint", "--image-path", c.image, "c")
	c.env = nil
	c.refused("must be relative", "checkpoint", "--parent-path", "/first", "c")
	c.refused("must be one of", "checkpoint", "--manage-cgroups-mode", "some", "c")
	c.refused("always is", "checkpoint", "--empty-ns", "ipc", "c")
	c.refused("ADDRESS:PORT", "checkpoint", "--page-server", "here", "c")
	c.refused("--page-server says from where", "checkpoint", "--lazy-pages", "c")
	if err := os.Mkdir(c.image, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(c.image, 0o777); err != nil {
		t.Fatal(err)
	}
	c.refused("other users may write to it", "checkpoint", "--image-path", c.image, "c")
	if err := os.Chmod(c.image, 0o700); err != nil {
		t.Fatal(err)
	}
	// A pipe to a process outside is no reason, an open lock is.
	c.more(len(c.counted()))
	if s := c.status("c"); s != "running" {
		t.Errorf("status %s", s)
	}
	if list, _ := os.ReadDir(c.image); len(list) > 0 {
		t.Errorf("left in the directory of the checkpoint: %v", list)
	}
}

// Containers that would not be what they were are refused before anything is done.
func TestCRIURefusesConfigurations(t *testing.T) {
	for words, change := range map[string]func(*specs.Spec){
		"terminal": func(spec *specs.Spec) { spec.Process.Terminal = true },
		"cannot enter the network namespace": func(spec *specs.Spec) {
			withUser(spec)
			for i := range spec.Linux.Namespaces {
				if spec.Linux.Namespaces[i].Type == specs.NetworkNamespace {
					spec.Linux.Namespaces[i].Path = "/proc/self/ns/net"
				}
			}
		},
		"it is not the host's": func(spec *specs.Spec) {
			withUser(spec)
			spec.Linux.Namespaces = slices.DeleteFunc(spec.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == specs.NetworkNamespace })
			spec.Mounts = slices.DeleteFunc(spec.Mounts, func(m specs.Mount) bool { return m.Type == "sysfs" || m.Type == "cgroup" })
		},
		"no hooks": func(spec *specs.Spec) {
			withUser(spec)
			spec.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/true"}}}
		},
		"the ids 0 and 65534": func(spec *specs.Spec) {
			withUser(spec)
			spec.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: userBase, Size: 65534}}
		},
		"owners are mapped": func(spec *specs.Spec) {
			spec.Mounts[len(spec.Mounts)-1].Options = append(spec.Mounts[len(spec.Mounts)-1].Options, "idmap")
		},
		"cgroup namespace": func(spec *specs.Spec) {
			for i := range spec.Linux.Namespaces {
				if spec.Linux.Namespaces[i].Type == specs.CgroupNamespace {
					spec.Linux.Namespaces[i].Path = "/proc/self/ns/cgroup"
				}
			}
		},
		"brackets": func(spec *specs.Spec) { spec.Mounts[len(spec.Mounts)-1].Destination = "/etc/[group]" },
	} {
		c := newCounting(t, change)
		for _, name := range []string{"inventory.img", "pstree.img"} {
			testkit.WriteFile(t, filepath.Join(c.image, name), "", 0o600)
		}
		testkit.WriteFile(t, filepath.Join(c.image, "descriptors.json"), "[]", 0o600)
		c.refused(words, "restore", "--image-path", c.image, "c")
		if list := c.must("list", "--quiet"); list != "" {
			t.Errorf("%s: left: %s", words, list)
		}
	}
}

func withUser(spec *specs.Spec) {
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	ids := []specs.LinuxIDMapping{{HostID: userBase, Size: 65536}}
	spec.Linux.UIDMappings, spec.Linux.GIDMappings = ids, ids
}

// frozen makes a checkpoint.
func frozen(t *testing.T) *counting {
	c := newCounting(t, nil)
	c.start("c")
	c.must("checkpoint", "--image-path", c.image, "c")
	return c
}

// notRestored checks that restore fails with these words, and that nothing is left of it.
func (c *counting) notRestored(words string, flags ...string) {
	c.t.Helper()
	n := len(c.counted())
	c.refused(words, append(append([]string{"restore", "--detach", "--image-path", c.image}, flags...), "c")...)
	if list := c.must("list", "--quiet"); list != "" {
		c.t.Errorf("left: %s", list)
		c.must("delete", "--force", "c")
	}
	if got := len(c.counted()); got != n {
		c.t.Errorf("it has gone on, from %d to %d", n, got)
	}
	entries, err := os.ReadDir(c.root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.t.Error(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "filter@") { // compiled when it was created, see TestKeptFilterBites
			c.t.Errorf("left in the state root: %v", e)
		}
	}
}

// A checkpoint that is damaged, or not there, and a bundle that is another one, are errors
// that say so, and leave nothing.
func TestCRIUCannotRestore(t *testing.T) {
	c := frozen(t)
	whole := c.image
	damage := func(change func(dir string)) {
		t.Helper()
		c.image = t.TempDir()
		if err := os.CopyFS(c.image, os.DirFS(whole)); err != nil {
			t.Fatal(err)
		}
		change(c.image)
	}
	c.notRestored("--console-socket", "--console-socket", "/nowhere")
	c.notRestored("nothing can be added", "--preserve-fds", "1")
	c.notRestored("always pivots", "--no-pivot")
	c.notRestored("apparmor:NAME", "--lsm-profile", "name")
	damage(func(dir string) {
		if err := os.Remove(filepath.Join(dir, "inventory.img")); err != nil {
			t.Fatal(err)
		}
	})
	c.notRestored("hint: name the directory that checkpoint")
	damage(func(dir string) { testkit.WriteFile(t, filepath.Join(dir, "pstree.img"), "nonsense", 0o600) })
	c.notRestored("hint: the checkpoint is damaged")
	damage(func(dir string) {
		if err := os.Truncate(filepath.Join(dir, "mm-1.img"), 10); err != nil {
			t.Fatal(err)
		}
	})
	c.notRestored("criu restore:")
	c.image = whole
	spec := c.spec()
	spec.Mounts = spec.Mounts[:len(spec.Mounts)-2] // without /data and /etc/group
	c.write(spec)
	c.notRestored("hint: the bundle's config.json has not the mounts")
	spec.Root.Path = "/nowhere"
	c.write(spec)
	c.notRestored("root file system /nowhere")
}

// A checkpoint may come from somebody else. It decides what the container is, and nothing
// of the host's: links in it are not followed, and what it says of descriptors, mounts,
// devices and annotations is not believed.
func TestCRIUHostileCheckpoint(t *testing.T) {
	c := frozen(t)
	victim := filepath.Join(t.TempDir(), "victim")
	testkit.WriteFile(t, victim, "untouched", 0o600)
	put := func(name, target string) {
		t.Helper()
		if err := os.Remove(filepath.Join(c.image, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(c.image, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"restore.log", "stats-restore", "descriptors.json", "other.img"} {
		was, err := os.ReadFile(filepath.Join(c.image, name))
		put(name, victim)
		c.notRestored("not a plain file")
		if e := os.Remove(filepath.Join(c.image, name)); e != nil {
			t.Fatal(e)
		}
		if err == nil {
			testkit.WriteFile(t, filepath.Join(c.image, name), string(was), 0o600)
		}
	}
	put("parent", filepath.Dir(victim))
	c.notRestored("is not beside it")
	put("parent", "../../..")
	c.notRestored("is not beside it")
	if err := os.Remove(filepath.Join(c.image, "parent")); err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	if err := os.Symlink(victim, filepath.Join(work, "restore.log")); err != nil {
		t.Fatal(err)
	}
	testkit.WriteFile(t, filepath.Join(c.image, "descriptors.json"), `["/dev/null] --root /","pipe:[1] --external","file[../..]"]`, 0o600)
	testkit.WriteFile(t, filepath.Join(c.image, "config.json"), `{"mounts":[{"destination":"/data","type":"bind","source":"/etc"}],"annotations":{"org.criu.config":"/nowhere"}}`, 0o600)
	out := c.must("restore", "--explain", "--work-path", work, "--image-path", c.image, "c")
	if strings.Contains(out, "--root /\"") || strings.Contains(out, "file[..") || strings.Contains(out, ":/etc\"") || strings.Contains(out, "/nowhere") {
		t.Errorf("the checkpoint has a say in criu's command line:\n%s", out)
	}
	c.notRestored("criu restore:", "--work-path", work)
	if text, _ := os.ReadFile(victim); string(text) != "untouched" {
		t.Errorf("written to what a link leads to: %q", text)
	}
	if st, err := os.Lstat(filepath.Join(work, "restore.log")); err != nil || !st.Mode().IsRegular() {
		t.Errorf("the log: %v, %v", st, err)
	}
	if err := os.Chown(c.image, 1000, -1); err != nil {
		t.Fatal(err)
	}
	c.notRestored("hint: use a directory that belongs to root")
}
