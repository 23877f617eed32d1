package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ociRuntime is an OCI runtime. All of them take the same command line.
type ociRuntime struct {
	// name is for the tables, id for its containers.
	name, id, path, root string
	// passing and staying are the bundles of a program that ends at once, and of
	// one that does not; unplugged is passing in the host's network.
	passing, staying, unplugged string
}

// command is one call of the runtime.
func (r *ociRuntime) command(args ...string) command {
	return cmd(append([]string{r.path, "--root", r.root}, args...)...)
}

// ociRuntimes lists ours, which comes first, the newest peers, and Debian's.
func (b *bench) ociRuntimes() ([]*ociRuntime, error) {
	list := []*ociRuntime{{name: "containr-runtime", id: "containr", path: b.path("containr-runtime")}}
	for _, path := range []string{b.crun, b.runc} {
		if path != "" {
			name := filepath.Base(path)
			list = append(list, &ociRuntime{name: name + " " + numberOf(path), id: "newest-" + name, path: path})
		}
	}
	for _, peer := range []string{"crun", "runc"} {
		path, err := exec.LookPath(peer)
		if err != nil {
			b.lacks(peer)
			continue
		}
		list = append(list, &ociRuntime{name: peer + " " + numberOf(path), id: peer, path: path})
	}
	for _, r := range list {
		r.root = filepath.Join(b.state, r.id)
		var errs [3]error
		r.passing, errs[0] = b.makeBundle(r.id, "/true", nil)
		r.staying, errs[1] = b.makeBundle(r.id+"-stays", "/hold", nil)
		r.unplugged, errs[2] = b.makeBundle(r.id+"-unplugged", "/true", withoutNetwork)
		if err := errors.Join(errs[:]...); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// runtimes compares the OCI runtimes.
func (b *bench) runtimes() ([]table, error) {
	list, err := b.ociRuntimes()
	if err != nil {
		return nil, err
	}
	// The containers of create are orphans when create ends. They become ours, so
	// that it is known when they have ended.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, err
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) }() // it did not fail before
	warm, err := newWarmer()
	if err != nil {
		return nil, err
	}
	var tables []table
	for _, measure := range []func([]*ociRuntime, *warmer) (table, error){b.runHot, b.runCold, b.runUnplugged, b.runAmongMounts,
		b.fourAtOnce, b.sixteenAtOnce, b.steps, b.stepsCold, b.execs, b.execsCold, b.memory, b.thousand} {
		t, err := measure(list, warm)
		if err != nil {
			return nil, err
		}
		tables = append(tables, t)
	}
	return tables, nil
}

// runs makes a contestant of each runtime that runs a container from start to end.
func runs(list []*ociRuntime, bundle func(*ociRuntime) string) (contestants []*contestant) {
	for _, r := range list {
		turn := func(int) (sample, error) { return r.command("run", "--bundle", bundle(r), r.id).measure() }
		contestants = append(contestants, &contestant{name: r.name, turn: turn, mend: func() error { return r.clear(r.id) }})
	}
	return contestants
}

func passing(r *ociRuntime) string { return r.passing }

func (b *bench) runHot(list []*ociRuntime, warm *warmer) (table, error) {
	c := runs(list, passing)
	err := race(b.ctx, options{rounds: b.rounds(200), warmUp: 3, before: warm.warm}, c)
	return raceTable("Runtime: run, hot", "`containr-runtime run` of a full container whose program ends at once: "+
		"six namespaces, seven mounts, fourteen capabilities, docker's masked paths and filter, a control group. One after another, "+
		"each just after something else has entered a control group.", c), err
}

// coldPause is long enough for the kernel to forget that control groups were busy.
const coldPause = 120 * time.Millisecond

// cold are the options of a race whose turns each come after a pause.
func (b *bench) cold() options {
	return options{rounds: b.rounds(60), warmUp: 2, before: func() error {
		timer := time.NewTimer(coldPause)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-b.ctx.Done():
		}
		return nil
	}}
}

