package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/child"
	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/namespace"
	"github.com/containr/containr/pkg/network"
	"github.com/containr/containr/pkg/network/apply"
	"github.com/containr/containr/pkg/network/bridge"
	"github.com/containr/containr/pkg/network/usermode"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
	"github.com/containr/containr/pkg/plan/planjson"
	"github.com/containr/containr/pkg/runtime"
)

// The networks of an ordinary user.
//
// He has them where he may make bridges: in a network namespace that a user namespace of his own owns, the hub. The steps that
// connect a container are those of root's networks; they are made there. Three processes belong to it:
//
//   - the hub's own, `containr network hold`: it is in the hub, and makes what it is asked for;
//   - containr-usernet, outside: the hub's only way out, a tap, ends there, and so do the published ports;
//   - the resolver, inside, which is the one that root's networks have.
//
// None of them has to live for the networks to be there: the keeper of each container is in the hub, too, and bridges, cables
// and rules are the kernel's. When the hub's process was killed, the next command that needs it starts another one in
// the same namespaces, which it finds by a keeper; and with it the way out. When no container is left, it ends, and the kernel
// takes the rest away. If keepers and all were killed, the networks are gone, as after a boot; a container that lived through
// that has to be started again.
//
// Nothing is shared by two users: their hubs are of different user namespaces, whose processes and sockets
// the kernel keeps apart.

// Files of the hub in the run directory.
const (
	hubSocket  = "hub.sock"  // where the hub's process is asked
	hubStart   = "hub.start" // held by who starts it
	hubLog     = "hub.log"
	hubControl = "hub.ports" // where the carrier is asked for ports
	hubServers = "hub.resolv.conf"
	// hubCarrier is what the carrier's lock is called, in the place of a container's id.
	hubCarrier = "hub"
)

// hubRequest is what the hub's process is asked, a line of JSON; one without anything in it asks whether it is there.
type hubRequest struct {
	// Plan has calls to be made, in the form of package planjson; the last one's result is the answer.
	Plan json.RawMessage  `json:"plan,omitempty"`
	Regs map[plan.Reg]int `json:"regs,omitempty"`
	// Undo says that they are inverses.
	Undo bool `json:"undo,omitempty"`
	// Rules asks for, or changes, the rules of policies.
	Rules *rulesRequest `json:"rules,omitempty"`
	// Passing says that who asks does not need the hub to stay.
	Passing bool `json:"passing,omitempty"`
	// Names has those that are written by now be answered, and at the addresses in Look.
	Names bool         `json:"names,omitempty"`
	Look  []netip.Addr `json:"look,omitempty"`
}

// hubReply is the answer.
type hubReply struct {
	PID int `json:"pid"`
	// Carried says that somebody carries the hub's packets.
	Carried bool `json:"carried"`
	Result  int  `json:"result"`
	// Rules is what there is, if it was asked for.
	Rules *rulesReply `json:"rules,omitempty"`
	Errno unix.Errno  `json:"errno,omitempty"`
	Error string      `json:"error,omitempty"`
}

func (r hubReply) err() error {
	switch {
	case r.Errno != 0:
		return r.Errno // steps may tolerate some
	case r.Error != "":
		return errors.New(r.Error)
	}
	return nil
}

// hub talks with the hub's process. As long as it does, that one does not end by itself.
type hub struct {
	mu    sync.Mutex
	conn  net.Conn
	in    *json.Decoder
	hello hubReply
}

// errNoHub means that the user has no networks in the kernel.
var errNoHub = errors.New("the hub of the user's networks is not there")

// usesHub reports whether networks are made in a hub: the user is not root.
func (e *Engine) usesHub() (bool, error) {
	facts, err := e.facts()
	return err == nil && !facts.Root(), err
}

