// Command guestinit is PID 1 of a test guest, and its modprobe.
//
// # Theory of operation
//
// As /init it makes the machine what a kernel test expects of a host (root.go, mounts.go), loads modules, opens the serial
// port to the host (package wire), runs one program as root, sends what it prints and how it ends, and stops. While
// the program runs it reaps orphans, as a real init does.
//
// As /sbin/modprobe the kernel runs it to have a module loaded on demand: the first "mount -t overlay" or
// "ip link add type veth" works as on a real machine.
//
// Everything that goes wrong before the port is open is printed to the console; the host shows the console when a
// guest dies without a word.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit/guest/wire"
)

func main() {
	if filepath.Base(os.Args[0]) == "modprobe" {
		os.Exit(modprobe(os.Args[1:]))
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guestinit: not PID 1")
		os.Exit(2)
	}
	fmt.Fprintln(os.Stderr, "guestinit:", boot())
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// boot is all that the guest does, in order. It returns only when it cannot go on.
func boot() error {
	if err := switchRoot(); err != nil {
		return err
	}
	if err := mountAll(); err != nil {
		return err
	}
	if err := openConsole(); err != nil {
		return err
	}
	config, err := readConfig()
	if err != nil {
		return err
	}
	hello := wire.Greeting{Release: release(), Warnings: load(config)}
	hello.Warnings = append(hello.Warnings, settle(config)...)
	port, err := openPort()
	if err != nil {
		return err
	}
	out := &sender{w: port}
	if err := out.json(wire.Hello, hello); err != nil {
		return err
	}
	status := run(config, out)
	if err := sendFiles(config.Out, out); err != nil && status.Error == "" {
		status = wire.Status{Code: 125, Error: err.Error()}
	}
	if err := out.json(wire.Exit, status); err != nil {
		return err
	}
	for {
		unix.Poll(nil, -1) // the host ends the machine; powering off now could overtake the last frame
	}
}

func readConfig() (wire.Config, error) {
	f, err := os.Open(wire.ConfigPath)
	if err != nil {
		return wire.Config{}, err
	}
	defer f.Close()
	return wire.DecodeConfig(f)
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
func run(c wire.Config, out *sender) wire.Status {
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
	proc, err := os.StartProcess(c.Argv[0], c.Argv, &os.ProcAttr{Dir: c.Dir, Env: c.Env, Files: []*os.File{null, stdout, stderr},
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
