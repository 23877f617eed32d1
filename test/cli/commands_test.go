package cli_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit/program"
)

// commands are those that scripts have besides testscript's own.
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"exits":       exits,
	"signal":      sendSignal,
	"status":      status,
	"fifo":        makeFIFO,
	"await":       await,
	"collect":     collect,
	"collected":   collected,
	"uncollect":   uncollect,
	"registry":    serveRegistry,
	"private":     servePrivate,
	"serve":       serveStore,
	"requested":   requested,
	"archive":     writeArchive,
	"awaits":      awaitStatus,
	"gone":        awaitGone,
	"health":      awaitHealth,
	"checked":     awaitChecks,
	"killmonitor": killMonitor,
	"loop":        loopDevice,
	"unattached":  unattached,
	"keeper":      serveVolumes,
}

// exits STATUS PROGRAM [ARG...] runs a program, which must end with this status.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS PROGRAM [ARG...]")
	}
	want := number(ts, args[0])
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d (%v)", got, want, err)
	}
}

func number(ts *testscript.TestScript, s string) int {
	n, err := strconv.Atoi(s)
	ts.Check(err)
	return n
}

// ended is where signal leaves the program for status.
var ended = map[*testscript.TestScript]*exec.Cmd{}

// signal NAME sends a signal to the program in the background.
func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	running := ts.BackgroundCmds()
	if neg || len(args) != 1 || len(running) != 1 {
		ts.Fatalf("usage: signal NAME, with one program in the background")
	}
	number := unix.SignalNum("SIG" + args[0])
	if number == 0 {
		ts.Fatalf("unknown signal %s", args[0])
	}
	ended[ts] = running[0]
	ts.Check(running[0].Process.Signal(number))
}

// status STATUS checks how the program ended that was signalled last and waited for.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 || ended[ts] == nil || ended[ts].ProcessState == nil {
		ts.Fatalf("usage: status STATUS, after signal and wait")
	}
	if got := ended[ts].ProcessState.ExitCode(); got != number(ts, args[0]) {
		ts.Fatalf("exit status %d, want %s", got, args[0])
	}
	delete(ended, ts)
}

// fifo NAME makes a named pipe, through which a container can say that it is ready.
func makeFIFO(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: fifo NAME")
	}
	ts.Check(unix.Mkfifo(ts.MkAbs(args[0]), 0o666))
	ts.Check(os.Chmod(ts.MkAbs(args[0]), 0o666)) // past the umask
}

// patience is how long a script waits for something that comes in a fraction of a second on an idle machine.
const patience = 30 * time.Second

// waitUntil waits for a state of the world that nobody tells of.
func waitUntil(t interface{ Fatalf(string, ...any) }, what string, holds func() bool) {
	for late := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("not in %v: %s", patience, what)
		}
	}
}

// awaitStatus STATUS CONTAINER waits until ps lists a container with this status.
func awaitStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: awaits STATUS CONTAINER")
	}
	waitUntil(ts, args[1]+" is "+args[0], func() bool { return psStatus(ts, args[1]) == args[0]+"\n" })
}

// awaitGone CONTAINER waits until ps does not list a container any more.
func awaitGone(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: gone CONTAINER")
	}
	waitUntil(ts, args[0]+" is gone", func() bool { return psStatus(ts, args[0]) == "" })
}

// awaitHealth STATUS CONTAINER waits until the health checks have found this.
func awaitHealth(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: health STATUS CONTAINER")
	}
	waitUntil(ts, args[1]+" is "+args[0], func() bool { return inspected(ts, args[1], "{{.State.Health.Status}}") == args[0] })
}

// awaitChecks NUMBER CONTAINER waits until so many health checks are noted.
func awaitChecks(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: checked NUMBER CONTAINER")
	}
	least := number(ts, args[0])
	waitUntil(ts, args[1]+" is checked", func() bool {
		return number(ts, inspected(ts, args[1], "{{len .State.Health.Log}}")) >= least
	})
}

func inspected(ts *testscript.TestScript, name, format string) string {
	ts.Check(ts.Exec("containr", "inspect", "-f", format, name))
	return strings.TrimSpace(ts.ReadFile("stdout"))
}

// killMonitor kills the monitor of the script's state root.
func killMonitor(ts *testscript.TestScript, neg bool, args []string) {
	pid := monitorOf(ts, ts.Getenv(program.RootVar))
	if neg || len(args) > 0 || pid == 0 {
		ts.Fatalf("usage: killmonitor, while there is one")
	}
	fd, err := unix.PidfdOpen(pid, 0)
	ts.Check(err)
	defer unix.Close(fd)
	ts.Check(unix.Kill(pid, unix.SIGKILL))
	// Until it is gone with its locks the next command would take it for one that works.
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
	ts.Check(err)
	if n == 0 {
		ts.Fatalf("the monitor does not die")
	}
}

func psStatus(ts *testscript.TestScript, name string) string {
	ts.Check(ts.Exec("containr", "ps", "-a", "--filter", "name="+name, "--format", "{{.State}}"))
	return ts.ReadFile("stdout")
}

// await NAME waits until something is written to a named pipe, and takes it as standard output.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: await NAME")
	}
	// Open for writing too, the pipe has no end before somebody has written.
	pipe, err := os.OpenFile(ts.MkAbs(args[0]), os.O_RDWR|unix.O_NONBLOCK, 0)
	ts.Check(err)
	defer pipe.Close()
	ts.Check(pipe.SetReadDeadline(time.Now().Add(patience)))
	text := make([]byte, 4096)
	n, err := pipe.Read(text)
	if err != nil {
		ts.Fatalf("nothing came through %s: %v", args[0], err)
	}
	ts.Stdout().Write(text[:n])
}

// loopDevice LINK FILE makes a block device of a file, for as long as the script runs, and a link to it.
func loopDevice(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: loop LINK FILE")
	}
	out, err := exec.Command("losetup", "--find", "--show", ts.MkAbs(args[1])).Output()
	ts.Check(err)
	device := strings.TrimSpace(string(out))
	ts.Defer(func() {
		if err := exec.Command("losetup", "--detach", device).Run(); err != nil {
			ts.Logf("losetup --detach %s: %v", device, err)
		}
	})
	ts.Check(os.Symlink(device, ts.MkAbs(args[0])))
}

// unattached DIRECTORY waits until no loop device has a file below the directory: the kernel takes them away after who had them.
func unattached(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: unattached DIRECTORY")
	}
	awaitUnattached(ts, args[0])
}

func awaitUnattached(t interface{ Fatalf(string, ...any) }, dir string) {
	waitUntil(t, "no loop device of a file in "+dir, func() bool {
		list, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
		for _, path := range list {
			text, readErr := os.ReadFile(path)
			if readErr == nil && strings.HasPrefix(string(text), dir+"/") {
				return false
			}
		}
		return err == nil
	})
}
