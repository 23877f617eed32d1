package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/child"
	"github.com/containr/containr/internal/safepath"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/namespace"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
	"github.com/containr/containr/pkg/runtime"
	"github.com/containr/containr/pkg/snapshot"
)

// Among the ids of an ordinary user.
//
// The files of his containers belong to him and to the ids that he was granted, as those in them belong to root and to other
// users there. He himself may do nothing with the files of the granted ids: not remove, not read, not give any away. Who may is
// the root of a user namespace with the same ids, made as those of his containers are. So what is about such files is done by a process of
// containr's in one, among the ids: a command as a whole (Among), or one step of a command that has to stay outside, because it
// makes containers (a helping). In there numbers of users are those that containers have, and a file in a layer has on disk
// the owner whom the image names.
//
// The process ends when it has done that. Where no ids are granted there is none, and all files are the user's.

// amongVariable says in the environment of such a process who the user is outside: UID:GID.
const amongVariable = "CONTAINR_AMONG_IDS"

// userOutside is the user who had this process made among his ids, or false.
func userOutside() (uid, gid uint32, ok bool) {
	u, g, _ := strings.Cut(os.Getenv(amongVariable), ":")
	outerU, err1 := strconv.ParseUint(u, 10, 32)
	outerG, err2 := strconv.ParseUint(g, 10, 32)
	return uint32(outerU), uint32(outerG), err1 == nil && err2 == nil && os.Geteuid() == 0
}

// isAmong reports whether this process is among the ids that an ordinary user was granted. It looks after no containers there: these are in
// namespaces beside its own, and a monitor or a container that it started would be in the wrong one.
func isAmong() bool {
	_, _, among := userOutside()
	return among
}

// isRoot reports whether the user of this process is root, and not only among his own ids.
func isRoot() bool {
	_, _, among := userOutside()
	return os.Geteuid() == 0 && !among
}

// probe is host.Probe, for which an ordinary user is one among his ids, too.
func probe() (*host.Facts, error) {
	facts, err := host.Probe()
	if err != nil {
		return nil, err
	}
	if uid, gid, ok := userOutside(); ok {
		facts.UID, facts.GID = uid, gid
		return facts, nil
	}
	facts.AskSubordinateIDs()
	return facts, nil
}

// HasIDs reports whether the user is an ordinary one with ids besides his own, and this process is not among them.
func (e *Engine) HasIDs() (bool, error) {
	if os.Geteuid() == 0 {
		return false, nil
	}
	facts, err := e.facts()
	if err != nil {
		return false, err
	}
	return len(container.MachineFrom(facts, "", 0).UIDMap) > 1, nil
}

// Among has containr do a command among the user's ids, which he must have, and returns its exit status. If ctx ends the command is
// told so by a signal, and waited for.
func (e *Engine) Among(ctx context.Context, stdio [3]*os.File, command ...string) (status int, err error) {
	facts, err := e.facts()
	if err != nil {
		return 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	env := append(os.Environ(), fmt.Sprintf("%s=%d:%d", amongVariable, facts.UID, facts.GID))
	p, err := amongPlan(facts, linux.Execve{Path: self, Args: append([]string{"containr"}, command...), Env: env})
	if err != nil {
		return 0, err
	}
	started, err := runtime.Start(p, runtime.StartOptions{Stdio: stdio})
	if err != nil {
		return 0, fmt.Errorf("a process among the ids that are granted: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = unix.Kill(started.PID, unix.SIGTERM) }) // it is not waited for yet, so the number is its own
	defer stop()
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(started.PID, &ws, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("wait for process %d: %w", started.PID, err)
		}
		if ws.Signaled() {
			return 128 + int(ws.Signal()), nil
		}
		return ws.ExitStatus(), nil
	}
}

// amongPlan plans a process in a user namespace with all ids of the user's.
func amongPlan(facts *host.Facts, program linux.Execve) (*plan.Plan, error) {
	machine := container.MachineFrom(facts, "", 0)
	spec := &specs.Spec{Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.UserNamespace}},
		UIDMappings: machine.UIDMap, GIDMappings: machine.GIDMap}}
	ns, err := namespace.Plan(spec, facts)
	if err != nil {
		return nil, err
	}
	b := plan.Build(plan.Host, plan.NamespaceChapter)
	b.Add(ns.Open)
	b.Do("a process is born among the user's ids", linux.Clone{Flags: ns.New}).As(namespace.PID)
	b.Add(ns.Map)
	b.Add(ns.Join)
	steps := b.Steps
	b = plan.Build(plan.Child, plan.ProgramChapter)
	b.Do("nothing else stays open", linux.CloseRange{First: 4})
	b.Do("all is ready but the program", linux.Write{FD: linux.FD(child.Sync), Data: child.MessageReady})
	b.Do("signals reach the program", linux.UnblockSignals{})
	b.Do("become the program", program)
	return &plan.Plan{Steps: append(steps, b.Steps...)}, nil
}

