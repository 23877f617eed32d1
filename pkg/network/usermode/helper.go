package usermode

import (
	"net/netip"
	"path"
	"strconv"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// PastaNames is where names are asked for behind pasta: an address that nobody has.
const PastaNames = "169.254.1.1"

// Files of a helper beside the lock: the fifo that it says there that it is ready, and the socket
// where it is asked for ports.
const (
	ReadySuffix  = ".ready"
	SocketSuffix = ".sock"
)

// helper plans a network that somebody else's program carries, below ours.
func helper(in Input) []plan.Step {
	args := []string{"above"}
	if in.Backend == Slirp {
		args = append(args, "--socket", in.Lock+SocketSuffix)
		for _, p := range in.Ports {
			args = append(args, "--publish", p.String())
		}
		args = append(append(args, "--", in.Helper), slirpArgs(in)...)
	} else {
		args = append(args, "--fifo", in.Lock+ReadySuffix)
		if in.rights() {
			args = append(args, "--stdin", netNS)
		}
		args = append(append(args, "--", in.Helper), pastaArgs(in)...)
	}
	b := plan.Build(plan.Host, plan.NetworkChapter)
	b.Do(in.Backend+" makes a device in the container's namespaces and carries what it sends; ours ends it with the container",
		linux.StartNetwork{Program: in.Program, Args: args, Lock: in.Lock, PID: in.PID}).Reverse(linux.EndNetwork{Lock: in.Lock})
	return b.Steps
}

// Namespaces of the container's process.
const (
	netNS  = "/proc/" + linux.PIDWord + "/ns/net"
	userNS = "/proc/" + linux.PIDWord + "/ns/user"
)

// slirpArgs: descriptor 3 is where it says that it is ready, and at the end of descriptor 4 it ends. It is started beside the
// lock, since the whole path of the socket may be longer than such paths can be.
func slirpArgs(in Input) []string {
	mtu := 65520 // the longest: nothing is cut up
	if in.MTU != 0 {
		mtu = in.MTU
	}
	args := []string{"--configure", "--ready-fd=3", "--exit-fd=4", "--api-socket=" + path.Base(in.Lock) + SocketSuffix,
		"--mtu=" + strconv.Itoa(mtu), "--cidr=" + in.Net.IPv4.String(), "--netns-type=path"}
	if in.UserNS {
		args = append(args, "--userns-path="+userNS)
	}
	if in.IPv6 {
		args = append(args, "--enable-ipv6")
	}
	if !in.HostLoopback {
		args = append(args, "--disable-host-loopback")
	}
	return append(args, netNS, Interface)
}

// pastaArgs: nothing is forwarded but what was asked for.
func pastaArgs(in Input) []string {
	args := []string{"--foreground", "--quiet", "--pid", in.Lock + ReadySuffix, "--config-net", "--ns-ifname", Interface,
		"-T", "none", "-U", "none", "--dns-forward", PastaNames}
	if !in.HostLoopback {
		args = append(args, "--no-map-gw")
	}
	if !in.IPv6 {
		args = append(args, "--ipv4-only")
	}
	if in.MTU != 0 {
		args = append(args, "--mtu", strconv.Itoa(in.MTU))
	}
	for _, protocol := range [...]struct{ name, flag string }{{"tcp", "-t"}, {"udp", "-u"}} {
		forwarded := false
		for _, p := range in.Ports {
			if p.Protocol == protocol.name {
				args = append(args, protocol.flag, pastaPort(p))
				forwarded = true
			}
		}
		if !forwarded {
			args = append(args, protocol.flag, "none")
		}
	}
	if in.Root {
		args = append(args, "--runas", "0:0") // otherwise it becomes nobody, who may not enter the container's network
	}
	if in.UserNS {
		args = append(args, "--userns", userNS)
	} else {
		args = append(args, "--netns-only")
	}
	if in.rights() {
		return append(args, "--netns", "/proc/self/fd/0")
	}
	return append(args, "--netns", netNS)
}

// rights reports whether the container's process has privileges on the host. Pasta gives up those to look at such a process
// before it opens the namespace, ptrace(2), so it is given the namespace as its standard input, the one descriptor below 3 that no
// version of it uses or closes.
func (in Input) rights() bool { return in.Root && !in.UserNS }

func pastaPort(p Port) string {
	text := strconv.Itoa(int(p.Host)) + ":" + strconv.Itoa(int(p.Container))
	if p.HostIP == (netip.Addr{}) {
		return text
	}
	return p.HostIP.String() + "/" + text
}
