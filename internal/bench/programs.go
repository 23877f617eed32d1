package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// programs measures how long our programs and their peers take to start and to say
// their version, and how large ours are.
func (b *bench) programs() ([]table, error) {
	var c []*contestant
	add := func(name string, argv ...string) {
		run := cmd(argv...)
		c = append(c, &contestant{name: name, turn: func(int) (sample, error) { return run.measure() }})
	}
	add("`containr-runtime --version`", b.path("containr-runtime"), "--version")
	add("`containr version`", b.path("containr"), "version")
	for _, path := range []string{b.crun, b.runc} {
		if path != "" {
			add("`"+filepath.Base(path)+" --version` ("+numberOf(path)+")", path, "--version")
		}
	}
	for _, peer := range []string{"crun", "runc", "docker", "podman"} {
		if path, err := exec.LookPath(peer); err == nil {
			add("`"+peer+" --version`", path, "--version")
		}
	}
	if err := race(b.ctx, options{rounds: b.rounds(100), warmUp: 3}, c); err != nil {
		return nil, err
	}
	start := raceTable("Start-up", "Each program says its version; the ratios are those of `containr-runtime`.", c)
	sizes, err := b.sizes()
	return []table{start, sizes}, err
}

// sizes lists the sizes of our programs beside their budgets.
func (b *bench) sizes() (table, error) {
	t := table{title: "Sizes", rule: numbers, head: []string{"", "bytes", "budget"},
		text: "The budgets are kept by a test. `containr` holds the built-in image for every architecture."}
	for _, p := range budgets {
		info, err := os.Stat(b.path(p.name))
		if err != nil {
			return t, err
		}
		t.rows = append(t.rows, []string{"`" + p.name + "`", fmt.Sprint(info.Size()), fmt.Sprint(p.bytes)})
	}
	image, err := builtinSize()
	if err != nil {
		return t, err
	}
	t.rows = append(t.rows, []string{"of it the built-in image", fmt.Sprint(image), ""})
	return t, nil
}

// budgets say how large our programs may be, stripped, as make builds them. Memory and
// start-up time follow the size.
var budgets = []struct {
	name  string
	bytes int64
}{
	{"containr-runtime", 9 << 19},
	{"containr-monitor", 5 << 20},
	{"containr-usernet", 6 << 20},
	{"containr", 103 << 18},
	{"containr-cni", 5 << 20},
}

// versions lists what our programs and the peers call themselves.
func (b *bench) versions() (list [][2]string) {
	list = append(list, [2]string{"containr", firstLine(b.path("containr"), "--version")})
	for _, path := range []string{b.crun, b.runc, b.nerdctl, b.podmanPath} {
		if path != "" {
			list = append(list, [2]string{"newest " + filepath.Base(path), firstLine(path, "--version")})
		}
	}
	for _, peer := range []string{"crun", "runc", "docker", "dockerd", "containerd", "umoci", "skopeo"} {
		if path, err := exec.LookPath(peer); err == nil {
			list = append(list, [2]string{peer, firstLine(path, "--version")})
		}
	}
	return list
}

// firstLine returns the first line of what a program says.
func firstLine(path string, arg string) string {
	text, err := exec.Command(path, arg).Output()
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

// numberOf finds the version's number in what a program says about itself.
func numberOf(path string) string {
	for word := range strings.FieldsSeq(firstLine(path, "--version")) {
		if strings.ContainsAny(word[:1], "0123456789") {
			return strings.TrimRight(word, ",")
		}
	}
	return "of unknown version"
}