// helping is one step that is done among the user's ids; one of its fields is set.
type helping struct {
	// Remove is a tree.
	Remove string `json:"remove,omitempty"`
	// Unpack are the layers of an image in the store.
	Unpack []image.Layer `json:"unpack,omitempty"`
	// Prepare presents a chain in another way than by an overlay: it copies.
	Prepare *prepareHelping `json:"prepare,omitempty"`
	// Fill copies what an image has somewhere.
	Fill *fillHelping `json:"fill,omitempty"`
	// Own gives a tree away.
	Own *ownHelping `json:"own,omitempty"`
}

// prepareHelping has no directories where the chain is only to be seen.
type prepareHelping struct {
	Chain       snapshot.ChainID
	Driver      snapshot.Driver
	Upper, Work string
}

type fillHelping struct {
	Chain     snapshot.ChainID
	Name, Dir string
}

// ownHelping has the user and the group as those among the ids.
type ownHelping struct {
	Dir, Name string
	UID, GID  int
}

// helped is the answer.
type helped struct {
	Chain  snapshot.ChainID
	Mounts []snapshot.Mount
	Errno  unix.Errno
	Error  string
}

// err is the error of the answer, which says the same as the one in there. Of its kinds only the number of the kernel's is kept.
func (h helped) err() error {
	if h.Error == "" {
		return nil
	}
	return &helpedError{h.Error, h.Errno}
}

type helpedError struct {
	text  string
	errno unix.Errno
}

func (e *helpedError) Error() string { return e.text }

func (e *helpedError) Unwrap() error {
	if e.errno == 0 {
		return nil
	}
	return e.errno
}

// among does one step among the user's ids.
func (e *Engine) among(ctx context.Context, h helping) (helped, error) {
	request, err := json.Marshal(h)
	if err != nil {
		return helped{}, err
	}
	in, err := fileOf(request)
	if err != nil {
		return helped{}, err
	}
	defer in.Close()
	command := []string{"system", "among-ids"}
	if e.options.Root != "" {
		command = append([]string{"--root", e.options.Root}, command...)
	}
	// The answer takes the place of the request in the same file: while others print, no other descriptor may change.
	status, err := e.Among(ctx, [3]*os.File{in, nil, nil}, command...)
	if err != nil {
		return helped{}, err
	}
	answer, err := io.ReadAll(io.NewSectionReader(in, 0, maxAnswer))
	if err == nil && status != 0 {
		err = fmt.Errorf("process among the ids that are granted: exit status %d", status)
	}
	var result helped
	if err = errors.Join(err, context.Cause(ctx)); err == nil {
		err = json.Unmarshal(answer, &result)
	}
	if err != nil {
		return helped{}, err
	}
	return result, result.err()
}

// maxAnswer bounds the answer, in bytes.
const maxAnswer = 16 << 20

