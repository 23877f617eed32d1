package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit/guest/wire"
)

// agentName is the program's name as a service of systemd.
const agentName = "containr-agent"

// agent waits until systemd has nothing more to do, and serves.
func agent() error {
	var warnings []string
	// The exit status tells the same as the word: that a unit has failed is not zero.
	if state, err := exec.Command("systemctl", "is-system-running", "--wait").Output(); err != nil {
		failed, _ := exec.Command("systemctl", "list-units", "--failed", "--plain", "--no-legend").Output()
		warnings = append(warnings, fmt.Sprintf("systemd is %s: %s", strings.TrimSpace(string(state)), strings.TrimSpace(string(failed))))
	}
	return serve(warnings)
}

// serve runs one job of the host. It returns only when it cannot.
func serve(warnings []string) error {
	port, err := openPort()
	if err != nil {
		return err
	}
	out := &sender{w: port}
	if err := out.json(wire.Hello, wire.Greeting{Release: release(), Warnings: warnings}); err != nil {
		return err
	}
	job, err := receiveJob(port)
	if err == nil {
		err = refresh(job)
	}
	status := wire.Status{Code: 125}
	if err == nil {
		status = run(job, out)
		err = sendFiles(job.Out, out)
	}
	if err != nil && status.Error == "" {
		status = wire.Status{Code: 125, Error: err.Error()}
	}
	if err := out.json(wire.Exit, status); err != nil {
		return err
	}
	for {
		unix.Poll(nil, -1) // the host ends the machine; powering off now could overtake the last frame
	}
}

// refresh makes the machine, which may have been saved long ago and have been resumed before, one of this moment.
func refresh(j wire.Job) error {
	tv := unix.NsecToTimeval(j.Now.UnixNano())
	if err := unix.Settimeofday(&tv); err != nil {
		return fmt.Errorf("set the clock: %w", err)
	}
	return os.WriteFile("/dev/urandom", j.Seed, 0)
}

// sender lets several goroutines send frames.
type sender struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *sender) frame(k wire.Kind, b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return wire.Write(s.w, k, b)
}

func (s *sender) json(k wire.Kind, v any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return wire.WriteJSON(s.w, k, v)
}

// openPort finds the port by its name, there being no udev to make links.
func openPort() (*os.File, error) {
	names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return nil, err
	}
	for _, path := range names {
		b, err := os.ReadFile(path)
		if err == nil && strings.TrimSpace(string(b)) == wire.Port {
			return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(path)), os.O_RDWR, 0)
		}
	}
	return nil, fmt.Errorf("no virtio serial port named %s among %v", wire.Port, names)
}

// run executes the program and sends its output until it has ended.
func run(j wire.Job, out *sender) wire.Status {
	stdout, outDone, err := forward(wire.Stdout, out)
	if err != nil {
		return wire.Status{Code: 125, Error: err.Error()}
	}
	stderr, errDone, err := forward(wire.Stderr, out)
	if err != nil {
		return wire.Status{Code: 125, Error: err.Error()}
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return wire.Status{Code: 125, Error: err.Error()}
	}
	proc, err := os.StartProcess(j.Argv[0], j.Argv, &os.ProcAttr{Dir: j.Dir, Env: j.Env, Files: []*os.File{null, stdout, stderr},
		Sys: &syscall.SysProcAttr{Setsid: true}})
	stdout.Close()
	stderr.Close()
	if err != nil {
		return wire.Status{Code: 125, Error: err.Error()}
	}
	status := reapUntil(proc.Pid)
	// A process that outlives the program may hold the pipes open for ever; what it prints is not waited for.
	late := time.After(time.Second)
	for _, done := range []chan error{outDone, errDone} {
		select {
		case <-done:
		case <-late:
			return status
		}
	}
	return status
}

// forward makes a pipe whose content is sent as frames. The channel is closed at its end.
func forward(k wire.Kind, out *sender) (*os.File, chan error, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	done := make(chan error)
	go func() {
		defer close(done)
		buf := make([]byte, 32<<10)
		for {
			n, err := r.Read(buf)
			if n > 0 && out.frame(k, buf[:n]) != nil || err != nil {
				return
			}
		}
	}()
	return w, done, nil
}

// reapUntil waits for children, adopted ones too, until the process pid has ended.
func reapUntil(pid int) wire.Status {
	for {
		var ws unix.WaitStatus
		got, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return wire.Status{Code: 125, Error: "wait4: " + err.Error()}
		case got != pid:
		case ws.Signaled():
			return wire.Status{Code: 128 + int(ws.Signal())}
		default:
			return wire.Status{Code: ws.ExitStatus()}
		}
	}
}