// ask asks the hub's process, and starts it if it is not there: another one where it was killed, and with start also a new hub.
func (h *hub) ask(e *Engine, r hubRequest, start bool) (hubReply, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	const attempts = 5
	var last error
	for range attempts {
		if h.conn == nil {
			if err := h.open(e, start); err != nil {
				return hubReply{}, err
			}
		}
		answer, err := h.exchange(r)
		if err == nil && r.Rules != nil && answer.Rules == nil { // an earlier containr's, which does not know what that is
			err = errors.Join(fmt.Errorf("process %d says nothing of rules", answer.PID), endProcess(answer.PID))
		} else if err == nil {
			return answer, nil
		}
		last = err
		h.conn.Close()
		h.conn = nil
	}
	return hubReply{}, fmt.Errorf("hub: it ends each time: %w", last)
}

func (h *hub) exchange(r hubRequest) (answer hubReply, err error) {
	if err = json.NewEncoder(h.conn).Encode(r); err == nil {
		err = h.in.Decode(&answer)
	}
	return answer, err
}

// open connects with the hub's process.
func (h *hub) open(e *Engine, start bool) error {
	if h.dial(e) == nil && h.hello.Carried {
		return nil
	}
	if h.conn != nil {
		h.conn.Close()
		h.conn = nil
	}
	if _, err := os.Stat(e.run); !start && errors.Is(err, fs.ErrNotExist) {
		return errNoHub
	}
	if err := os.MkdirAll(e.run, 0o700); err != nil {
		return err
	}
	starting, err := durable.Acquire(context.Background(), filepath.Join(e.run, hubStart), durable.Exclusive)
	if err != nil {
		return err
	}
	defer starting.Release()
	former := 0
	if h.dial(e) == nil {
		if h.hello.Carried {
			return nil // somebody else was quicker
		}
		former = h.hello.PID
		h.conn.Close()
		h.conn = nil
	}
	if err := e.startHub(former, start); err != nil {
		return fmt.Errorf("the hub of the user's networks: %w", err)
	}
	if err := h.dial(e); err != nil {
		return fmt.Errorf("hub: %w: see %s", err, filepath.Join(e.run, hubLog))
	}
	return e.carryAgain(h.hello.PID)
}

// dial connects with a process that is there.
func (h *hub) dial(e *Engine) error {
	dir, err := os.Open(e.run)
	if err != nil {
		return err
	}
	defer dir.Close()
	if h.conn, err = net.Dial("unix", durable.SocketAddress(dir, hubSocket)); err != nil {
		h.conn = nil
		return err
	}
	h.in = json.NewDecoder(h.conn)
	if h.hello, err = h.exchange(hubRequest{}); err != nil {
		h.conn.Close()
		h.conn = nil
	}
	return err
}

// startHub starts the hub's process, and who carries its packets: in the namespaces of a former one that nobody carries for any
// more, and which is ended; in those that keepers of containers are in; or else in new ones. The caller holds the lock.
func (e *Engine) startHub(former int, start bool) error {
	var namespaces []specs.LinuxNamespace
	held, err := e.hubNamespaces(former)
	defer func() {
		for _, f := range held {
			f.Close()
		}
	}()
	if err != nil {
		return err
	}
	if len(held) == 0 && !start {
		return errNoHub
	}
	for i, kind := range []specs.LinuxNamespaceType{specs.UserNamespace, specs.NetworkNamespace} {
		ns := specs.LinuxNamespace{Type: kind}
		if len(held) > 0 {
			ns.Path = "/proc/self/fd/" + strconv.Itoa(int(held[i].Fd()))
		}
		namespaces = append(namespaces, ns)
	}
	if former != 0 {
		if err := endProcess(former); err != nil {
			return err
		}
	}
	if err := apply.Undo(linux.EndNetwork{Lock: e.carrierLock()}); err != nil { // a carrier ends with its hub
		return err
	}
	return e.executeHub(namespaces)
}

func (e *Engine) carrierLock() string { return filepath.Join(e.run, "usernet", hubCarrier) }

