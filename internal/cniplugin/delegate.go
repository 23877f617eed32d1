package cniplugin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
)

// maxDelegateOutput bounds what a plugin for addresses may print, in bytes, on each of its two outputs.
const maxDelegateOutput = 1 << 20

// delegate executes plugins for addresses as the interface's library does, but for what they print: one that prints too much
// is ended, with its process group.
type delegate struct {
	version.PluginDecoder
	// lock is inherited by the plugin, and by what it executes itself: it is held until all of them have ended. Nil is none.
	lock *os.File
}

// FindInPath finds a plugin.
func (*delegate) FindInPath(plugin string, paths []string) (string, error) {
	return invoke.FindInPath(plugin, paths)
}

// ExecPlugin executes a plugin and returns what it prints.
func (d *delegate) ExecPlugin(ctx context.Context, path string, stdin []byte, environment []string) ([]byte, error) {
	running, end := context.WithCancel(ctx)
	defer end()
	cmd := exec.CommandContext(running, path)
	out, complaints := &boundedOutput{name: "standard output", full: end}, &boundedOutput{name: "standard error", full: end}
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = environment, bytes.NewReader(stdin), out, complaints
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if d.lock != nil {
		cmd.ExtraFiles = []*os.File{d.lock}
	}
	cmd.WaitDelay = 10 * time.Second // for who holds its output, if it has left something running
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	if out.over != nil || complaints.over != nil {
		return nil, fmt.Errorf("%s: %w", path, errors.Join(out.over, complaints.over))
	}
	if err == nil {
		return out.text, nil
	}
	said := &types.Error{}
	if json.Unmarshal(out.text, said) == nil && said.Msg != "" {
		return nil, said
	}
	return nil, fmt.Errorf("%s: %w: %s", path, err, strings.TrimSpace(string(complaints.text)+" "+string(out.text)))
}

// boundedOutput keeps what is written to it, up to maxDelegateOutput bytes.
type boundedOutput struct {
	name string
	text []byte
	over error
	// full is called when more is written than fits.
	full func()
}

// Write fails when it is too much, which has package exec close the pipe.
func (b *boundedOutput) Write(p []byte) (int, error) {
	n := min(len(p), maxDelegateOutput-len(b.text))
	b.text = append(b.text, p[:n]...)
	if n == len(p) {
		return n, nil
	}
	b.over = fmt.Errorf("it printed more than %d MiB to its %s", maxDelegateOutput>>20, b.name)
	b.full()
	return n, b.over
}
