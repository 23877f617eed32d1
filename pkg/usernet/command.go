package usernet

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/pkg/network/usermode"
)

// The descriptors that the program is started with; see linux.StartNetwork.
const (
	readyFD = 3
	pidFD   = 4
	lockFD  = 5
	tapFD   = 6
)

// nobody is whom the program becomes that root started, when its ports are bound.
const nobody = 65534

// memoryGoal is what the garbage collector aims at, in bytes: what one packet used, the next may.
const memoryGoal = 64 << 20

// processorsEach is of how many processors of the machine one is used. A packet goes through two goroutines, and with a second
// processor each of them wakes a thread: that costs a request twice the processor time, and gains nothing while both ends and
// the kernel want processors, too. With many connections of a large machine the stack's own work is worth more of them.
const processorsEach = 8

// Run is the program: it returns when the container has ended.
func Run(args []string) error {
	if len(args) == 0 {
		return errors.New("it is started by containr, to carry a container's packets")
	}
	ready := os.NewFile(readyFD, "ready")
	for fd := readyFD; fd <= tapFD; fd++ {
		unix.CloseOnExec(fd)
	}
	err := signLock(os.Getpid())
	if err == nil {
		err = run(args, ready)
	}
	if err != nil {
		_, _ = io.WriteString(ready, "error: "+err.Error()) // nobody may listen any more
	}
	return err
}

// signLock writes into the lock which processes there are: number, and when it was started.
func signLock(pid int) error {
	start, err := sys.StartTime(pid)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(os.NewFile(lockFD, "lock"), "%d %d\n", pid, start)
	return err
}

func run(args []string, ready *os.File) error {
	switch args[0] {
	case "serve":
		return serve(args[1:], ready)
	case "above":
		return above(args[1:], ready)
	case "relay":
		return runRelay(args[1:], ready)
	}
	return fmt.Errorf("unknown word %q", args[0])
}

// ports collects the flag --publish.
type ports []usermode.Port

func (p *ports) String() string { return fmt.Sprint(*p) }

// Set reads one port.
func (p *ports) Set(s string) error {
	port, err := parsePort(s)
	*p = append(*p, port)
	return err
}

// parsePort reads what usermode.Port.String writes.
func parsePort(s string) (p usermode.Port, err error) {
	rest, protocol, ok := strings.Cut(s, "/")
	i := strings.LastIndexByte(rest, ':')
	if !ok || i < 0 {
		return p, fmt.Errorf("port %q", s)
	}
	container, rest := rest[i+1:], rest[:i]
	i = strings.LastIndexByte(rest, ':')
	if i < 0 {
		return p, fmt.Errorf("port %q", s)
	}
	number := func(s string) (n uint16) {
		v, failed := strconv.ParseUint(s, 10, 16)
		err = errors.Join(err, failed)
		return uint16(v)
	}
	p.Protocol, p.Container, p.Host = protocol, number(container), number(rest[i+1:])
	if host := strings.Trim(rest[:i], "[]"); host != "*" {
		var failed error
		p.HostIP, failed = netip.ParseAddr(host)
		err = errors.Join(err, failed)
	}
	return p, err
}

func serve(args []string, ready *os.File) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	o := Options{Net: usermode.DefaultNet(), NameServers: HostNameServers}
	prefix := func(to *netip.Prefix) func(string) error {
		return func(s string) (err error) {
			*to, err = netip.ParsePrefix(s)
			return err
		}
	}
	flags.Func("net", "the network of version 4", prefix(&o.Net.IPv4))
	flags.Func("net6", "the network of version 6", func(s string) error { o.IPv6 = true; return prefix(&o.Net.IPv6)(s) })
	flags.IntVar(&o.MTU, "mtu", 0, "the longest packet")
	flags.BoolVar(&o.HostLoopback, "host-loopback", false, "the gateway's address leads to the host's loopback addresses")
	flags.Var((*ports)(&o.Ports), "publish", "ADDRESS:PORT:CONTAINERPORT/PROTOCOL")
	control := flags.String("control", "", "where further ports are asked for: the container is a hub")
	if err := flags.Parse(args); err != nil {
		return err
	}
	o.Hub = *control != ""
	debug.SetMemoryLimit(memoryGoal)
	runtime.GOMAXPROCS(max(1, runtime.NumCPU()/processorsEach))
	o.Tap = os.NewFile(tapFD, "tap") // before it ceases to wait: the loop watches it, Go need not
	if err := unix.SetNonblock(tapFD, true); err != nil {
		return err
	}
	var telling sync.Mutex // connections complain at the same time
	seen := map[string]bool{}
	o.Warn = func(err error) {
		telling.Lock()
		defer telling.Unlock()
		if text := err.Error(); !seen[text] && len(seen) < 100 {
			seen[text] = true
			fmt.Fprintln(os.Stderr, "containr-usernet:", err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n, err := New(ctx, o)
	if err != nil {
		return err
	}
	if *control != "" {
		l, err := durable.Listen(filepath.Dir(*control), filepath.Base(*control))
		if err != nil {
			return err
		}
		go n.obey(l)
	}
	if err := becomeNobody(); err != nil {
		return err
	}
	if err := tellReady(ready); err != nil {
		return err
	}
	return Wait(pidFD)
}

// becomeNobody gives up what root could do: it is not needed to speak for a container.
func becomeNobody() error {
	if os.Geteuid() != 0 {
		return nil
	}
	for _, err := range []error{syscall.Setgroups(nil), unix.Setresgid(nobody, nobody, nobody), unix.Setresuid(nobody, nobody, nobody)} {
		if err != nil {
			return fmt.Errorf("become user %d: %w", nobody, err)
		}
	}
	return nil
}

func tellReady(ready *os.File) error {
	_, err := io.WriteString(ready, "ready")
	return errors.Join(err, ready.Close())
}
