package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/baseimage"
	"github.com/containr/containr/pkg/image"
)

// engine is containr with stores of the benchmark's own: on disk what outlives a boot,
// in memory what does not, as in the usual places.
type engine struct{ path, root string }

func (b *bench) newEngine(name string) (*engine, error) {
	e := &engine{b.path("containr"), filepath.Join(b.dir, name)}
	run, memory := filepath.Join(e.root, "run"), filepath.Join(b.state, name)
	if err := errors.Join(os.MkdirAll(run, 0o700), os.MkdirAll(memory, 0o700)); err != nil {
		return nil, err
	}
	return e, unix.Mount(memory, run, "", unix.MS_BIND, "")
}

// remove removes the engine's stores.
func (e *engine) remove() error {
	return errors.Join(unix.Unmount(filepath.Join(e.root, "run"), unix.MNT_DETACH), os.RemoveAll(e.root))
}

func (e *engine) command(args ...string) command {
	return cmd(append([]string{e.path, "--root", e.root}, args...)...)
}

// engines compares `containr run` with its own runtime, and with docker.
func (b *bench) engines() (tables []table, err error) {
	e, err := b.newEngine("engine")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.remove()) }()
	bundle, err := b.makeBundle("engine-peer", "/true", nil)
	if err != nil {
		return nil, err
	}
	warm, err := newWarmer()
	if err != nil {
		return nil, err
	}
	run := e.command("run", "--rm", "--network", "none", "base", "true")
	runtime := cmd(b.path("containr-runtime"), "--root", filepath.Join(b.state, "engine-peer"), "run", "--bundle", bundle, "engine-peer")
	c := []*contestant{
		{name: "`containr run --rm --network none base true`", turn: func(int) (sample, error) { return run.measure() }},
		{name: "`containr-runtime run`", turn: func(int) (sample, error) { return runtime.measure() }},
	}
	if err := race(b.ctx, options{rounds: b.rounds(100), warmUp: 3, before: warm.warm}, c); err != nil {
		return nil, err
	}
	tables = append(tables, raceTable("Engine and runtime", "What image, layer, record and configuration cost beside the container itself.", c))
	c[0].samples = nil
	t, err := b.againstDocker(c[0], warm)
	if err != nil || t == nil {
		return tables, err
	}
	return append(tables, *t), nil
}

// againstDocker races with docker; without docker there is no table.
func (b *bench) againstDocker(ours *contestant, warm *warmer) (t *table, err error) {
	if !b.found("dockerd", "docker") {
		return nil, nil
	}
	d, err := b.startDocker()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	if err := b.importBase(d); err != nil {
		return nil, err
	}
	run := cmd(d.docker("run", "--rm", "--network", "none", "base", "true")...)
	c := []*contestant{ours, {name: "`docker run --rm --network none base true`", turn: func(int) (sample, error) { return run.measure() }}}
	err = race(b.ctx, options{rounds: b.rounds(40), warmUp: 2, before: warm.warm}, c)
	table := raceTable("Engine and docker", "The same image in both. The CPU time is that of the client; dockerd's and containerd's come on top.", c)
	return &table, err
}

// importBase gives docker the root file system of the built-in image.
func (b *bench) importBase(d *daemon) error {
	layer, err := b.baseLayer()
	if err != nil {
		return err
	}
	defer layer.Close()
	argv := d.docker("import", "-", "base")
	load := exec.Command(argv[0], argv[1:]...)
	load.Stdin = layer
	if said, err := load.CombinedOutput(); err != nil {
		return fmt.Errorf("docker import: %w: %s", err, said)
	}
	return nil
}

// baseLayer opens the only layer of the built-in image, as a tar stream.
func (b *bench) baseLayer() (io.ReadCloser, error) {
	archive, err := baseimage.Archive()
	if err != nil {
		return nil, err
	}
	store, err := image.Open(filepath.Join(b.dir, "base-content"))
	if err != nil {
		return nil, err
	}
	if _, err := store.Load(b.ctx, bytes.NewReader(archive), image.LoadOptions{Name: baseimage.Name}); err != nil {
		return nil, err
	}
	img, err := store.Resolve(baseimage.Name, image.Default())
	if err != nil {
		return nil, err
	}
	if len(img.Layers) != 1 {
		return nil, fmt.Errorf("the built-in image has %d layers, want 1", len(img.Layers))
	}
	return img.Layers[0].Open(store, image.Limits{})
}

// builtinSize is what the built-in image takes in the program, in bytes.
func builtinSize() (int, error) {
	archive, err := baseimage.Archive()
	return len(archive), err
}
