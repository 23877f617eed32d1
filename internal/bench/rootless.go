package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// ordinary is a user who is nobody in particular, in a network namespace of the benchmark's own, which is his host's. Below
// its directory are his home, his state and a copy of our programs, that he may execute.
type ordinary struct {
	*bench
	dir string
	// neighbour is a process on another machine of the host's network.
	neighbour int
	// undo is what there is to undo, the last first.
	undo []func() error
}

// Of the user and of the network that he is in.
const (
	ordinaryID     = 7100
	ordinaryName   = "containr-bench"
	ordinaryGrants = ordinaryName + ":1000000:65536\n"
	// automaticGrants is what containers of root with --userns auto take theirs from.
	automaticGrants = "containers:2147483648:2147418112\n"
	hostAddress     = "10.99.1.1"
	otherAddress    = "10.99.1.2"
)

// userNetworks are the ways by which an ordinary user's container reaches the world, by their names for --network, with the
// beginnings of the names of the files that carry the packets (pasta is a name of passt). The first is ours.
var userNetworks = []struct{ name, program string }{{"builtin", "containr-usernet"}, {"slirp4netns", "slirp4netns"}, {"pasta", "passt"}}

// rootless measures what an ordinary user's containers and networks cost, beside those of root and beside other programs that
// carry packets.
func (b *bench) rootless() (tables []table, err error) {
	err = b.inOwnNetwork(func() (err error) {
		o, err := b.newOrdinary()
		defer func() { err = errors.Join(err, o.remove()) }()
		if err != nil {
			return err
		}
		for _, part := range []func() ([]table, error){o.runs, o.userns, o.traffic} {
			more, err := part()
			if err != nil {
				return err
			}
			tables = append(tables, more...)
		}
		return nil
	})
	return tables, err
}

func (b *bench) newOrdinary() (o *ordinary, err error) {
	o = &ordinary{bench: b, dir: filepath.Join(b.dir, "ordinary")}
	if err := errors.Join(os.Mkdir(o.dir, 0o755), os.Chmod(b.dir, 0o711)); err != nil {
		return o, err
	}
	o.undo = append(o.undo, func() error { return os.RemoveAll(o.dir) })
	for _, name := range []string{"home", "run"} {
		dir := filepath.Join(o.dir, name)
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, ordinaryID, ordinaryID)); err != nil {
			return o, err
		}
	}
	if err := o.mount("tmpfs", filepath.Join(o.dir, "run"), "tmpfs", 0, fmt.Sprintf("mode=700,uid=%d,gid=%d", ordinaryID, ordinaryID)); err != nil {
		return o, err
	}
	programs, err := filepath.Glob(filepath.Join(b.bin, "containr*"))
	if err != nil {
		return o, err
	}
	if err := say(slices.Concat([]string{"install", "-D", "-m", "755", "-t", filepath.Join(o.dir, "bin")}, programs)...); err != nil {
		return o, err
	}
	return o, errors.Join(o.known(), o.devices(), o.connect())
}

// mount mounts something in the benchmark's mount namespace for as long as the user is there.
func (o *ordinary) mount(source, target, kind string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", source, target, err)
	}
	o.undo = append(o.undo, func() error { return unix.Unmount(target, unix.MNT_DETACH) })
	return nil
}