func (b *bench) runCold(list []*ociRuntime, _ *warmer) (table, error) {
	c := runs(list, passing)
	err := race(b.ctx, b.cold(), c)
	return raceTable("Runtime: run, cold", fmt.Sprintf("The same after %v of silence, when entering a control group has to wait for the kernel: "+
		"what a person sees who types the command.", coldPause), c), err
}

func (b *bench) runUnplugged(list []*ociRuntime, warm *warmer) (table, error) {
	c := runs(list, func(r *ociRuntime) string { return r.unplugged })
	err := race(b.ctx, options{rounds: b.rounds(80), warmUp: 3, before: warm.warm}, c)
	return raceTable("Runtime: run, hot, in the host's network", "The same without a network namespace, whose making is the kernel's longest work for a container.", c), err
}

// steps measures create, start and delete, which callers such as podman and
// containerd use, added up. Between start and delete the program has ended.
func (b *bench) steps(list []*ociRuntime, warm *warmer) (table, error) {
	c := b.stepping(list)
	err := race(b.ctx, options{rounds: b.rounds(100), warmUp: 3, before: warm.warm}, c)
	return raceTable("Runtime: create, start, delete", "Three processes, their times added.", c), err
}

func (b *bench) stepsCold(list []*ociRuntime, _ *warmer) (table, error) {
	c := b.stepping(list)
	err := race(b.ctx, b.cold(), c)
	return raceTable("Runtime: create, start, delete, cold", "The same, each time after the silence.", c), err
}

func (b *bench) stepping(list []*ociRuntime) (c []*contestant) {
	for _, r := range list {
		c = append(c, &contestant{name: r.name, turn: func(int) (sample, error) { return r.createStartDelete(b.dir) }, mend: func() error { return r.clear(r.id) }})
	}
	return c
}

func (r *ociRuntime) createStartDelete(dir string) (sample, error) {
	pid, made, err := r.create(dir, r.passing, r.id)
	if err != nil {
		return made, err
	}
	started, err := r.command("start", r.id).measure()
	if err != nil {
		return started, err
	}
	if _, _, err := wait(pid); err != nil {
		return made, err
	}
	deleted, err := r.command("delete", r.id).measure()
	return sample{wall: made.wall + started.wall + deleted.wall, cpu: made.cpu + started.cpu + deleted.cpu}, err
}

// create makes a container and returns its process id.
func (r *ociRuntime) create(dir, bundle, id string) (pid int, s sample, err error) {
	file := filepath.Join(dir, r.id+".pid")
	if s, err = r.command("create", "--bundle", bundle, "--pid-file", file, id).measure(); err != nil {
		return 0, s, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, s, err
	}
	pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
	return pid, s, err
}

// clear removes what calls that failed have left of containers, if anything.
func (r *ociRuntime) clear(ids ...string) error {
	var errs []error
	for _, id := range ids {
		_, err := r.command("delete", "--force", id).measure()
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// destroy ends a container and reaps its process.
func (r *ociRuntime) destroy(pid int) error {
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		return fmt.Errorf("kill %d: %w", pid, err)
	}
	_, _, err := wait(pid)
	_, gone := r.command("delete", "--force", r.id).measure()
	return errors.Join(err, gone)
}

func (b *bench) execs(list []*ociRuntime, warm *warmer) (table, error) {
	return b.execsAs(list, options{rounds: b.rounds(100), warmUp: 3, before: warm.warm}, "Runtime: exec", "A program that ends at once, in a container that runs.")
}

func (b *bench) execsCold(list []*ociRuntime, _ *warmer) (table, error) {
	return b.execsAs(list, b.cold(), "Runtime: exec, cold", "The same, each time after the silence.")
}

func (b *bench) execsAs(list []*ociRuntime, o options, title, text string) (t table, err error) {
	var c []*contestant
	for _, r := range list {
		pid, _, err := r.create(b.dir, r.staying, r.id)
		if err != nil {
			return t, err
		}
		defer func() { err = errors.Join(err, r.destroy(pid)) }()
		if _, err := r.command("start", r.id).measure(); err != nil {
			return t, err
		}
		c = append(c, &contestant{name: r.name, turn: func(int) (sample, error) { return r.command("exec", r.id, "/true").measure() }})
	}
	err = race(b.ctx, o, c)
	return raceTable(title, text, c), err
}
