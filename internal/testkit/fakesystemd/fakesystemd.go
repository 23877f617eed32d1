// Package fakesystemd is a service manager for tests: it takes the calls that containr
// makes of systemd, and makes and ends control groups for them as systemd does.
//
// # Theory of operation
//
// Start listens on a socket and points DBUS_SYSTEM_BUS_ADDRESS at it, so that whatever
// the test runs finds it where it would find the bus. A scope becomes a directory below
// Root, with the process in it and every controller that is there handed down; stopping
// it kills what is in it. On the bus somebody else tells of each job that it has failed,
// and the manager has another name after each unit that it has ended, as if it had
// executed itself anew. What was asked is kept for the test to look at. The test in a
// guest with a real systemd says whether the real one does the same.
package fakesystemd

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containr/containr/internal/dbus"
)

// Fake is a running service manager.
type Fake struct {
	// Root is the directory that groups are made below: where a hierarchy of control
	// groups is mounted.
	Root string
	// ControlGroup is what the property of that name says.
	ControlGroup string

	t     testing.TB
	mu    sync.Mutex
	units map[string]string // name to directory
	calls []dbus.Message
	fail  map[string]string
	// name is the manager's on the bus.
	name int
}

// Start makes a service manager that ends with the test.
func Start(t testing.TB, root string) *Fake {
	t.Helper()
	f := &Fake{Root: root, t: t, units: map[string]string{}, fail: map[string]string{}}
	dir, err := os.MkdirTemp("", "bus") // a socket's path has 108 bytes, and that of the test may take more
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "bus")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+socket)
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed at the end of the test
			}
			served.Go(func() { f.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		served.Wait()
		os.RemoveAll(dir)
		for name, dir := range f.units {
			t.Errorf("unit %s is left, in %s", name, dir)
			_ = f.end(name)
		}
	})
	return f
}

// Fail makes every later call of a method answer with this error name.
func (f *Fake) Fail(method, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail[method] = name
}

// Calls lists the calls of a method, oldest first, each with its words.
func (f *Fake) Calls(method string) [][]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list [][]string
	for _, m := range f.calls {
		if m.Member == method {
			list = append(list, m.Words)
		}
	}
	return list
}

func (f *Fake) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	auth, err := r.ReadString('\n')
	if err != nil || !strings.HasPrefix(auth, "\x00AUTH EXTERNAL ") {
		return
	}
	if _, err := c.Write([]byte("OK 1234\r\n")); err != nil {
		return
	}
	if begin, err := r.ReadString('\n'); err != nil || begin != "BEGIN\r\n" {
		return
	}
	for {
		m, err := dbus.ReadMessage(r)
		if err != nil {
			return // the caller has hung up
		}
		for _, answer := range f.answer(m) {
			if answer.Sender == "" {
				f.mu.Lock()
				answer.Sender = f.sender()
				f.mu.Unlock()
			}
			text, err := answer.Append(nil)
			if err != nil {
				f.t.Errorf("answer to %s: %v", m.Member, err)
				return
			}
			if _, err := c.Write(text); err != nil {
				return
			}
		}
	}
}

// answer takes a call and says what is sent back: the answer, and the end of a job.
func (f *Fake) answer(m *dbus.Message) []dbus.Message {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, *m)
	if name := f.fail[m.Member]; name != "" {
		return failure(m, name, "told to fail")
	}
	ok := dbus.Message{Kind: dbus.Return, Serial: 1, Reply: m.Serial}
	switch m.Member {
	case "Hello":
		ok.Signature, ok.Words = "s", []string{":1.1"}
	case "GetNameOwner":
		ok.Signature, ok.Words = "s", []string{f.sender()}
	case "Get":
		ok.Signature, ok.Words = "v", []string{"s", f.ControlGroup}
	case "StartTransientUnit":
		if _, there := f.units[m.Words[0]]; there {
			return failure(m, "org.freedesktop.systemd1.UnitExists", "Unit "+m.Words[0]+" already exists.")
		}
		if err := f.start(m.Words); err != nil {
			return failure(m, "org.freedesktop.DBus.Error.Failed", err.Error())
		}
		return job(ok, m.Words[0])
	case "StopUnit":
		if f.units[m.Words[0]] == "" {
			return failure(m, "org.freedesktop.systemd1.NoSuchUnit", "Unit "+m.Words[0]+" not loaded.")
		}
		if err := f.end(m.Words[0]); err != nil {
			return failure(m, "org.freedesktop.DBus.Error.Failed", err.Error())
		}
		f.name++
		return job(ok, m.Words[0])
	case "ResetFailedUnit":
		return failure(m, "org.freedesktop.systemd1.NoSuchUnit", "Unit "+m.Words[0]+" not loaded.")
	case "AddMatch", "Subscribe", "SetUnitProperties":
	default:
		return failure(m, "org.freedesktop.DBus.Error.UnknownMethod", m.Member)
	}
	return []dbus.Message{ok}
}

