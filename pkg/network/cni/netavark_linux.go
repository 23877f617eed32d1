package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/timerslack"
)

// netavark executes it, and returns what it prints. Like a plugin it inherits the lock.
func (a Attachment) netavark(ctx context.Context, lock *os.File, word string) ([]byte, error) {
	path, err := FindNetavark(a.Bin)
	if err != nil {
		return nil, err
	}
	if err := a.netavarkNotes(); err != nil {
		return nil, err
	}
	running, end := context.WithCancel(ctx)
	defer end()
	cmd := exec.CommandContext(running, path, a.netavarkArgs(word)...)
	out, complaints := &bounded{name: "standard output", full: end}, &bounded{name: "standard error", full: end}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(a.Netavark), out, complaints
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // as for a plugin
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	cmd.ExtraFiles = []*os.File{lock}
	err = timerslack.Do(cmd.Run)
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s: it did not end within %s", path, patience)
	case out.over || complaints.over:
		return nil, fmt.Errorf("%s: %w", path, errors.Join(out.err(), complaints.err()))
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		return out.text, nil
	}
	var said struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(out.text, &said) == nil && said.Error != "" {
		return nil, errors.New(said.Error)
	}
	return nil, fmt.Errorf("%s: %w: %s", path, err, strings.TrimSpace(string(complaints.text)+" "+string(out.text)))
}

// setup has it connect the container.
func (a Attachment) setup(ctx context.Context, lock *os.File) error {
	printed, err := a.netavark(ctx, lock, "setup")
	if err != nil {
		return a.failure("setup", err)
	}
	text, err := a.resultOf(printed)
	if err != nil {
		return a.failure("setup", err)
	}
	if err := a.remember(text); err != nil {
		return err
	}
	result, err := types100.NewResult(text)
	if err != nil {
		return a.failure("setup", err)
	}
	got, err := types100.NewResultFromResult(result)
	if err != nil {
		return a.failure("setup", err)
	}
	return errors.Join(a.compare(got), a.writeHosts(got))
}

// teardown has it disconnect the container. It complains of a cable that is gone already, and has taken all else away by then.
func (a Attachment) teardown(ctx context.Context, lock *os.File) error {
	_, err := a.netavark(ctx, lock, "teardown")
	if err != nil && strings.Contains(err.Error(), "os error 19") { // ENODEV, as Rust prints it
		there, lookErr := hasLink(a.Netns, a.Interface)
		if lookErr == nil && !there {
			err = nil
		}
	}
	if err != nil {
		return a.failure("teardown", err)
	}
	return remove(filepath.Join(a.Cache, "results", a.list.Name+"-"+a.Container+"-"+a.Interface))
}

// hasLink reports whether a network namespace has a device of a name. The thread that looks ends afterwards.
func hasLink(netns, link string) (there bool, err error) {
	fd, err := unix.Open(netns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, &os.PathError{Op: "open", Path: netns, Err: err}
	}
	defer unix.Close(fd)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			done <- &os.PathError{Op: "setns", Path: netns, Err: err}
			return
		}
		text, err := os.ReadFile("/proc/thread-self/net/dev")
		for line := range strings.Lines(string(text)) {
			name, _, ok := strings.Cut(strings.TrimSpace(line), ":")
			there = there || ok && name == link
		}
		done <- err
	}()
	return there, <-done
}
