package main

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// network measures what networks cost: to start, to connect, to publish; and what goes through them.
func (b *bench) network() (tables []table, err error) {
	err = b.inOwnNetwork(func() (err error) {
		n, err := b.newNetwork()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, n.remove()) }()
		for _, part := range []func() (table, error){n.runs, n.connections, n.traffic, n.ports, n.crowd} {
			t, err := part()
			if err != nil {
				return err
			}
			tables = append(tables, t)
		}
		return nil
	})
	return tables, err
}

// inOwnNetwork does something in a network namespace of the benchmark's own: this thread is there, and so is every process
// that it starts.
func (b *bench) inOwnNetwork(do func() error) (err error) {
	runtime.LockOSThread()
	outside, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("own network namespace: %w", err)
	}
	defer unix.Close(outside)
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	defer func() {
		if back := unix.Setns(outside, unix.CLONE_NEWNET); back != nil {
			err = errors.Join(err, fmt.Errorf("back to the network namespace: %w", back))
			return // the thread stays locked
		}
		runtime.UnlockOSThread()
	}()
	if err := say("ip", "link", "set", "lo", "up"); err != nil {
		return err
	}
	return do()
}

// networked is containr, and docker if there is one, in the benchmark's network namespace.
type networked struct {
	*bench
	e      *engine
	docker *daemon // nil if there is none
}

func (b *bench) newNetwork() (n *networked, err error) {
	n = &networked{bench: b}
	if n.e, err = b.newEngine("network"); err != nil {
		return nil, err
	}
	if !b.found("dockerd", "docker", "iptables") {
		return n, nil
	}
	socket := filepath.Join(b.dir, "network.sock")
	d := &daemon{socket: socket}
	// With --bridge none and --iptables=false, as elsewhere, there would be nothing to measure.
	n.docker, err = b.startDaemon("network-dockerd", socket, d.docker("version"), "dockerd", "-H", "unix://"+socket,
		"--data-root", filepath.Join(b.dir, "network-docker"), "--exec-root", filepath.Join(b.state, "network-docker"),
		"--pidfile", filepath.Join(b.state, "network-dockerd.pid"), "--cgroup-parent="+group)
	if err != nil {
		return n, errors.Join(err, n.e.remove())
	}
	if err := b.importBase(n.docker.docker("import", "-", "base")); err != nil {
		return n, errors.Join(err, n.remove())
	}
	return n, nil
}

func (n *networked) remove() (err error) {
	if n.docker != nil {
		err = n.docker.stop()
	}
	return errors.Join(err, n.e.remove())
}

// say runs a command that has to succeed.
func say(argv ...string) error {
	if said, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, said)
	}
	return nil
}

// ours and theirs are commands of containr and docker, for say and cmd.
func (n *networked) ours(args ...string) []string   { return n.e.command(args...).argv }
func (n *networked) theirs(args ...string) []string { return n.docker.docker(args...) }

// turns is a contestant whose turn is all of these commands, one after the other.
func turns(name string, argvs ...[]string) *contestant {
	var list []command
	for _, argv := range argvs {
		list = append(list, cmd(argv...))
	}
	return &contestant{name: name, turn: func(int) (sample, error) { return all(list...) }}
}

// runs races a run with a bridge, a run without a network, and docker.
func (n *networked) runs() (table, error) {
	c := []*contestant{
		turns("`containr run --rm base true`, in a bridge", n.ours("run", "--rm", "--network", "bridge", "base", "true")),
		turns("`containr run --rm --network none base true`", n.ours("run", "--rm", "--network", "none", "base", "true")),
	}
	if n.docker != nil {
		c = append(c, turns("`docker run --rm base true`, in a bridge", n.theirs("run", "--rm", "base", "true")))
	}
	if p := n.podman(); p != nil {
		c = append(c, p)
	}
	err := race(n.ctx, options{rounds: n.rounds(30), warmUp: 2}, c)
	return raceTable("Network: a run", "The same image in all, in a network namespace of the benchmark's own. The CPU time is that of the client.", c), err
}

// podman is podman with a bridge, if there is one that runs here.
func (n *networked) podman() *contestant {
	if !n.found("podman") {
		return nil
	}
	podman := func(args ...string) []string {
		return append([]string{"podman", "--root", filepath.Join(n.dir, "podman"), "--runroot", filepath.Join(n.state, "podman"), "--cgroup-manager", "cgroupfs"}, args...)
	}
	layer, err := n.baseLayer()
	if err == nil {
		argv := podman("import", "-", "base")
		load := exec.Command(argv[0], argv[1:]...)
		load.Stdin = layer
		err = errors.Join(load.Run(), layer.Close())
	}
	run := podman("run", "--rm", "--network", "bridge", "base", "true")
	if err == nil {
		err = say(run...)
	}
	if err != nil {
		n.lacks(fmt.Sprintf("podman with a bridge, which does not run here (%v)", err))
		return nil
	}
	run[0], _ = exec.LookPath("podman") // it was found
	return turns("`podman run --rm --network bridge base true`", run)
}

