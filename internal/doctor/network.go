package doctor

import "fmt"

var networkChecks = []check{
	{group: "Network", name: "loopback", ask: loopback},
	{group: "Network", name: "bridge", ask: part(Bridge, "CONFIG_BRIDGE", "containers can be joined by a bridge")},
	{group: "Network", name: "veth", ask: part(Veth, "CONFIG_VETH", "a container can be connected with the host")},
	{group: "Network", name: "nf-tables", ask: part(NFTables, "CONFIG_NF_TABLES", "addresses can be translated, ports published")},
	{group: "Network", name: "names", concerns: root, ask: names},
	{group: "Network", name: "tun", ask: tunnel},
	{group: "Network", name: "ip-forward", ask: forwarding("net.ipv4.ip_forward", "IPv4")},
	{group: "Network", name: "ipv6-forward", ask: forwarding("net.ipv6.conf.all.forwarding", "IPv6")},
}

func loopback(m *Machine) (State, string, string) {
	if m.Settings["net.ipv6.conf.lo.disable_ipv6"] == "" {
		return Limited, "the kernel has no IPv6: ::1 is not there in containers", "add ipv6.disable=0 to the kernel's command line, and boot"
	}
	return OK, "127.0.0.1 and ::1", ""
}

func part(p Part, option, use string) func(*Machine) (State, string, string) {
	return func(m *Machine) (State, string, string) {
		switch m.Parts[p] {
		case Present:
			return OK, use, ""
		case Absent:
			return Missing, fmt.Sprintf("the kernel has no %s", p), fmt.Sprintf("install the modules of kernel %s, or boot one with %s", m.Release, option)
		}
		return Limited, fmt.Sprintf("the kernel does not say whether it has %s", p), fmt.Sprintf("sudo modprobe %s", p)
	}
}

// names: containers ask the host for names, at port 53 of their network's gateway.
func names(m *Machine) (State, string, string) {
	if len(m.InputDrops) == 0 {
		return OK, "no firewall keeps containers from asking the host for names", ""
	}
	c := m.InputDrops[0]
	return Limited, fmt.Sprintf("chain %s drops what no rule there accepts: containers may get no answer to their questions for names", c.Name),
		fmt.Sprintf(`sudo nft insert rule %s iifname "ctr*" udp dport 53 accept`, c.Words)
}

func tunnel(m *Machine) (State, string, string) {
	switch {
	case m.Tunnel:
		return OK, "/dev/net/tun: a network in user space is possible", ""
	case m.Parts[Tun] == Absent:
		return part(Tun, "CONFIG_TUN", "")(m)
	}
	return Limited, "/dev/net/tun cannot be opened", "sudo modprobe tun; sudo chmod 666 /dev/net/tun"
}

func forwarding(setting, family string) func(*Machine) (State, string, string) {
	return func(m *Machine) (State, string, string) {
		switch m.setting(setting) {
		case "":
			return Limited, "the kernel has no " + family, ""
		case "0":
			return Limited, family + " is not forwarded between networks: containers on a bridge reach nothing outside", keptSetting(setting, "1")
		}
		return OK, family + " is forwarded", ""
	}
}