func failure(m *dbus.Message, name, text string) []dbus.Message {
	return []dbus.Message{{Kind: dbus.Failed, Serial: 1, Reply: m.Serial, ErrorName: name, Signature: "s", Words: []string{text}}}
}

// sender is the manager's unique name; f.mu is held.
func (f *Fake) sender() string { return ":1." + strconv.Itoa(f.name) }

// job is the answer of a method that starts one, after the end of somebody else's, and
// before a lie.
func job(ok dbus.Message, unit string) []dbus.Message {
	ok.Signature, ok.Words = "o", []string{"/job/7"}
	end := func(id, unit, result string) dbus.Message {
		return dbus.Message{Kind: dbus.Signal, Serial: 2, Path: "/org/freedesktop/systemd1", Interface: "org.freedesktop.systemd1.Manager",
			Member: "JobRemoved", Signature: "uoss", Words: []string{id, "/job/" + id, unit, result}}
	}
	lie := end("7", unit, "failed")
	lie.Sender = ":1.666"
	return []dbus.Message{end("6", "other.service", "failed"), ok, lie, end("7", unit, "done")}
}

// start makes the scope that the words of StartTransientUnit ask for.
func (f *Fake) start(words []string) error {
	slice := Property(words, "Slice")
	pids := Property(words, "PIDs")
	if len(slice) != 2 || len(pids) != 3 || pids[1] != "1" {
		return fmt.Errorf("slice %q, processes %q", slice, pids)
	}
	dir := f.Root
	var made []string
	name := strings.TrimSuffix(slice[1], ".slice")
	for i := range len(name) + 1 {
		if i == len(name) || name[i] == '-' {
			made = append(made, name[:i]+".slice")
		}
	}
	for _, element := range append(made, words[0]) {
		handDown(dir)
		dir = filepath.Join(dir, element)
		if err := os.Mkdir(dir, 0o755); err != nil && !os.IsExist(err) {
			return err
		}
	}
	f.units[words[0]] = dir
	return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(pids[2]), 0)
}

// Property finds a property in the words of a call that has an array of them, and
// returns its signature and the words of its value.
func Property(words []string, name string) []string {
	i := slices.Index(words, name)
	if i < 0 || i+2 >= len(words) {
		return nil
	}
	n := 3
	if strings.HasPrefix(words[i+1], "a") {
		count, _ := strconv.Atoi(words[i+2]) // what is no number has no members
		n += count * len(strings.Trim(words[i+1][1:], "()"))
	}
	return words[i+1 : min(i+n, len(words))]
}

// handDown enables every controller that a directory of version 2 has for those below.
func handDown(dir string) {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return // version 1
	}
	for c := range strings.FieldsSeq(string(text)) {
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0) // rt groups forbid some
	}
}

// end kills the processes of a unit and removes its directory, and slices that are empty.
func (f *Fake) end(unit string) error {
	dir := f.units[unit]
	delete(f.units, unit)
	for deadline := time.Now().Add(10 * time.Second); ; {
		text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if os.IsNotExist(err) {
			break // the container's maker was faster
		}
		if err != nil {
			return err
		}
		for line := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(line); err == nil {
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone
			}
		}
		_ = os.Remove(filepath.Join(dir, "cgroup.procs")) // possible only where Root is an ordinary directory
		if err := os.Remove(dir); err == nil || time.Now().After(deadline) {
			break
		}
	}
	for dir = filepath.Dir(dir); dir != f.Root && os.Remove(dir) == nil; dir = filepath.Dir(dir) {
	}
	return nil
}
