package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

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

// engines compares `containr run` with its own runtime, and with other engines.
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
	more, err := b.againstPeers(e, warm)
	return append(tables, more...), err
}

// againstPeers races with docker, with nerdctl and with podman; without any there is no table.
func (b *bench) againstPeers(e *engine, warm *warmer) (tables []table, err error) {
	peers := []liver{{name: "containr", command: e.command}}
	if b.found("dockerd", "docker") {
		d, startErr := b.startDocker()
		if startErr != nil {
			return nil, startErr
		}
		defer func() { err = errors.Join(err, d.stop()) }()
		if err := b.importBase(d.docker("import", "-", "base")); err != nil {
			return nil, err
		}
		peers = append(peers, liver{name: "docker", command: func(args ...string) command { return cmd(d.docker(args...)...) }})
	}
	switch {
	case b.nerdctl == "":
		b.lacks("nerdctl")
	case b.found("containerd", "ctr"):
		d, startErr := b.startContainerd()
		if startErr != nil {
			return nil, startErr
		}
		defer func() { err = errors.Join(err, d.stop()) }()
		client := b.nerdctlOf(d)
		if err := b.importBase(client("import", "-", "base")); err != nil {
			return nil, err
		}
		peers = append(peers, liver{name: "nerdctl", command: func(args ...string) command { return cmd(client(args...)...) }})
	}
	if b.podmanPath == "" {
		b.lacks("a podman for this machine")
	} else {
		client, overlay := b.hostPodman()
		defer func() { err = errors.Join(err, unmounted(overlay)) }()
		if err := b.importBase(client("import", "-", "base")); err != nil {
			return nil, err
		}
		peers = append(peers, liver{name: "podman", command: func(args ...string) command { return cmd(client(args...)...) }})
	}
	if len(peers) == 1 {
		return nil, nil
	}
	const held = "held"
	for _, p := range peers {
		if _, err := p.command("run", "-d", "--name", held, "--network", "none", "base", "sleep", "100000").measure(); err != nil {
			return nil, err
		}
		defer func() {
			_, removeErr := p.command("rm", "-f", held).measure()
			err = errors.Join(err, removeErr)
		}()
	}
	for _, what := range []struct {
		title string
		args  []string
	}{
		{"Engine and peers: run", []string{"run", "--rm", "--network", "none", "base", "true"}},
		{"Engine and peers: exec", []string{"exec", held, "true"}},
	} {
		var c []*contestant
		for _, p := range peers {
			turn := p.command(what.args...)
			c = append(c, &contestant{name: "`" + p.name + " " + strings.Join(what.args, " ") + "`", turn: func(int) (sample, error) { return turn.measure() }})
		}
		if err := race(b.ctx, options{rounds: b.rounds(40), warmUp: 2, before: warm.warm}, c); err != nil {
			return tables, err
		}
		tables = append(tables, raceTable(what.title, "The same image in all. The CPU time is that of the client; that of dockerd, containerd and conmon comes on top.", c))
	}
	return tables, nil
}

// nerdctlOf returns command lines of nerdctl for a containerd.
func (b *bench) nerdctlOf(d *daemon) func(args ...string) []string {
	return func(args ...string) []string {
		line := []string{b.nerdctl, "--address", d.socket, "--namespace", "bench", "--data-root", filepath.Join(b.dir, "nerdctl"), "--cgroup-manager", "cgroupfs",
			"--cni-netconfpath", filepath.Join(b.dir, "cni")}
		if args[0] == "run" {
			args = append([]string{"run", "--cgroup-parent", group}, args[1:]...)
		}
		return append(line, args...)
	}
}

// hostPodman returns command lines of podman on this machine, with the newest crun and stores of its own, and where it mounts its store.
func (b *bench) hostPodman() (line func(args ...string) []string, overlay string) {
	dir := filepath.Join(b.dir, "podman")
	policy := filepath.Join(b.dir, "policy.json")
	line = func(args ...string) []string {
		all := []string{b.podmanPath, "--root", dir, "--runroot", filepath.Join(b.state, "podman"), "--tmpdir", filepath.Join(b.state, "podman-tmp"),
			"--cgroup-manager", "cgroupfs", "--events-backend", "file", "--log-level", "error"}
		if b.crun != "" {
			all = append(all, "--runtime", b.crun)
		}
		switch args[0] {
		case "run":
			args = append([]string{"run", "--cgroup-parent", group, "--log-driver", "k8s-file"}, args[1:]...)
		case "import":
			// Without one it trusts no image, not even an archive of files.
			if err := os.WriteFile(policy, []byte(`{"default": [{"type": "insecureAcceptAnything"}]}`), 0o600); err == nil { // else podman says so
				args = append([]string{"import", "--signature-policy", policy}, args[1:]...)
			}
		}
		return append(all, args...)
	}
	return line, filepath.Join(dir, "overlay")
}

// unmounted takes away a mount, if there is one.
func unmounted(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("umount %s: %w", path, err)
	}
	return nil
}

// importBase gives the root file system of the built-in image to a command that imports it.
func (b *bench) importBase(argv []string) error {
	layer, err := b.baseLayer()
	if err != nil {
		return err
	}
	defer layer.Close()
	load := exec.Command(argv[0], argv[1:]...)
	load.Stdin = layer
	if said, err := load.CombinedOutput(); err != nil {
		return fmt.Errorf("%q: %w: %s", argv, err, said)
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