// endProcess kills a process of the user's and waits for its end.
func endProcess(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// hubNamespaces opens the namespaces of the hub, users first; none if there is no hub.
func (e *Engine) hubNamespaces(former int) ([]*os.File, error) {
	if former != 0 {
		return openNamespaces(former)
	}
	containers, err := e.containers()
	if err != nil {
		return nil, err
	}
	rt, err := e.runtime()
	if err != nil {
		return nil, err
	}
	records, err := containers.List()
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		if len(r.Endpoints) == 0 {
			continue
		}
		k, err := rt.Keeper(r.ID)
		if err != nil {
			continue // it has ended, or has never been
		}
		files, err := openNamespaces(k.PID)
		k.Close()
		if err == nil && len(files) > 0 {
			return files, nil
		}
	}
	return nil, nil
}

// openNamespaces opens those of a process; none if they are our own.
func openNamespaces(pid int) (files []*os.File, err error) {
	for _, name := range []string{"user", "net"} {
		path := "/ns/" + name
		theirs, err := os.Readlink("/proc/" + strconv.Itoa(pid) + path)
		if err != nil {
			return files, err
		}
		if ours, err := os.Readlink("/proc/self" + path); err != nil || ours == theirs {
			return nil, err
		}
		f, err := os.Open("/proc/" + strconv.Itoa(pid) + path)
		if err != nil {
			return files, err
		}
		files = append(files, f)
	}
	return files, nil
}

// executeHub makes the process: the same steps as a container's, as far as they are about namespaces and the network without
// privileges.
func (e *Engine) executeHub(namespaces []specs.LinuxNamespace) error {
	facts, err := e.facts()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	p, err := e.hubPlan(facts, namespaces, []string{self, "network", "hold", e.run, e.MonitorProgram()})
	if err != nil {
		return err
	}
	listener, err := durable.Listen(e.run, hubSocket)
	if err != nil {
		return err
	}
	defer listener.Close()
	socket, err := listener.(*net.UnixListener).File()
	if err != nil {
		return err
	}
	defer socket.Close()
	log, err := os.OpenFile(filepath.Join(e.run, hubLog), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	kernel := new(apply.Kernel)
	started, err := runtime.Start(p, runtime.StartOptions{Stdio: [3]*os.File{socket, log, log},
		Actions: runtime.Actions{Do: kernel.Do, Undo: apply.Undo, Read: apply.Read}})
	if err != nil {
		return err
	}
	go func() { // or it would be a zombie of ours
		_, _ = unix.Wait4(started.PID, nil, 0, nil)
	}()
	return nil
}

// hubNet is the network between the hub and who carries its packets.
func hubNet() usermode.Net { return usermode.DefaultNet() }

// hubPlan plans the hub's process.
func (e *Engine) hubPlan(facts *host.Facts, namespaces []specs.LinuxNamespace, args []string) (*plan.Plan, error) {
	machine := container.MachineFrom(facts, "", 0)
	spec := &specs.Spec{Linux: &specs.Linux{Namespaces: namespaces}}
	if namespaces[0].Path == "" {
		spec.Linux.UIDMappings, spec.Linux.GIDMappings = machine.UIDMap, machine.GIDMap
	}
	ns, err := namespace.Plan(spec, facts)
	if err != nil {
		return nil, err
	}
	in := usermode.Input{Backend: usermode.Builtin, Program: e.NetworkProgram(), Lock: e.carrierLock(), PID: namespace.PID, Net: hubNet(),
		IPv6: hostHasIPv6(), UserNS: true, Control: filepath.Join(e.run, hubControl)}
	if in.Program == "" {
		return nil, ErrNoNetworkProgram
	}
	steps := ns.Open
	b := plan.Build(plan.Host, plan.NamespaceChapter)
	clone := linux.Clone{Flags: ns.New}
	if len(ns.Before) > 0 {
		b = plan.Build(plan.Keeper, plan.NamespaceChapter)
		b.Add(ns.Before)
		clone.Flags |= linux.CloneParent
	}
	b.Do("the hub's process is born, in namespaces of the user's own", clone).As(namespace.PID)
	if len(ns.Before) > 0 {
		b.Do("the host learns its process id", linux.WriteReg{FD: linux.FD(child.Sync), Value: namespace.PID})
		b.Do("the rest of the talk is between host and hub", linux.Close{FD: linux.FD(child.Sync)})
	}
	steps = append(append(append(steps, b.Steps...), ns.Map...), ns.Join...)
	b = plan.Build(plan.Child, plan.NamespaceChapter)
	b.Do("it outlives the terminal that it was started from", linux.Setsid{}).Ok(plan.EPERM)
	steps = append(append(append(steps, b.Steps...), network.Loopback()...), usermode.Connect(in)...)
	b = plan.Build(plan.Child, plan.ProgramChapter)
	b.Do("nothing else of the host's stays open", linux.CloseRange{First: 4})
	b.Do("it holds no directory", linux.Chdir{Path: "/"})
	b.Do("all is ready but the program", linux.Write{FD: linux.FD(child.Sync), Data: child.MessageReady})
	b.Do("signals reach the program", linux.UnblockSignals{})
	b.Do("become the program", linux.Execve{Path: args[0], Args: args, Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}})
	steps = append(steps, b.Steps...)
	if len(ns.Before) > 0 {
		b = plan.Build(plan.Keeper, plan.NamespaceChapter)
		b.Do("the hub's process is born, its runner is done", linux.ExitGroup{})
		steps = append(steps, b.Steps...)
	}
	return &plan.Plan{Steps: steps}, nil
}

