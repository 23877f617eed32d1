package ocicli

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/testkit"
)

// The labels that a container is to be brought back under reach criu, each as one word, and as they are: a criu that
// only notes what it is told, and fails, stands in for the real one, whose kernel would need both kinds of labels.
func TestLabelsOfRestoreReachCRIU(t *testing.T) {
	s := newSite(t, nil)
	image, dir := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{"inventory.img": "", "pstree.img": "", "descriptors.json": "[]"} {
		testkit.WriteFile(t, filepath.Join(image, name), text, 0o600)
	}
	fake, told := filepath.Join(dir, "criu"), filepath.Join(dir, "told")
	testkit.WriteFile(t, fake, "#!/bin/sh\ncase $1 in --version) echo Version: 3.17; exit ;; esac\nprintf '%s\\n' \"$@\" >"+told+"\nexit 1\n", 0o755)
	const context = "system_u:object_r:container_file_t:s0:c1,c2"
	for _, c := range []struct{ flags, want []string }{
		{[]string{"--lsm-profile", "apparmor:some profile"}, []string{"--lsm-profile", "apparmor:some profile"}},
		{[]string{"--lsm-profile", "selinux:system_u:system_r:container_t:s0", "--lsm-mount-context", context},
			[]string{"--lsm-profile", "selinux:system_u:system_r:container_t:s0", "--lsm-mount-context", context}},
		{[]string{"--lsm-mount-context", context}, []string{"--lsm-mount-context", context}},
		{nil, nil},
	} {
		s.refused("restore", slices.Concat([]string{"--criu", fake, "restore", "--image-path", image}, c.flags, []string{"c"})...)
		text, err := os.ReadFile(told)
		if err != nil {
			t.Fatal(err)
		}
		words := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
		var got []string
		for i, word := range words {
			if strings.HasPrefix(word, "--lsm-") && i+1 < len(words) {
				got = append(got, word, words[i+1])
			}
		}
		if words[0] != "restore" || !slices.Equal(got, c.want) {
			t.Errorf("restore %q: criu is told %q, want %q in it", c.flags, words, c.want)
		}
		if list := s.must("list", "--quiet"); list != "" {
			t.Errorf("left: %s", list)
		}
		if err := os.Remove(told); err != nil {
			t.Fatal(err)
		}
	}
	// What names no kind of label, or another kind, is refused before criu is asked.
	for _, profile := range []string{"name", "apparmor:", "smack:name"} {
		s.refused("apparmor:NAME or selinux:LABEL", "--criu", fake, "restore", "--image-path", image, "--lsm-profile", profile, "c")
		if _, err := os.Stat(told); !os.IsNotExist(err) {
			t.Errorf("--lsm-profile %s: criu has been asked, error %v", profile, err)
		}
	}
}

// A container with an AppArmor profile comes back under it, or under the one that restore is told, and what that denies is
// denied to the program that goes on. TestCRIUWithSystemd runs it where AppArmor is.
func TestCRIUAppArmor(t *testing.T) {
	parser, err := exec.LookPath("apparmor_parser")
	if enabled, _ := os.ReadFile("/sys/module/apparmor/parameters/enabled"); err != nil || string(enabled) != "Y\n" {
		t.Skipf("AppArmor is not active, or its parser not there: %v", err)
	}
	const first, second = "containr-frozen", "containr-other"
	for _, name := range []string{first, second} {
		tell := func(order string) {
			cmd := exec.Command(parser, order, "--skip-cache")
			cmd.Stdin = strings.NewReader("profile " + name + " flags=(attach_disconnected,mediate_deleted) {\n" +
				"file,\ncapability,\nnetwork,\nmount,\nsignal,\nptrace,\nunix,\ndeny /data/" + name + " w,\n}\n")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		}
		tell("--replace")
		t.Cleanup(func() { tell("--remove") })
	}
	for want, flags := range map[string][]string{first: nil, second: {"--lsm-profile", "apparmor:" + second}} {
		t.Run(want, func(t *testing.T) {
			c := newCounting(t, func(spec *specs.Spec) {
				spec.Process.ApparmorProfile = first
				spec.Process.Args = append(spec.Process.Args, "-try", "create:/data/"+first, "-try", "create:/data/"+second, "-report")
			})
			out, _ := c.throughAPipe(flags...)
			r := testkit.Report(t, out)
			if r.Label != want+" (enforce)" {
				t.Errorf("label %q, want %s", r.Label, want)
			}
			for _, try := range r.Tries {
				if denied := try.Attempt == "create:/data/"+want; denied != (try.Errno == "EACCES") || denied == try.OK {
					t.Errorf("under %s: %+v", want, try)
				}
			}
			if len(r.Tries) != 2 {
				t.Errorf("%+v: want two tries", r.Tries)
			}
		})
	}
}
