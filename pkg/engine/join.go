package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/rootfs"
)

// Errors of containers that share namespaces with another one.
var (
	// ErrNotShareable means that a container keeps its shared memory to itself.
	ErrNotShareable = errors.New("its shared memory is private")
	// ErrOtherUsers means that two containers have different users, so that they cannot share anything else.
	ErrOtherUsers = errors.New("it has other users")
)

// findJoins replaces the names behind container: by ids, which stay when a container is
// renamed, and says what else follows: a container with users of its own can share only
// all of that or nothing, since its other namespaces belong to these users.
func (e *Engine) findJoins(ctx context.Context, c *container.Config) error {
	for _, j := range c.Namespaces.Joinable() {
		name, joined := container.Joined(*j.Word)
		if !joined || name == "" {
			continue
		}
		owner, err := e.Get(ctx, name)
		if err != nil {
			return fmt.Errorf("%s %s: %w", j.Flag, *j.Word, err)
		}
		if err := joinOne(c, j, owner); err != nil {
			return fmt.Errorf("%s %s: container %s: %w", j.Flag, *j.Word, owner.Name, err)
		}
	}
	return nil
}

// joinOne decides what it means to share one namespace of a container.
func joinOne(c *container.Config, j container.JoinableNamespace, owner container.Record) error {
	theirs := ""
	for _, k := range owner.Config.Namespaces.Joinable() {
		if k.Kind == j.Kind {
			theirs = *k.Word
		}
	}
	if j.Kind == specs.IPCNamespace && (theirs == container.Private || theirs == container.IPCNone) {
		return ErrNotShareable
	}
	if err := shareUsers(c, owner); err != nil {
		return err
	}
	*j.Word = container.Join(owner.ID)
	if theirs == container.HostNamespace {
		*j.Word = theirs
	}
	return nil
}

// shareUsers gives the container the users of another one whose namespaces it shares.
func shareUsers(c *container.Config, owner container.Record) error {
	users := owner.Config.Namespaces.User
	_, joined := container.Joined(c.Namespaces.User)
	own := len(c.UIDMap)+len(c.GIDMap) > 0 || !joined && c.Namespaces.User != "" && c.Namespaces.User != container.HostNamespace
	switch {
	case own:
		return ErrOtherUsers
	case users == container.HostNamespace:
		return nil
	}
	if _, joined := container.Joined(users); !joined {
		users = container.Join(owner.ID)
	}
	c.Namespaces.User = users
	c.UIDMap, c.GIDMap = slices.Clone(owner.Config.UIDMap), slices.Clone(owner.Config.GIDMap)
	return nil
}

// joins are the processes whose namespaces a container is about to share.
type joins struct {
	engine *Engine
	pids   map[string]int // by container
	pidfds []int
}

// join puts the paths of namespaces into a copy of a specification that names containers
// in their place. The caller closes the joins.
func (e *Engine) join(ctx context.Context, spec *specs.Spec) (*specs.Spec, *joins, error) {
	j := &joins{engine: e, pids: map[string]int{}}
	if spec.Linux == nil {
		return spec, j, nil
	}
	out, linux := *spec, *spec.Linux
	linux.Namespaces, out.Linux, out.Mounts = slices.Clone(linux.Namespaces), &linux, slices.Clone(spec.Mounts)
	for i := range linux.Namespaces {
		ns := &linux.Namespaces[i]
		id, joined := container.Joined(ns.Path)
		if !joined {
			continue
		}
		pid, err := j.pid(ctx, id)
		if err != nil {
			j.close()
			return nil, nil, err
		}
		ns.Path = fmt.Sprintf("/proc/%d/ns/%s", pid, namespaceFiles[ns.Type])
	}
	for i := range out.Mounts {
		m := &out.Mounts[i]
		source, joined := container.Joined(m.Source)
		if !joined || m.Type != rootfs.TreeType {
			continue
		}
		id, dir, _ := strings.Cut(source, ":")
		pid, err := j.pid(ctx, id)
		if err != nil {
			j.close()
			return nil, nil, err
		}
		m.Source = "/proc/" + strconv.Itoa(pid) + "/root" + dir
	}
	return &out, j, nil
}

// namespaceFiles are the names in /proc/PID/ns.
var namespaceFiles = map[specs.LinuxNamespaceType]string{
	specs.UserNamespace: "user", specs.PIDNamespace: "pid", specs.NetworkNamespace: "net",
	specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts", specs.CgroupNamespace: "cgroup",
}

// pid finds the first process of a container that runs, and holds on to it.
func (j *joins) pid(ctx context.Context, id string) (int, error) {
	if pid, ok := j.pids[id]; ok {
		return pid, nil
	}
	record, err := j.engine.Get(ctx, id)
	if err != nil {
		return 0, fmt.Errorf("a namespace to share: %w", err)
	}
	st, err := j.engine.State(record)
	if err != nil {
		return 0, err
	}
	if st.PID == 0 {
		return 0, fmt.Errorf("a namespace to share: container %s: %w", record.Name, ErrNotRunning)
	}
	pidfd, err := unix.PidfdOpen(st.PID, 0)
	if err != nil {
		return 0, fmt.Errorf("container %s: process %d: %w", record.Name, st.PID, os.NewSyscallError("pidfd_open", err))
	}
	j.pidfds = append(j.pidfds, pidfd)
	// It may have ended just before, and its number have come to mean another one.
	if again, err := j.engine.State(record); err != nil || again.PID != st.PID {
		return 0, errors.Join(fmt.Errorf("container %s: %w", record.Name, ErrNotRunning), err)
	}
	j.pids[id] = st.PID
	return st.PID, nil
}

// check reports whether all of the processes still live: then their numbers have meant
// them all the time.
func (j *joins) check() error {
	for _, fd := range j.pidfds {
		if err := unix.PidfdSendSignal(fd, 0, nil, 0); err != nil && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("the container whose namespaces are to be shared has ended: %w", ErrNotRunning)
		}
	}
	return nil
}

func (j *joins) close() {
	for _, fd := range j.pidfds {
		unix.Close(fd)
	}
	j.pidfds = nil
}

// namesOf reads the files hosts and resolv.conf that were made for a container.
func (e *Engine) namesOf(ctx context.Context, id string) (hosts, resolv []byte, err error) {
	owner, err := e.Get(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	for _, m := range owner.Spec.Mounts {
		switch m.Destination {
		case "/etc/hosts":
			hosts = readIfThere(m.Source)
		case "/etc/resolv.conf":
			resolv = readIfThere(m.Source)
		}
	}
	return hosts, resolv, nil
}