// carryAgain has a carrier that was started for networks that are there lead the ports of the containers that run.
func (e *Engine) carryAgain(int) error {
	containers, err := e.containers()
	if err != nil {
		return err
	}
	records, err := containers.List()
	if err != nil {
		return err
	}
	kernel := new(apply.Kernel)
	for _, r := range records {
		if st, err := e.State(r); err != nil || st.PID == 0 || len(r.Endpoints) == 0 {
			continue
		}
		for _, step := range e.carried(r.ID, r.Published) {
			if _, err := kernel.Do(step.Call, nil); err != nil {
				return fmt.Errorf("container %s, %s: %w", r.Name, plan.Format(step.Call), err)
			}
		}
	}
	return nil
}

// carried plans that the carrier listens at the ports of a container.
func (e *Engine) carried(id string, published []container.Port) []plan.Step {
	var ports []usermode.Port
	for _, p := range published {
		port := usermode.Port{Protocol: p.Protocol, Host: p.HostPort, Container: p.HostPort}
		if p.HostIP != "" {
			port.HostIP = netip.MustParseAddr(p.HostIP) // as ParsePorts wrote it
		}
		ports = append(ports, port)
	}
	steps := usermode.Carry(filepath.Join(e.run, hubControl), id, ports)
	for i := range steps {
		steps[i].Early()
	}
	return steps
}

// inHub has steps of root's networks be made in the hub.
func inHub(steps []plan.Step) []plan.Step {
	for i, s := range steps {
		if c, ok := s.Call.(linux.WriteFile); ok {
			steps[i].Call = linux.WriteWithin{Path: c.Path, Data: c.Data}
		}
	}
	return steps
}

// entrances plans the addresses in the hub that stand for those of the host at which ports are published.
func entrances(ports []bridge.Port) []plan.Step {
	b := plan.Build(plan.Host, plan.NetworkChapter)
	for _, p := range ports {
		if p.Host.IsValid() {
			b.Do("an address in the hub stands for the one of the host's", linux.AddLinkAddress{Link: usermode.Interface, Local: string(p.Host.AsSlice()), Prefix: p.Host.BitLen()}).Ok(plan.EEXIST).Early()
		}
	}
	return b.Steps
}

// entrancesFor is entrances, where the endpoints are in a hub.
func (e *Engine) entrancesFor(endpoints []bridge.Endpoint, ports []bridge.Port) []plan.Step {
	if len(endpoints) == 0 || !endpoints[0].Network.Hub {
		return nil
	}
	return entrances(ports)
}

// publishing plans ports of a container that runs, or is about to.
func (e *Engine) publishing(id string, published []container.Port, endpoints []bridge.Endpoint) ([]plan.Step, error) {
	ports := allPorts(published, endpoints)
	steps := bridge.Publish(ports)
	hub, err := e.usesHub()
	if err == nil && hub {
		steps = append(append(entrances(ports), steps...), e.carried(id, published)...)
	}
	return steps, err
}

