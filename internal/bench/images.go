package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// tag names the image of Debian, in its layout and in the registry.
const tag = "bench"

// images compares pulling and unpacking of a small Debian. It is all done in memory: ext4 looks for a free
// inode past all those that were deleted in the last minutes, so that on a disk each
// round would pay for the removal of the trees of the rounds before it.
func (b *bench) images() (tables []table, err error) {
	err = b.inMemory("images", func(inner *bench) (err error) {
		tables, err = inner.debianImages()
		return err
	})
	return tables, err
}

// inMemory lets measure work in a directory that is in memory.
func (b *bench) inMemory(name string, measure func(*bench) error) (err error) {
	inner := *b
	inner.dir = filepath.Join(b.dir, name)
	if err := errors.Join(os.Mkdir(inner.dir, 0o755), unix.Mount(name, inner.dir, "tmpfs", 0, "mode=755")); err != nil {
		return err
	}
	defer func() {
		b.missing = inner.missing
		err = errors.Join(err, unix.Unmount(inner.dir, unix.MNT_DETACH))
	}()
	return measure(&inner)
}

// debianImages compares what is done with a small Debian.
func (b *bench) debianImages() ([]table, error) {
	if b.debian == "" {
		b.lacks("a root file system of Debian, and with it pulls of that")
		return nil, nil
	}
	l, err := makeLayout(filepath.Join(b.dir, "layout"), tag, debianLayers(b.debian))
	if err != nil {
		return nil, err
	}
	size := fmt.Sprintf("A small Debian in three layers, %.1f MB compressed with gzip, %.1f MB in files", float64(l.compressed)/1e6, float64(l.plain)/1e6)
	unpacked, err := b.unpacks(l, size)
	if err != nil {
		return nil, err
	}
	pulled, err := b.pulls(l, size)
	if err != nil {
		return nil, err
	}
	changed, err := b.changes(l, size)
	if err != nil {
		return nil, err
	}
	pushed, err := b.pushes(l, size)
	return []table{unpacked, pulled, changed, pushed}, err
}

// settle writes out what others left to be written, so that nobody pays for them.
func settle() error {
	unix.Sync()
	return nil
}

// unpacks races from a layout on disk to a root file system.
func (b *bench) unpacks(l *layout, size string) (t table, err error) {
	c := []*contestant{{name: "`containr load`, first `containr run`", turn: func(round int) (sample, error) { return b.loadAndRun(l, round) }}}
	if b.found("umoci") {
		path, err := exec.LookPath("umoci")
		if err != nil {
			return t, err
		}
		c = append(c, &contestant{name: "`umoci unpack`", turn: func(round int) (sample, error) {
			dir := filepath.Join(b.dir, fmt.Sprint("umoci", round))
			s, err := cmd(path, "unpack", "--image", l.dir+":"+tag, dir).measure()
			return s, errors.Join(err, os.RemoveAll(dir))
		}})
	}
	if b.found("containerd", "ctr") {
		d, err := b.startContainerd()
		if err != nil {
			return t, err
		}
		defer func() { err = errors.Join(err, d.stop()) }()
		archive := filepath.Join(b.dir, "layout.tar")
		if said, err := exec.Command("tar", "-C", l.dir, "-cf", archive, ".").CombinedOutput(); err != nil {
			return t, fmt.Errorf("tar: %w: %s", err, said)
		}
		c = append(c, &contestant{name: "`ctr images import`", turn: func(int) (sample, error) {
			s, err := cmd(d.ctr("images", "import", "--base-name", "debian", archive)...).measure()
			return s, errors.Join(err, d.dropImages())
		}})
	}
	err = race(b.ctx, options{rounds: b.rounds(6), warmUp: 1, before: settle}, c)
	return raceTable("Unpack", size+", from a layout to a root file system, both in memory. containr takes it into its store, unpacks it and runs `true` in it; "+
		"umoci only unpacks; containerd takes it in and unpacks it, in its daemon, whose CPU time is not counted.", c), err
}

// loadAndRun takes the image into an empty store and runs a container of it.
func (b *bench) loadAndRun(l *layout, round int) (s sample, err error) {
	e, err := b.newEngine(fmt.Sprint("load", round))
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, e.remove()) }()
	return all(e.command("load", "--input", l.dir, "--name", "debian:"+tag),
		e.command("run", "--rm", "--network", "none", "debian:"+tag, "true"))
}

// dropImages removes all images of containerd and waits until their content is gone.
func (d *daemon) dropImages() error {
	argv := d.ctr("images", "list", "-q")
	names, err := exec.Command(argv[0], argv[1:]...).Output()
	if err != nil {
		return fmt.Errorf("ctr images list: %w", err)
	}
	for name := range strings.FieldsSeq(string(names)) {
		if _, err := cmd(d.ctr("images", "rm", "--sync", name)...).measure(); err != nil {
			return err
		}
	}
	return nil
}

// pulls races from a registry to a root file system.
func (b *bench) pulls(l *layout, size string) (t table, err error) {
	host, stop, err := serveLayout(l, "debian", tag)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	name := host + "/debian:" + tag
	c := []*contestant{{name: "`containr pull`", turn: func(round int) (sample, error) { return b.pull(name, round) }}}
	if b.found("dockerd", "docker") {
		d, err := b.startDocker()
		if err != nil {
			return t, err
		}
		defer func() { err = errors.Join(err, d.stop()) }()
		c = append(c, &contestant{name: "`docker pull`", turn: func(int) (sample, error) {
			s, err := cmd(d.docker("pull", name)...).measure()
			_, gone := cmd(d.docker("rmi", name)...).measure()
			return s, errors.Join(err, gone)
		}})
	}
	if b.found("containerd", "ctr") {
		d, err := b.startContainerd()
		if err != nil {
			return t, err
		}
		defer func() { err = errors.Join(err, d.stop()) }()
		c = append(c, &contestant{name: "`ctr images pull`", turn: func(int) (sample, error) {
			s, err := cmd(d.ctr("images", "pull", "--plain-http", name)...).measure()
			return s, errors.Join(err, d.dropImages())
		}})
	}
	err = race(b.ctx, options{rounds: b.rounds(6), warmUp: 1, before: settle}, c)
	return raceTable("Pull", size+", from a registry on the loopback interface that only sends files, to a root file system in memory. "+
		"The CPU time of the peers is that of their clients.", c), err
}

// pull pulls the image into an empty store.
func (b *bench) pull(name string, round int) (s sample, err error) {
	e, err := b.newEngine(fmt.Sprint("pull", round))
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, e.remove()) }()
	return e.command("pull", "--plain-http", "--quiet", name).measure()
}