// connections connects a container that runs with a further network, and disconnects it.
func (n *networked) connections() (t table, err error) {
	clean := [][]string{n.ours("rm", "-f", "box"), n.ours("network", "rm", "one", "two")}
	set := [][]string{n.ours("network", "create", "one"), n.ours("network", "create", "two"), n.ours("run", "-d", "--name", "box", "--network", "one", "base", "sleep", "1000")}
	c := []*contestant{turns("`containr network connect` and `disconnect`", n.ours("network", "connect", "two", "box"), n.ours("network", "disconnect", "two", "box"))}
	if n.docker != nil {
		set = append(set, n.theirs("network", "create", "one"), n.theirs("network", "create", "two"), n.theirs("run", "-d", "--name", "box", "--network", "one", "base", "sleep", "1000"))
		clean = append(clean, n.theirs("rm", "-f", "box"), n.theirs("network", "rm", "one", "two"))
		c = append(c, turns("`docker network connect` and `disconnect`", n.theirs("network", "connect", "two", "box"), n.theirs("network", "disconnect", "two", "box")))
	}
	defer func() { err = errors.Join(err, sayAll(clean)) }()
	if err := sayAll(set); err != nil {
		return t, err
	}
	err = race(n.ctx, options{rounds: n.rounds(20), warmUp: 1}, c)
	return raceTable("Network: connect and disconnect", "A container that runs, and a network in which nobody else is.", c), err
}

func sayAll(list [][]string) (err error) {
	for _, argv := range list {
		err = errors.Join(err, say(argv...))
	}
	return err
}

// published is how many ports a container has beside the one that is measured.
const published = 1000

// ports measures whether one more port costs more when there are many.
func (n *networked) ports() (t table, err error) {
	clean := [][]string{n.ours("rm", "-f", "few", "many"), n.ours("network", "rm", "bridge")}
	defer func() { err = errors.Join(err, sayAll(clean)) }()
	box := func(name string, flags ...string) []string {
		return n.ours(append(append([]string{"run", "-d", "--network", "bridge", "--name", name}, flags...), "base", "sleep", "1000")...)
	}
	if err := say(box("few")...); err != nil {
		return t, err
	}
	update := func(label string) (*contestant, error) {
		c := turns(label, n.ours("update", "--publish-add", "30000:80", "few"), n.ours("update", "--publish-rm", "30000:80", "few"))
		return c, race(n.ctx, options{rounds: n.rounds(20), warmUp: 1}, []*contestant{c})
	}
	alone, err := update("`update --publish-add` and `--publish-rm`, no other port")
	if err != nil {
		return t, err
	}
	begin := time.Now()
	if err := say(box("many", "-p", fmt.Sprintf("20000-%d:20000-%d", 20000+published-1, 20000+published-1))...); err != nil {
		return t, err
	}
	took := time.Since(begin)
	beside, err := update(fmt.Sprintf("the same beside %d published ports", published))
	t = raceTable("Network: one more published port", fmt.Sprintf("The two were not measured at the same time. `run -d` with %d ports took %s ms.", published, number(milliseconds(took))), []*contestant{alone, beside})
	return t, err
}

// crowded is how many containers are in one network.
const crowded = 100

// crowd starts containers in one network, and looks whether the last take longer than the first.
func (n *networked) crowd() (t table, err error) {
	count := n.rounds(crowded)
	var names []string
	defer func() {
		err = errors.Join(err, say(n.ours(append([]string{"rm", "-f"}, names...)...)...), say(n.ours("network", "rm", "crowd")...))
	}()
	if err := say(n.ours("network", "create", "crowd")...); err != nil {
		return t, err
	}
	var took []float64
	for i := range count {
		names = append(names, "c"+strconv.Itoa(i))
		s, err := n.e.command("run", "-d", "--network", "crowd", "--name", names[i], "base", "sleep", "1000").measure()
		if err != nil {
			return t, err
		}
		took = append(took, milliseconds(s.wall))
	}
	part := max(count/10, 1)
	return table{title: fmt.Sprintf("Network: %d containers in one", count), rule: numbers, text: "`containr run -d` one after the other, in a network with names; medians of their times.",
		head: []string{"", "ms each"}, rows: [][]string{
			{fmt.Sprintf("the first %d", part), number(summarize(took[:part]).median)},
			{fmt.Sprintf("the last %d", part), number(summarize(took[count-part:]).median)},
			{"all", number(summarize(took).median)},
		}}, nil
}