// connectInHub completes a request by networks that are in a hub.
func (e *Engine) connectInHub(req *runtime.CreateRequest, c container.Config, endpoints []container.Endpoint, published []container.Port, live bool) error {
	machine, err := e.machine()
	if err != nil {
		return err
	}
	pid := "HUB" // what explain shows where there is none
	if live {
		hello, err := e.hub.ask(e, hubRequest{}, true)
		if err != nil {
			return err
		}
		pid = strconv.Itoa(hello.PID)
	}
	steps, err := e.networkSteps(req.ID, c, endpoints, published)
	if err != nil {
		return err
	}
	planned, err := e.plannedEndpoints(endpoints)
	if err != nil {
		return err
	}
	req.Network = slices.Concat(req.Network, entrances(allPorts(published, planned)), inHub(steps), e.carried(req.ID, published))
	if c.Namespaces.User == container.Private {
		hub := namespace.Hub{User: "/proc/" + pid + "/ns/user", Network: "/proc/" + pid + "/ns/net", UIDs: machine.UIDMap, GIDs: machine.GIDMap}
		req.Place = hub.Plan
	}
	return nil
}

// hubActions makes steps of networks in the hub.
func (e *Engine) hubActions(own runtime.Actions) runtime.Actions {
	var rules []plan.Call // of the transaction that is being collected
	return runtime.Actions{Read: own.Read, Links: true,
		Do: func(call plan.Call, regs map[plan.Reg]int) (int, error) {
			switch call.(type) {
			case linux.StartNetwork, linux.CarryPort:
				return own.Do(call, regs)
			case linux.Nft:
				rules = append(rules, call)
				return 0, nil
			}
			calls := append(rules, call)
			if _, commits := call.(linux.NftCommit); commits {
				rules = nil
			} else {
				calls = []plan.Call{call}
			}
			return e.inHub(calls, regs, false)
		},
		Undo: func(call plan.Call) error {
			switch call.(type) {
			case linux.EndNetwork, linux.DropPort:
				return own.Undo(call)
			}
			_, err := e.inHub([]plan.Call{call}, nil, true)
			if errors.Is(err, errNoHub) {
				return nil // it went with the networks
			}
			return err
		},
	}
}

// inHub has calls be made.
func (e *Engine) inHub(calls []plan.Call, regs map[plan.Reg]int, undo bool) (int, error) {
	p := &plan.Plan{}
	for _, c := range calls {
		p.Steps = append(p.Steps, plan.Step{Actor: plan.Host, Chapter: plan.NetworkChapter, Why: "asked", Call: c})
	}
	var text bytes.Buffer
	if err := planjson.Encode(&text, p); err != nil {
		return 0, err
	}
	answer, err := e.hub.ask(e, hubRequest{Plan: text.Bytes(), Regs: regs, Undo: undo}, !undo)
	if err != nil {
		return 0, err
	}
	return answer.Result, answer.err()
}

// lookInHub has names be answered in the hub.
func (e *Engine) lookInHub(at []netip.Addr, start bool) error {
	answer, err := e.hub.ask(e, hubRequest{Names: true, Look: at}, start)
	if errors.Is(err, errNoHub) {
		return nil
	}
	if err != nil {
		return err
	}
	return answer.err()
}

// writeServers names who is asked, from the hub, for what is no container's name.
func writeServers(run string) (string, error) {
	path := filepath.Join(run, hubServers)
	return path, durable.WriteFile(path, []byte("nameserver "+hubNet().Names().String()+"\n"), durable.Options{Volatile: true})
}

// isCable tells of the name of a device that is the end of a container's cable, as lease makes it.
func isCable(name string) bool {
	const number = len("ctr012345678")
	return len(name) > number && name[:3] == "ctr" && strings.Trim(name[3:number], "0123456789abcdef") == "" && name[number] == '-'
}
