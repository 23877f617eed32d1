package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/containr/containr/internal/testkit/guest"
)

// podman asks for CAP_SYS_RESOURCE and for control groups of version 2, so it is measured in a virtual machine, where this
// program runs once more (inGuest). What computes there is a program, too, unless the host has KVM, so that times say nothing:
// only how the two relate to each other is told.
const (
	podmanKernel = "debian-6.12"
	podmanTime   = time.Hour
	// podmanListed is how many containers are listed.
	podmanListed = 100
	guestID      = 1000
)

// pairing is one thing that both do, with the times of rounds in milliseconds.
type pairing struct {
	Name         string
	Ours, Theirs []float64
}

// podman boots the machine and reads what was measured there.
func (b *bench) podman() ([]table, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	programs, err := filepath.Glob(filepath.Join(b.bin, "containr*"))
	if err != nil {
		return nil, err
	}
	for _, p := range programs {
		files["/usr/local/bin/"+filepath.Base(p)] = p
	}
	var out bytes.Buffer
	result, err := guest.Exec(b.ctx, guest.Options{
		Kernel: podmanKernel, Binary: self, Args: []string{"-guest", "-divisor", fmt.Sprint(b.divisor)}, Files: files,
		Packages: []string{"podman", "crun", "catatonit", "uidmap", "iptables", "iproute2"}, Timeout: podmanTime, Stdout: &out, Stderr: os.Stderr,
	})
	switch {
	case errors.Is(err, guest.ErrUnavailable):
		b.lacks(fmt.Sprintf("podman, for which there is no virtual machine (%v)", err))
		return nil, nil
	case err != nil:
		return nil, err
	case result.Code != 0:
		return nil, fmt.Errorf("in the virtual machine: exit status %d", result.Code)
	}
	var measured struct {
		Version string
		Pairs   []pairing
	}
	if err := json.Unmarshal(out.Bytes(), &measured); err != nil {
		return nil, fmt.Errorf("what the virtual machine said: %w", err)
	}
	return []table{podmanTable(measured.Version, measured.Pairs)}, nil
}

func podmanTable(version string, pairs []pairing) table {
	t := table{title: "Engine and podman", rule: numbers, head: []string{"", "n", "containr / podman", "least", "most"},
		text: fmt.Sprintf("Ratios of times on the clock in a virtual machine (QEMU, Linux of Debian 13), of rounds in which both took turns: %s with Debian's crun, "+
			"control groups of version 2, `--network none` and the built-in image for both. A processor that is emulated has other times than a real one, so none are told.", version)}
	for _, p := range pairs {
		var ratios []float64
		least, most := 0.0, 0.0
		for i, ratio := range quotients(p.Ours, p.Theirs) {
			if i == 0 {
				least, most = ratio, ratio
			}
			least, most = min(least, ratio), max(most, ratio)
			ratios = append(ratios, ratio)
		}
		t.rows = append(t.rows, []string{p.Name, fmt.Sprint(len(ratios)), fmt.Sprintf("%.3f", summarize(ratios).median), fmt.Sprintf("%.3f", least), fmt.Sprintf("%.3f", most)})
	}
	return t
}

// inGuest measures both in the virtual machine that it runs in, as root and as an ordinary user, and prints that.
func (b *bench) inGuest() (err error) {
	if b.dir, err = os.MkdirTemp("/var/tmp", "containr-bench-"); err != nil {
		return err
	}
	layer := filepath.Join(b.dir, "base.tar")
	if err := errors.Join(os.Chmod(b.dir, 0o755), b.writeLayer(layer), knowUser(), say("ip", "link", "set", "lo", "up")); err != nil {
		return err
	}
	var pairs []pairing
	for _, user := range []struct {
		name string
		id   uint32
	}{{"root", 0}, {"an ordinary user", guestID}} {
		d, err := b.newDuel(user.name, user.id, layer)
		if err != nil {
			return fmt.Errorf("%s: %w", user.name, err)
		}
		more, err := d.all()
		if err != nil {
			return fmt.Errorf("%s: %w", user.name, err)
		}
		pairs = append(pairs, more...)
	}
	version := exec.Command("podman", "--version")
	said, err := version.Output()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"Version": strings.TrimSpace(string(said)), "Pairs": pairs})
}

// writeLayer writes the root file system of the built-in image.
func (b *bench) writeLayer(path string) error {
	layer, err := b.baseLayer()
	if err != nil {
		return err
	}
	defer layer.Close()
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, layer)
	return errors.Join(err, f.Close())
}

