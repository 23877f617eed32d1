package ocicli

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit/probe"
)

// A user that is asked for is that user or an error, whatever the text looks like: it is
// never taken for root because its end, or all of it, cannot be read (CVE-2026-30892). Without a group it has the container's, as with runc.
func TestOddUsersAreNobodyElse(t *testing.T) {
	for text, want := range map[string]specs.User{
		"0": {GID: 8}, "1": {UID: 1, GID: 8}, "1:2": {UID: 1, GID: 2}, "01:002": {UID: 1, GID: 2}, "2147483647:2147483647": {UID: 1<<31 - 1, GID: 1<<31 - 1},
	} {
		p := &specs.Process{User: specs.User{UID: 7, GID: 8}}
		if err := (&executing{user: text}).setUser(p); err != nil || p.User.UID != want.UID || p.User.GID != want.GID {
			t.Errorf("%q: %+v, error %v: want %+v", text, p.User, err, want)
		}
	}
	for _, text := range []string{"1:", ":", ":1", "root", "root:5", "1:root", "-1", "1:-1", "+1", "4294967295", "4294967296", "2147483648", "1:2147483648",
		"18446744073709551617", "0x0", "1_0", " 1", "1 ", "1\n", "1:2:3", "\x00", "1\x00", "１", "0.0", "1e1"} {
		p := &specs.Process{User: specs.User{UID: 7, GID: 8}}
		if err := (&executing{user: text}).setUser(p); err == nil {
			t.Errorf("%q is user %+v", text, p.User)
		}
	}
	for _, text := range []string{"", "-1", "4294967296", "wheel"} {
		if err := (&executing{groups: []string{text}}).setUser(new(specs.Process)); err == nil {
			t.Errorf("group %q was taken", text)
		}
	}
}

// Root of a user namespace, as podman is when an ordinary user calls it, makes containers without control groups and nodes of devices, and keeps
// their state where the user's is.
func TestRootOfAUserNamespace(t *testing.T) {
	for name, groups := range map[string]bool{"with groups": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(spec *specs.Spec) {
				spec.Process.Args = []string{"/probe", "-report"}
				spec.Linux.CgroupsPath = "/somewhere/of-podman"
				for i := range spec.Mounts { // there is no such group
					spec.Mounts[i].Options = slices.DeleteFunc(spec.Mounts[i].Options, func(o string) bool { return o == "gid=5" })
				}
				var kept []specs.LinuxNamespace
				for _, n := range spec.Linux.Namespaces {
					if n.Type != specs.UserNamespace {
						kept = append(kept, n)
					}
				}
				spec.Linux.Namespaces, spec.Linux.UIDMappings, spec.Linux.GIDMappings = kept, nil, nil
			})
			if err := os.Chmod(filepath.Dir(s.bundle), 0o755); err != nil {
				t.Fatal(err)
			}
			run := t.TempDir()
			for _, dir := range []string{run, filepath.Dir(run)} {
				if err := errors.Join(os.Chmod(dir, 0o755), os.Chown(dir, 1000, 1000)); err != nil {
					t.Fatal(err)
				}
			}
			s.env = []string{"XDG_RUNTIME_DIR=" + run}
			cmd := s.command("run", "c")
			cmd.Args = slices.DeleteFunc(cmd.Args, func(a string) bool { return a == "--root" || a == s.root })
			cmd.Path = filepath.Join(run, "runtime") // which that user may read
			self, err := os.ReadFile(os.Args[0])
			if err := errors.Join(err, os.WriteFile(cmd.Path, self, 0o755)); err != nil {
				t.Fatal(err)
			}
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, GidMappingsEnableSetgroups: groups,
				UidMappings: []syscall.SysProcIDMap{{HostID: 1000, Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: 1000, Size: 1}},
				Credential: &syscall.Credential{NoSetGroups: true}}
			var errs bytes.Buffer
			cmd.Stderr = &errs
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %s", err, &errs)
			}
			var r probe.Report
			if err := json.Unmarshal(out, &r); err != nil {
				t.Fatal(err)
			}
			if want := []string{"0", "1000", "1"}; r.Status.UID.Real != 0 || !slices.Equal(strings.Fields(r.UIDMap), want) {
				t.Errorf("uid %d, map %q, want %q", r.Status.UID.Real, r.UIDMap, want)
			}
			if _, err := os.Stat(filepath.Join(run, "containr-runtime")); err != nil {
				t.Error(err)
			}
		})
	}
}