// fileOf is an open file that holds data, for a process that outlives no reader of a pipe.
func fileOf(data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("request", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "request")
	if _, err = f.WriteAt(data, 0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Help does the step that is asked for in a file, in the process that among has started, and writes the answer in its place.
func (e *Engine) Help(ctx context.Context, f *os.File) error {
	if _, _, ok := userOutside(); !ok {
		return errors.New("this is done by itself, in a user namespace with ids that an ordinary user was granted")
	}
	var h helping
	if err := json.NewDecoder(f).Decode(&h); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	answer, err := e.help(ctx, h)
	if err != nil {
		answer.Error = err.Error()
		errors.As(err, &answer.Errno)
	}
	text, err := json.Marshal(answer)
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(text, 0)
	}
	return err
}

func (e *Engine) help(ctx context.Context, h helping) (answer helped, err error) {
	switch {
	case h.Remove != "":
		return answer, safepath.RemoveAll(h.Remove)
	case h.Own != nil:
		return answer, safepath.ChownAll(h.Own.Dir, h.Own.Name, h.Own.UID, h.Own.GID)
	}
	snapshots, err := e.snapshots()
	if err != nil {
		return answer, err
	}
	switch {
	case h.Prepare != nil:
		answer.Mounts, err = present(ctx, snapshots.With(h.Prepare.Driver), *h.Prepare)
	case h.Fill != nil:
		err = snapshots.CopyPart(ctx, h.Fill.Chain, h.Fill.Name, h.Fill.Dir)
	case h.Unpack != nil:
		images, openErr := e.images()
		if openErr != nil {
			return answer, openErr
		}
		answer.Chain, err = unpackHere(ctx, snapshots, images, h.Unpack)
	}
	return answer, err
}

// present says how a container sees a chain, with a layer of its own in upper, or only to look at it if upper is empty. Where
// that takes a copy with owners of an ordinary user's ids it is made among these.
func (e *Engine) present(ctx context.Context, snapshots *snapshot.Store, chain snapshot.ChainID, upper, work string) ([]snapshot.Mount, error) {
	how := prepareHelping{Chain: chain, Driver: snapshots.Driver(), Upper: upper, Work: work}
	if how.Driver != snapshot.Overlay {
		among, err := e.keptAmong(snapshots)
		if err != nil {
			return nil, err
		}
		if among {
			answer, err := e.among(ctx, helping{Prepare: &how})
			return answer.Mounts, err
		}
	}
	return present(ctx, snapshots, how)
}

func present(ctx context.Context, snapshots *snapshot.Store, how prepareHelping) ([]snapshot.Mount, error) {
	if how.Upper == "" {
		return snapshots.View(ctx, how.Chain)
	}
	return snapshots.Prepare(ctx, how.Chain, how.Upper, how.Work)
}

// removeAmong removes a tree in which there are files of the ids that the user was granted.
func (e *Engine) removeAmong(dir string) (bool, error) {
	has, err := e.HasIDs()
	if err != nil || !has {
		return false, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return false, err
	}
	slog.Debug("removed among the ids that are granted", "tree", dir)
	_, err = e.among(context.Background(), helping{Remove: dir}) // what removes at an end does so whatever ends
	return true, err
}

// own gives a tree to a user and a group of the host's, also to ones that an ordinary user was granted.
func (e *Engine) own(ctx context.Context, dir, name string, uid, gid int) error {
	err := safepath.ChownAll(dir, name, uid, gid)
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
		return err
	}
	has, hasErr := e.HasIDs()
	if hasErr != nil || !has {
		return errors.Join(err, hasErr)
	}
	facts, err := e.facts()
	if err != nil {
		return err
	}
	m := container.MachineFrom(facts, "", 0)
	ids := &home{uids: idMaps(m.UIDMap), gids: idMaps(m.GIDMap)}
	h := ownHelping{Dir: dir, Name: name}
	h.UID, h.GID = ids.inside(uid, gid)
	_, err = e.among(ctx, helping{Own: &h})
	return err
}