// known makes the user one that the machine knows, with numbers of his own.
func (o *ordinary) known() error {
	for file, line := range map[string]string{
		"/etc/passwd": fmt.Sprintf("%s:x:%d:%d::%s:/bin/sh\n", ordinaryName, ordinaryID, ordinaryID, o.dir),
		"/etc/group":  fmt.Sprintf("%s:x:%d:\n", ordinaryName, ordinaryID),
		"/etc/subuid": ordinaryGrants + automaticGrants, "/etc/subgid": ordinaryGrants + automaticGrants,
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		own := filepath.Join(o.dir, filepath.Base(file))
		if err := os.WriteFile(own, append(text, line...), 0o644); err != nil {
			return err
		}
		if err := o.mount(own, file, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	return nil
}

// devices lets him make taps, as udev does.
func (o *ordinary) devices() error {
	if err := o.mount("tmpfs", "/dev/net", "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	const tun = "/dev/net/tun"
	return errors.Join(unix.Mknod(tun, unix.S_IFCHR, int(unix.Mkdev(10, 200))), os.Chmod(tun, 0o666))
}

// connect gives the host a neighbour, by whom it reaches all others.
func (o *ordinary) connect() error {
	holder, err := holdNetwork()
	if err != nil {
		return err
	}
	o.undo = append(o.undo, func() error { return ignoreExit(errors.Join(holder.Process.Kill(), holder.Wait())) })
	o.neighbour = holder.Process.Pid
	there := []string{"nsenter", "--net", "--target", strconv.Itoa(o.neighbour), "ip"}
	return sayAll([][]string{
		{"ip", "link", "add", "cable0", "type", "veth", "peer", "name", "cable1", "netns", strconv.Itoa(o.neighbour)},
		{"ip", "address", "add", hostAddress + "/24", "dev", "cable0"}, {"ip", "link", "set", "cable0", "up"},
		append(there[:5:5], "address", "add", otherAddress+"/24", "dev", "cable1"), append(there[:5:5], "link", "set", "cable1", "up"),
		{"ip", "route", "add", "default", "via", otherAddress},
	})
}

// ignoreExit leaves out that a process was killed.
func ignoreExit(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

// remove takes away what newOrdinary has made, and what it had made when it failed.
func (o *ordinary) remove() (err error) {
	for _, undo := range slices.Backward(o.undo) {
		err = errors.Join(err, undo())
	}
	return err
}

// command is a command of containr's that the user runs.
func (o *ordinary) command(args ...string) command {
	return command{
		argv: append([]string{filepath.Join(o.dir, "bin/containr"), "--root", filepath.Join(o.dir, "home/state")}, args...),
		env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(o.dir, "home"), "TMPDIR=" + filepath.Join(o.dir, "run"),
			"XDG_RUNTIME_DIR=" + filepath.Join(o.dir, "run")},
		user: &syscall.Credential{Uid: ordinaryID, Gid: ordinaryID, Groups: []uint32{}},
		dir:  filepath.Join(o.dir, "home"),
	}
}

// ofRoot is the same program, with stores of root's.
func (o *ordinary) ofRoot(args ...string) command {
	return cmd(append([]string{filepath.Join(o.dir, "bin/containr"), "--root", filepath.Join(o.dir, "root")}, args...)...)
}

func one(name string, c command) *contestant {
	return &contestant{name: name, turn: func(int) (sample, error) { return c.measure() }}
}

// carriers are the networks that can be had here.
func (o *ordinary) carriers() (names []string) {
	for i, n := range userNetworks {
		if i == 0 || o.found(n.name) {
			names = append(names, n.name)
		}
	}
	return names
}

// runs races a run of the user's with one of root's, and the networks.
func (o *ordinary) runs() ([]table, error) {
	run := func(by func(...string) command, network string) command {
		return by("run", "--rm", "--network", network, "base", "true")
	}
	c := []*contestant{
		one("`containr run --rm --network none base true` of an ordinary user", run(o.command, "none")),
		one("the same of root", run(o.ofRoot, "none")),
	}
	for _, name := range o.carriers() {
		c = append(c, one("`--network "+name+"` of an ordinary user", run(o.command, name)))
	}
	err := race(o.ctx, options{rounds: o.rounds(60), warmUp: 2}, c)
	return []table{raceTable("Rootless: a run", "With 65,536 numbers of users from `newuidmap`, no control groups for the user, and the same programs for all.", c)}, err
}

// bigFiles is how many files the image has that users of a container's own are measured with, and bigFile how long each is.
const (
	bigFiles = 10_000
	bigFile  = 30_000
)

// userns races runs of a large image with and without users of the container's own.
func (o *ordinary) userns() (tables []table, err error) {
	script := fmt.Sprintf("mkdir /big; cd /big; head -c %d /dev/urandom >0; for i in $(seq %d); do cp 0 $i; done", bigFile, o.rounds(bigFiles))
	for _, by := range []func(...string) command{o.ofRoot, o.command} {
		if _, err := all(by("run", "--name", "maker", "--network", "none", "base", "sh", "-c", script), by("commit", "maker", "big"), by("rm", "maker")); err != nil {
			return nil, err
		}
	}
	run := func(by func(...string) command, image string, flags ...string) command {
		return by(slices.Concat([]string{"run", "--rm", "--network", "none"}, flags, []string{image, "true"})...)
	}
	c := []*contestant{
		one("`containr run --rm --userns auto`, the large image, root", run(o.ofRoot, "big", "--userns", "auto")),
		one("`containr run --rm`, the large image, root", run(o.ofRoot, "big")),
		one("`containr run --rm --userns auto`, `base`, root", run(o.ofRoot, "base", "--userns", "auto")),
		one("`containr run --rm`, the large image, an ordinary user", run(o.command, "big")),
	}
	err = race(o.ctx, options{rounds: o.rounds(60), warmUp: 2}, c)
	return []table{raceTable("Rootless: users of a container's own",
		fmt.Sprintf("The large image has %d files of %d bytes, %d MB, on top of `base`.", o.rounds(bigFiles), bigFile, o.rounds(bigFiles)*bigFile/1e6), c)}, err
}
