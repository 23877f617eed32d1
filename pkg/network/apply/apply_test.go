package apply

import (
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/network/bridge"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// inputOf is a container with everything that a network can have.
func inputOf() bridge.Input {
	v4, v6 := netip.MustParsePrefix("10.1.0.2/24"), netip.MustParsePrefix("fd00:1::2/64")
	front := bridge.Network{Link: "front0", MTU: 1400, Subnets: []bridge.Subnet{
		{Prefix: v4.Masked(), Gateway: netip.MustParseAddr("10.1.0.1")}, {Prefix: v6.Masked(), Gateway: netip.MustParseAddr("fd00:1::1")}}}
	back := bridge.Network{Link: "back0", Internal: true, Isolated: true, Subnets: []bridge.Subnet{
		{Prefix: netip.MustParsePrefix("10.2.0.0/24"), Gateway: netip.MustParseAddr("10.2.0.1")}}}
	return bridge.Input{PID: "pid", Endpoints: []bridge.Endpoint{
		{Network: front, Link: "ctr-0", Interface: "eth0", MAC: bridge.MAC(v4.Addr()), Addresses: []netip.Prefix{v4, v6}, Leads: bridge.Versions{Four: true, Six: true}},
		{Network: back, Link: "ctr-1", Interface: "eth1", MAC: "\x02\x00\x00\x00\x00\x01", Addresses: []netip.Prefix{netip.MustParsePrefix("10.2.0.2/24")}},
	}, Ports: []bridge.Port{
		{To: v4.Addr(), Protocol: "tcp", HostPort: 8080, Container: 80},
		{To: v6.Addr(), Protocol: "tcp", HostPort: 8080, Container: 80},
		{To: v4.Addr(), Protocol: "udp", HostPort: 53, Container: 53, Host: netip.MustParseAddr("127.0.0.1")},
		{To: v6.Addr(), Protocol: "sctp", HostPort: 9, Container: 9, Host: netip.MustParseAddr("2001:db8::1")},
	}}
}

// container starts a process that has a network namespace of its own.
func container(t *testing.T, n *testkit.NetNS) int {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	var err error
	n.Do(func() { err = cmd.Start() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd.Process.Pid
}

// perform makes steps, and returns the first error that a step does not tolerate.
func perform(n *testkit.NetNS, k *Kernel, steps []plan.Step, pid int) (err error) {
	regs := map[plan.Reg]int{"pid": pid}
	headFailed := false
	n.Do(func() {
		for i := range steps {
			if err == nil {
				err = performOne(k, &steps[i], regs, &headFailed)
			}
		}
	})
	return err
}

func performOne(k *Kernel, s *plan.Step, regs map[plan.Reg]int, headFailed *bool) error {
	if s.When == plan.Else && !*headFailed {
		return nil
	}
	result, err := make0(k, s.Call, regs)
	if s.When == plan.Always {
		*headFailed = err != nil
	}
	for _, tolerated := range s.Tolerate {
		if errno, ok := err.(unix.Errno); ok && plan.Errno(errno) == tolerated {
			return nil
		}
	}
	if s.Result != "" {
		regs[s.Result] = result
	}
	return err
}

// make0 makes a call that is ours, or one that pkg/runtime makes.
func make0(k *Kernel, call plan.Call, regs map[plan.Reg]int) (int, error) {
	switch c := call.(type) {
	case linux.WriteFile:
		return 0, exec.Command("sh", "-c", "echo "+c.Data+" > "+c.Path).Run()
	case linux.AddAddress:
		address, _ := netip.AddrFromSlice([]byte(c.Local))
		return 0, nsenter(regs[c.PID], "ip", "address", "add", address.String()+"/"+strconv.Itoa(c.Prefix), "dev", linkName(regs[c.Link], regs[c.PID]), "nodad")
	case linux.RaiseLink:
		return 0, nsenter(regs[c.PID], "ip", "link", "set", "up", "dev", linkName(regs[c.Link], regs[c.PID]))
	}
	return k.Do(call, regs)
}

func nsenter(pid int, args ...string) error {
	return exec.Command("nsenter", append([]string{"--net", "--target", strconv.Itoa(pid), "--"}, args...)...).Run()
}

func linkName(index, pid int) string {
	out, _ := exec.Command("nsenter", "--net", "--target", strconv.Itoa(pid), "--", "ip", "-o", "link").Output()
	for line := range strings.Lines(string(out)) {
		if rest, ok := strings.CutPrefix(line, strconv.Itoa(index)+": "); ok {
			name, _, _ := strings.Cut(rest, "@")
			return name
		}
	}
	return "none"
}

func undo(t *testing.T, n *testkit.NetNS, calls []plan.Call) {
	t.Helper()
	n.Do(func() {
		for _, c := range calls {
			entry, ok := c.(interface{ Entry() (string, string) })
			if !ok {
				t.Errorf("%s cannot be written in a journal", c.Name())
				continue
			}
			action, operand := entry.Entry()
			read, err := Read(action, operand)
			if err != nil || read != c {
				t.Errorf("%s comes back from a journal as %#v, error %v", c.Name(), read, err)
			}
			if err := Undo(read); err != nil {
				t.Error(err)
			}
		}
	})
}

// Whichever step fails: what is the container's is gone afterwards, and with the networks all else.
func TestEveryStepIsUndone(t *testing.T) {
	testkit.RequireNft(t)
	n := testkit.NewNetNS(t)
	testkit.Leftovers(t)
	before := n.State()
	in := inputOf()
	steps := bridge.Connect(in)
	if err := (&plan.Plan{Steps: steps}).Validate("pid"); err != nil {
		t.Fatal(err)
	}
	undos := (&plan.Plan{Steps: steps}).Undo()
	pid := container(t, n)
	if err := perform(n, new(Kernel), steps, pid); err != nil {
		t.Fatal(err)
	}
	undo(t, n, undos)
	networks := n.State()
	first := slices.IndexFunc(steps, func(s plan.Step) bool { return s.Undo != nil }) // what comes before is the networks'
	for i := first + 1; i < len(steps); i++ {
		if err := perform(n, new(Kernel), steps[:i], pid); err != nil {
			t.Fatalf("the steps before %d: %v", i, err)
		}
		undo(t, n, undos)
		if now := n.State(); now != networks {
			t.Errorf("step %d (%s) failed; left is\n%s\nand not\n%s", i, steps[i].Call.Name(), now, networks)
		}
	}
	n.Do(func() {
		for _, e := range in.Endpoints {
			for _, c := range append(e.Network.Remove(), e.Network.Remove()...) { // twice is no error
				if err := Undo(c); err != nil {
					t.Error(err)
				}
			}
		}
		if left, err := Networks(); left != 0 || err != nil {
			t.Errorf("%d networks are left, error %v", left, err)
		}
		for _, c := range bridge.RemoveTables() {
			if err := Undo(c); err != nil {
				t.Error(err)
			}
		}
		if left, err := Networks(); left != 0 || err != nil {
			t.Errorf("without a table: %d networks, error %v", left, err)
		}
	})
	n.Run("sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv6/conf/all/forwarding")
	if now := n.State(); now != before {
		t.Errorf("left is\n%s\nand not\n%s", now, before)
	}
}

// A cable of a container that has ended leads nowhere at once, and is gone soon without anybody's doing; if others are in the
// network namespace, when they have ended. A container that is started again has one meanwhile.
func TestUnpluggedCablesGo(t *testing.T) {
	n := testkit.NewNetNS(t)
	testkit.Leftovers(t)
	in := inputOf()
	pid := container(t, n)
	if err := perform(n, new(Kernel), bridge.Connect(in), pid); err != nil {
		t.Fatal(err)
	}
	if out := n.Run("ip", "-d", "-o", "link", "show", "ctr-0"); !strings.Contains(out, "numtxqueues 1 ") || !strings.Contains(out, "numrxqueues 1 ") {
		t.Errorf("the cable has more than one queue: %s", out)
	}
	unplug := func() {
		t.Helper()
		n.Do(func() {
			for _, link := range []string{"ctr-0", "ctr-1", "ctr-1", "ctr-none"} {
				if err := Undo(linux.UnplugLink{Link: link}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	reaches := func() bool { // nobody listens there, and the host says so
		out, _ := exec.Command("nsenter", "--net", "--target", strconv.Itoa(pid), "--", "timeout", "1", "bash", "-c", "echo >/dev/tcp/10.1.0.1/9").CombinedOutput()
		return strings.Contains(string(out), "refused")
	}
	if !reaches() {
		t.Fatal("the container does not reach its gateway")
	}
	unplug()
	if reaches() {
		t.Error("a cable that was unplugged carries packets")
	}
	in.Ports = nil // those are published
	again := container(t, n)
	if err := perform(n, new(Kernel), bridge.Connect(in), again); err != nil {
		t.Fatalf("started again while its last cable is there: %v", err)
	}
	unix.Kill(again, unix.SIGKILL)
	unplug()
	for deadline := time.Now().Add(3 * time.Second); strings.Contains(n.Run("ip", "-br", "link"), "ctr-"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still there: %s", n.Run("ip", "-br", "link"))
		}
	}
}

// Who finds a port taken, and takes back what he has done, leaves it to whom it belongs.
func TestUndoingSparesOthers(t *testing.T) {
	testkit.RequireNft(t)
	n := testkit.NewNetNS(t)
	testkit.Leftovers(t)
	in := inputOf()
	if err := perform(n, new(Kernel), bridge.Connect(in), container(t, n)); err != nil {
		t.Fatal(err)
	}
	ports := n.Run("nft", "list", "map", "inet", "containr", "published4")
	other := bridge.Publish([]bridge.Port{{To: netip.MustParseAddr("10.1.0.3"), Protocol: "tcp", HostPort: 8080, Container: 80}})
	if err := perform(n, new(Kernel), other, 0); err != unix.EEXIST {
		t.Errorf("a port that is taken: error %v", err)
	}
	undo(t, n, (&plan.Plan{Steps: other}).Undo())
	if now := n.Run("nft", "list", "map", "inet", "containr", "published4"); now != ports || !strings.Contains(now, "8080") {
		t.Errorf("left is\n%s\nand not\n%s", now, ports)
	}
}

// What explain shows is what the kernel has: nft(8) lists the same rules.
func TestTextsAreWhatTheKernelHas(t *testing.T) {
	testkit.RequireNft(t)
	n := testkit.NewNetNS(t)
	testkit.Leftovers(t)
	in := inputOf()
	in.Endpoints[0].Bound = true
	steps := bridge.Connect(in)
	if err := perform(n, new(Kernel), steps, container(t, n)); err != nil {
		t.Fatal(err)
	}
	got := n.Run("nft", "list", "ruleset")
	// The same in another place, made by nft(8) of the texts.
	byHand := testkit.NewNetNS(t)
	for _, s := range steps {
		c, ok := s.Call.(linux.Nft)
		if !ok {
			continue
		}
		out, err := byHand.Command("nft", c.Command)
		if err != nil && strings.Contains(c.Command, "icmpv6 taddr") && strings.Contains(out, "syntax error") {
			// nft(8) has a word for that since 1.0.9. Before, it shows what it does not know.
			got = regexp.MustCompile(`(?m)^\t\ticmpv6 type nd-neighbor-(?:advert|solicit) .*@th,64,128 .*\n`).ReplaceAllString(got, "")
		} else if err != nil {
			t.Fatalf("nft %s: %v\n%s", c.Command, err, out)
		}
	}
	if want := byHand.Run("nft", "list", "ruleset"); got != want {
		t.Errorf("the kernel has\n%s\nnft made of the texts\n%s", got, want)
	}
	if rules := regexp.MustCompile(`(?m)^\t\t[a-z].*(accept|drop|masquerade|jump|return|dnat)`).FindAllString(got, -1); len(rules) < 20 {
		t.Errorf("%d rules are there: %q", len(rules), rules)
	}
}

// A table that an earlier containr has made gets the rules of this one; what is in its sets stays.
func TestTableOfAnEarlierContainr(t *testing.T) {
	testkit.RequireNft(t)
	testkit.Leftovers(t)
	fresh, old := testkit.NewNetNS(t), testkit.NewNetNS(t)
	if err := perform(fresh, new(Kernel), bridge.Connect(inputOf()), container(t, fresh)); err != nil {
		t.Fatal(err)
	}
	if err := perform(old, new(Kernel), bridge.Connect(inputOf()), container(t, old)); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{ // as it was once
		"flush chain inet containr forward", "flush chain inet containr deliver", "flush chain inet containr ask", "delete chain inet containr ask",
		"delete set inet containr gateways4", "delete set inet containr gateways6", "delete set inet containr neighbours",
		"flush chain inet containr past", "delete chain inet containr past", "delete set inet containr rules2",
		"flush chain bridge containr send", "delete set bridge containr rules3",
		"add set inet containr same { type ifname . ifname; }",
		"add rule inet containr forward iifname . oifname @same accept",
		"add rule inet containr deliver udp dport 53 accept",
		"add element inet containr bridges { old0 }",
		"add element inet containr published4 { tcp . 9090 : 10.9.0.2 . 90 }",
	} {
		old.Run("nft", command)
	}
	in := inputOf()
	for i := range in.Endpoints {
		in.Endpoints[i].Link += "b"
	}
	in.Ports = nil
	if err := perform(old, new(Kernel), bridge.Connect(in), container(t, old)); err != nil {
		t.Fatal(err)
	}
	if got, want := old.Run("nft", "list", "chain", "bridge", "containr", "send"), fresh.Run("nft", "list", "chain", "bridge", "containr", "send"); got != want {
		t.Errorf("for bridges it has\n%s\nand not\n%s", got, want)
	}
	for _, chain := range []string{"past", "publish", "arrive", "send", "leave", "forward", "deliver", "ask"} {
		got, want := old.Run("nft", "list", "chain", "inet", "containr", chain), fresh.Run("nft", "list", "chain", "inet", "containr", chain)
		if got != want {
			t.Errorf("there is now\n%s\nand not\n%s", got, want)
		}
	}
	for set, want := range map[string][]string{"set bridges": {"old0", "front0", "back0"}, "map published4": {"9090", "8080"}, "set gateways4": {"10.2.0.1"}} {
		kind, name, _ := strings.Cut(set, " ")
		got := old.Run("nft", "list", kind, "inet", "containr", name)
		for _, element := range want {
			if !strings.Contains(got, element) {
				t.Errorf("%s is not in\n%s", element, got)
			}
		}
	}
}

// A plan is the same each time, and names nothing of this machine.
func TestPlanIsPure(t *testing.T) {
	one, two := bridge.Connect(inputOf()), bridge.Connect(inputOf())
	if !slices.EqualFunc(one, two, func(a, b plan.Step) bool { return a.Call == b.Call && a.Why == b.Why }) {
		t.Error("the same input makes two plans")
	}
	if bridge.Connect(bridge.Input{}) != nil {
		t.Error("a container without networks has steps")
	}
}

// A thousand times a port is published, and taken back: the rules are as they were, and no descriptor is left open.
func TestPublishedAThousandTimes(t *testing.T) {
	testkit.RequireNft(t)
	n := testkit.NewNetNS(t)
	in := inputOf()
	in.Ports = nil
	if err := perform(n, new(Kernel), bridge.Connect(in), container(t, n)); err != nil {
		t.Fatal(err)
	}
	steps := bridge.Publish(inputOf().Ports[:1])
	before, open := n.State(), descriptors(t)
	for i := range 1000 {
		if err := perform(n, new(Kernel), steps, 0); err != nil {
			t.Fatalf("time %d: %v", i, err)
		}
		if i == 0 && n.State() == before {
			t.Fatal("a published port changes nothing")
		}
		n.Do(func() {
			for _, s := range steps {
				if s.Undo == nil {
					continue
				}
				if err := Undo(s.Undo); err != nil {
					t.Errorf("time %d: %v", i, err)
				}
			}
		})
	}
	if now := n.State(); now != before {
		t.Errorf("there is now\n%s\nand was before\n%s", now, before)
	}
	if now := descriptors(t); now != open {
		t.Errorf("%d descriptors are open, and %d were before", now, open)
	}
}

func descriptors(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// Thousands of messages are one transaction, and the first error of thousands is told.
func TestManyAtOnce(t *testing.T) {
	testkit.RequireNft(t)
	n := testkit.NewNetNS(t)
	in := inputOf()
	in.Ports = nil
	for i := range 5000 {
		in.Ports = append(in.Ports, bridge.Port{To: in.Endpoints[0].Addresses[i%2].Addr(), Protocol: "tcp", HostPort: uint16(10000 + i/2), Container: uint16(i/2 + 1)})
	}
	k := new(Kernel)
	if err := perform(n, k, bridge.Connect(in), container(t, n)); err != nil {
		t.Fatal(err)
	}
	count := func() int { return strings.Count(n.Run("nft", "list", "table", "inet", "containr"), "tcp . ") }
	if got := count(); got != 5000 {
		t.Errorf("%d ports are published, want 5000", got)
	}
	if err := perform(n, k, bridge.Publish(in.Ports), 0); err != unix.EEXIST {
		t.Errorf("the same ports once more: error %v, want EEXIST", err)
	}
}