// knowUser makes the ordinary user one that the machine knows.
func knowUser() error {
	var list []error
	for file, line := range map[string]string{
		"/etc/passwd": fmt.Sprintf("bench:x:%d:%d::/home/bench:/bin/sh\n", guestID, guestID), "/etc/group": fmt.Sprintf("bench:x:%d:\n", guestID),
		"/etc/subuid": "bench:1000000:65536\n", "/etc/subgid": "bench:1000000:65536\n",
	} {
		f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
		if err == nil {
			_, err = f.WriteString(line)
			err = errors.Join(err, f.Close())
		}
		list = append(list, err)
	}
	for _, program := range []string{"/usr/bin/newuidmap", "/usr/bin/newgidmap"} { // what packages are unpacked to has lost it
		list = append(list, os.Chown(program, 0, 0), os.Chmod(program, 0o755|os.ModeSetuid))
	}
	return errors.Join(list...)
}

// duel is containr and podman of one user of the machine.
type duel struct {
	*bench
	user         string
	ours, theirs func(args ...string) command
}

func (b *bench) newDuel(user string, id uint32, layer string) (*duel, error) {
	dir := filepath.Join(b.dir, fmt.Sprint(id))
	var list []error
	for _, name := range []string{"", "home", "run", "tmp"} {
		list = append(list, os.Mkdir(filepath.Join(dir, name), 0o700), os.Chown(filepath.Join(dir, name), int(id), int(id)))
	}
	if err := errors.Join(list...); err != nil {
		return nil, err
	}
	as := func(argv ...string) command {
		c := command{argv: argv, dir: dir, env: []string{"PATH=" + os.Getenv("PATH") + ":/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"HOME=" + filepath.Join(dir, "home"), "TMPDIR=" + filepath.Join(dir, "tmp"), "XDG_RUNTIME_DIR=" + filepath.Join(dir, "run")}}
		if id != 0 {
			c.user = &syscall.Credential{Uid: id, Gid: id, Groups: []uint32{}}
		}
		return c
	}
	d := &duel{bench: b, user: user}
	d.ours = func(args ...string) command {
		return as(append([]string{"/usr/local/bin/containr", "--root", filepath.Join(dir, "containr")}, args...)...)
	}
	podman, err := exec.LookPath("podman")
	if err != nil {
		return nil, err
	}
	d.theirs = func(args ...string) command {
		return as(append([]string{podman, "--root", filepath.Join(dir, "podman"), "--runroot", filepath.Join(dir, "run/podman"), "--cgroup-manager", "cgroupfs",
			"--events-backend", "file"}, args...)...)
	}
	_, err = d.theirs("import", layer, "base").measure()
	return d, err
}

// all measures what there is to measure.
func (d *duel) all() (list []pairing, err error) {
	for _, part := range []func() (pairing, error){d.short, d.detached, d.execs, d.lists} {
		p, err := part()
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(os.Stderr, "%s, %s\n", p.Name, d.user)
		p.Name += ", " + d.user
		list = append(list, p)
	}
	return list, nil
}

// pair races the two. What each does afterwards is not measured.
func (d *duel) pair(name string, rounds int, args []string, after ...[]string) (pairing, error) {
	var c []*contestant
	for _, by := range []func(...string) command{d.ours, d.theirs} {
		c = append(c, &contestant{name: name, turn: func(int) (sample, error) {
			s, err := by(args...).measure()
			for _, args := range after {
				if err == nil {
					_, err = by(args...).measure()
				}
			}
			return s, err
		}})
	}
	p := pairing{Name: name}
	err := race(d.ctx, options{rounds: d.rounds(rounds), warmUp: 1}, c)
	for i := range c[0].samples {
		p.Ours, p.Theirs = append(p.Ours, milliseconds(c[0].samples[i].wall)), append(p.Theirs, milliseconds(c[1].samples[i].wall))
	}
	return p, err
}

// podman waits ten seconds for a container that it removes.
func kill(name string) []string   { return []string{"kill", name} }
func remove(name string) []string { return []string{"rm", "-f", name} }

func (d *duel) short() (pairing, error) {
	return d.pair("`run --rm`", 12, []string{"run", "--rm", "--network", "none", "base", "true"})
}

func (d *duel) detached() (pairing, error) {
	return d.pair("`run -d`", 12, []string{"run", "-d", "--name", "lives", "--network", "none", "base", "sleep", "1000"}, kill("lives"), remove("lives"))
}

func (d *duel) execs() (p pairing, err error) {
	both := func(args ...string) error {
		_, err := all(d.ours(args...), d.theirs(args...))
		return err
	}
	if err := both("run", "-d", "--name", "box", "--network", "none", "base", "sleep", "10000"); err != nil {
		return p, err
	}
	p, err = d.pair("`exec`", 20, []string{"exec", "box", "true"})
	return p, errors.Join(err, both(kill("box")...), both(remove("box")...))
}

func (d *duel) lists() (pairing, error) {
	n := d.rounds(podmanListed)
	for range n {
		for _, by := range []func(...string) command{d.ours, d.theirs} {
			if _, err := by("create", "--network", "none", "base", "true").measure(); err != nil {
				return pairing{}, err
			}
		}
	}
	return d.pair(fmt.Sprintf("`ps -a` of %d containers", n), 20, []string{"ps", "-a"})
}
