package guest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/containr/containr/internal/testkit"
)

// keyring is where Debian and its derivatives keep the keys that its archive is signed with.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// An archive is a private view of one suite of Debian for one architecture: apt's own programs, signatures and
// proxy settings, but lists, cache and status of its own, so that the machine's packages are neither changed nor
// consulted, and packages of another architecture can be had. It needs no root.
type archive struct {
	dir   string
	suite string // bullseye, bookworm, trixie, ...
	arch  string // Debian's name: amd64, arm64
}

// openArchive makes the archive's files below cache and fetches the suite's list of packages (some 10 MB).
func openArchive(cache, suite, arch string) (*archive, error) {
	a := &archive{dir: filepath.Join(cache, "apt", suite+"-"+arch), suite: suite, arch: arch}
	mirror, err := mirror()
	if err != nil {
		return nil, err
	}
	for _, d := range []string{"state/lists/partial", "cache/archives/partial", "sources", "preferences", "debs"} {
		if err := os.MkdirAll(filepath.Join(a.dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	source := fmt.Sprintf("deb [signed-by=%s] %s %s main\n", keyring, mirror, suite)
	for name, text := range map[string]string{"sources/debian.list": source, "state/status": "", "apt.conf": a.config()} {
		if err := os.WriteFile(filepath.Join(a.dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	_, err = a.run("apt-get", "update")
	return a, err
}

// config is the apt.conf(5) of the private view. Dir::Etc::parts is left alone: proxies are configured there.
func (a *archive) config() string {
	var b strings.Builder
	fmt.Fprintf(&b, "APT::Architecture %q;\nAPT::Architectures { %q; };\n", a.arch, a.arch)
	for _, kv := range [][2]string{
		{"Dir::State", a.dir + "/state"}, {"Dir::State::status", a.dir + "/state/status"}, {"Dir::Cache", a.dir + "/cache"},
		{"Dir::Etc::sourcelist", "/dev/null"}, {"Dir::Etc::sourceparts", a.dir + "/sources"},
		{"Dir::Etc::preferences", "/dev/null"}, {"Dir::Etc::preferencesparts", a.dir + "/preferences"},
		{"Acquire::Languages", "none"}, {"APT::Sandbox::User", ""},
	} {
		fmt.Fprintf(&b, "%s %q;\n", kv[0], kv[1])
	}
	// Suites go out of support; their signed lists stay what they are.
	b.WriteString("Acquire::Check-Valid-Until \"false\";\n")
	return b.String()
}

// run executes one of apt's programs on the private view and returns its standard output.
func (a *archive) run(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = filepath.Join(a.dir, "debs")
	cmd.Env = append(os.Environ(), "APT_CONFIG="+a.dir+"/apt.conf", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	return output(cmd)
}

// download fetches packages and returns the paths of the .deb files in the same order.
func (a *archive) download(names ...string) ([]string, error) {
	if _, err := a.run("apt-get", append([]string{"download"}, names...)...); err != nil {
		return nil, err
	}
	var debs []string
	for _, name := range names {
		found, err := filepath.Glob(filepath.Join(a.dir, "debs", name+"_*.deb"))
		if err != nil || len(found) == 0 {
			return nil, fmt.Errorf("apt-get download made no file for %s: %v", name, err)
		}
		debs = append(debs, found[len(found)-1])
	}
	return debs, nil
}

// depends returns the packages that a package needs directly and that are not virtual.
func (a *archive) depends(name string) ([]string, error) {
	out, err := a.run("apt-cache", "depends", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks",
		"--no-replaces", "--no-enhances", name)
	if err != nil {
		return nil, err
	}
	var deps []string
	for line := range strings.Lines(out) {
		if _, dep, ok := strings.Cut(strings.TrimSpace(line), "Depends: "); ok && !strings.HasPrefix(dep, "<") {
			deps = append(deps, dep)
		}
	}
	return deps, nil
}

// mirror asks the machine's own apt where it gets Debian from, so that this package names no server.
func mirror() (string, error) {
	cmd := exec.Command("apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages")
	out, err := output(cmd)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		if label, uri, ok := strings.Cut(strings.TrimSpace(line), " "); ok && label == "Debian" {
			return uri, nil
		}
	}
	return "", fmt.Errorf("apt knows no Debian mirror: its lists are empty (apt-get update) or it is not Debian's")
}

// output runs a command; its standard error becomes part of the error.
func output(cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := testkit.OutsideNetwork(cmd.Run); err != nil { // it may fetch
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}
