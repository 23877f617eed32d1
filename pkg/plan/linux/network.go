package linux

import (
	"strconv"
	"strings"

	"github.com/containr/containr/pkg/plan"
)

// The host's actions that make a network for containers: devices, addresses and routes,
// rtnetlink(7), and rules of the packet filter, nft(8). Package pkg/network/apply makes
// them.

// AddBridge makes a switch in the kernel, called Link, that is up. MAC is 6 bytes, MTU 0
// for the kernel's.
type AddBridge struct {
	Link, MAC string
	MTU       int
	// Own: one that is called so already is refused, unless it has this MAC.
	Own bool
}

func (AddBridge) Name() string { return "add_bridge" }

func (c AddBridge) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.String(c.Link), plan.Blob(c.MAC), plan.Number(c.MTU), plan.Number(map[bool]int{true: 1}[c.Own]))
}

// Text is the action as a shell command.
func (c AddBridge) Text() string {
	return "ip link add " + quote(c.Link) + " address " + mac(c.MAC) + mtu(c.MTU) + " up type bridge"
}

// AddLinkAddress gives a device of the host, by its name, an address: 4 or 16 bytes in
// network order.
type AddLinkAddress struct {
	Link, Local string
	Prefix      int
}

func (AddLinkAddress) Name() string { return "add_link_address" }

func (c AddLinkAddress) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.String(c.Link), plan.Blob(c.Local), plan.Number(c.Prefix))
}

// Text is the action as a shell command.
func (c AddLinkAddress) Text() string {
	return "ip address add " + address(c.Local) + "/" + strconv.Itoa(c.Prefix) + " dev " + quote(c.Link) + nodad(c.Local)
}

// CableGroup is the group of devices, in ip-link(8)'s sense, that the host's ends of cables are in: rules know them by it from
// the moment that they are there, and nothing has to be taken back. The number is "ctr"; nobody else is likely to have it.
const CableGroup = 0x637472

// NetworkGroup is the group of the devices that a network has made of the host's. It says that they go with the network.
const NetworkGroup = 0x63746e

// AddVeth makes a cable: one end, Link, is plugged into the bridge, the other is called Peer,
// in the network namespace of the process in PID, and has the address MAC, 6 bytes. The
// first is up, and what comes out of it may go back into it: a container may talk to a port
// that it has published itself. With Isolated the bridge lets this end talk to the host only. With Fixed
// the bridge knows that MAC is at this end, and learns no other address from it. The result is the
// index of the peer. The end here is in the group CableGroup.
type AddVeth struct {
	Link, Bridge string
	Isolated     bool
	Fixed        bool
	PID          plan.Reg
	Peer, MAC    string
	MTU          int
}

func (AddVeth) Name() string { return "add_veth" }

func (c AddVeth) AppendArgs(dst []plan.Arg) []plan.Arg {
	number := map[bool]int{true: 1}
	return append(dst, plan.String(c.Link), plan.String(c.Bridge), plan.Number(number[c.Isolated]), plan.Number(number[c.Fixed]), plan.Value(c.PID), plan.String(c.Peer), plan.Blob(c.MAC), plan.Number(c.MTU))
}

// Text is the action as shell commands.
func (c AddVeth) Text() string {
	text := "ip link add " + quote(c.Link) + mtu(c.MTU) + " master " + quote(c.Bridge) + " group " + strconv.Itoa(CableGroup) + " up type veth peer name " + quote(c.Peer) +
		" address " + mac(c.MAC) + mtu(c.MTU) + " netns $" + string(c.PID)
	text += " && bridge link set dev " + quote(c.Link) + " hairpin on"
	if c.Isolated {
		text += " isolated on"
	}
	if c.Fixed {
		text += " learning off && bridge fdb replace " + mac(c.MAC) + " dev " + quote(c.Link) + " master static sticky"
	}
	return text
}

// AddSubLink makes a device called Link that shares Parent, a device of the host's, in the
// network namespace of the process in PID. Kind is macvlan or ipvlan; Mode is one of
// SubLinkModes. MAC is 6 bytes, or empty. The result is its index.
type AddSubLink struct {
	Kind, Mode, Flag string
	Parent           string
	PID              plan.Reg
	Link, MAC        string
	MTU              int
}

func (AddSubLink) Name() string { return "add_sub_link" }

func (c AddSubLink) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.String(c.Kind), plan.String(c.Mode), plan.String(c.Flag), plan.String(c.Parent), plan.Value(c.PID), plan.String(c.Link),
		plan.Blob(c.MAC), plan.Number(c.MTU))
}

// Text is the action as a shell command.
func (c AddSubLink) Text() string {
	text := "ip link add " + quote(c.Link) + " link " + quote(c.Parent)
	if c.MAC != "" {
		text += " address " + mac(c.MAC)
	}
	return strings.TrimSuffix(text+mtu(c.MTU)+" netns $"+string(c.PID)+" type "+c.Kind+" mode "+c.Mode+" "+c.Flag, " ")
}

// SubLinkModes are the modes of each kind of AddSubLink, as the kernel numbers them; the
// first is the usual one.
var SubLinkModes = map[string][]Mode{
	"macvlan": {{"bridge", 4}, {"private", 1}, {"vepa", 2}, {"passthru", 8}},
	"ipvlan":  {{"l2", 0}, {"l3", 1}, {"l3s", 2}},
	"flag":    {{"bridge", 0}, {"private", 1}, {"vepa", 2}},
}

// Mode is a word and the kernel's number for it.
type Mode struct {
	Word   string
	Number int
}

// AddVLAN makes a device called Link that is up, for the packets of Parent that are marked
// with ID, 1 to 4094. It is in the group NetworkGroup.
type AddVLAN struct {
	Parent, Link string
	ID           int
}

func (AddVLAN) Name() string { return "add_vlan" }

func (c AddVLAN) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.String(c.Parent), plan.String(c.Link), plan.Number(c.ID))
}

// Text is the action as a shell command.
func (c AddVLAN) Text() string {
	return "ip link add " + quote(c.Link) + " link " + quote(c.Parent) + " group " + strconv.Itoa(NetworkGroup) + " up type vlan id " + strconv.Itoa(c.ID)
}

// DropLink deletes a device in the network namespace of the process in PID. One that is gone
// is no error.
type DropLink struct {
	PID  plan.Reg
	Link string
}

func (DropLink) Name() string { return "drop_link" }

func (c DropLink) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.Value(c.PID), plan.String(c.Link))
}

// Text is the action as a shell command.
func (c DropLink) Text() string {
	return "nsenter --target $" + string(c.PID) + " --net -- ip link delete " + quote(c.Link)
}

// AddRoute sends what is for no network that the device with the index in Link is in, in
// the network namespace of the process in PID, to a gateway: 4 or 16 bytes. If all are 0 it
// goes to whoever is at the device. With Replace it takes the place of one that is there.
type AddRoute struct {
	PID, Link plan.Reg
	Gateway   string
	Replace   bool
}

func (AddRoute) Name() string { return "add_route" }

func (c AddRoute) AppendArgs(dst []plan.Arg) []plan.Arg {
	dst = append(dst, plan.Value(c.PID), plan.Value(c.Link), plan.Blob(c.Gateway))
	if c.Replace {
		dst = append(dst, plan.String("replace"))
	}
	return dst
}

// Text is the action as a shell command.
func (c AddRoute) Text() string {
	via := " via " + address(c.Gateway)
	if strings.Trim(c.Gateway, "\x00") == "" {
		via = ""
	}
	verb := "add"
	if c.Replace {
		verb = "replace"
	}
	return "nsenter --target $" + string(c.PID) + " --net -- ip route " + verb + " default" + via + " dev $" + string(c.Link)
}

// FindLink asks for a device in the network namespace of the process in PID, by its name.
// The result is its index.
type FindLink struct {
	PID  plan.Reg
	Link string
}

func (FindLink) Name() string { return "find_link" }

func (c FindLink) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.Value(c.PID), plan.String(c.Link))
}

// Text is the action as a shell command.
func (c FindLink) Text() string {
	return "nsenter --target $" + string(c.PID) + " --net -- ip -o link show " + quote(c.Link)
}

// DeleteLink deletes a network device, and with one end of a cable the other. One that is
// gone is no error.
type DeleteLink struct{ Link string }

func (DeleteLink) Name() string { return "delete_link" }

func (c DeleteLink) AppendArgs(dst []plan.Arg) []plan.Arg { return append(dst, plan.String(c.Link)) }

// Text is the action as a shell command.
func (c DeleteLink) Text() string { return "ip link delete " + quote(c.Link) }

// Entry is the action in a journal.
func (c DeleteLink) Entry() (action, operand string) { return c.Name(), c.Link }

// UnplugLink takes the host's end of a cable down, whose other end goes with a network namespace that nobody is in any more: then the
// kernel removes both. Until then nothing goes through. One that is gone is no error. It takes the place of DeleteLink when a
// container has ended.
type UnplugLink struct{ Link string }

func (UnplugLink) Name() string { return "unplug_link" }

func (c UnplugLink) AppendArgs(dst []plan.Arg) []plan.Arg { return append(dst, plan.String(c.Link)) }

// Text is the action as a shell command.
func (c UnplugLink) Text() string { return "ip link set " + quote(c.Link) + " down" }

// Entry is what DeleteLink is in a journal.
func (c UnplugLink) Entry() (action, operand string) { return DeleteLink(c).Entry() }

// NftSet asks for a set in a table of the packet filter, whose family, if it is not inet, is before its name. If there is none,
// the error is ENOENT.
type NftSet struct{ Table, Set string }

func (NftSet) Name() string { return "nft_set" }

func (c NftSet) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.String(c.Table), plan.String(c.Set))
}

// Text is the action as a shell command.
func (c NftSet) Text() string {
	family, table, ok := strings.Cut(c.Table, " ")
	if !ok {
		family, table = "inet", c.Table
	}
	return "nft list set " + family + " " + quote(table) + " " + quote(c.Set)
}

// Nft adds to the packet filter's rules, or deletes of them, with the next NftCommit.
// Command is what nft(8) is told for it, Message is what the kernel is told.
type Nft struct{ Command, Message string }

func (Nft) Name() string { return "nft" }

func (c Nft) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.String(c.Command), plan.Blob(c.Message))
}

// Text is the action as a shell command.
func (c Nft) Text() string { return "nft '" + c.Command + "'" }

// NftDelete deletes an element of a map, at once, if it has these Data: who has found the key
// taken by somebody else undoes nothing of his. Without Data it deletes elements of sets, all of them or none. What is gone is no error.
type NftDelete struct{ Command, Message, Data string }

func (NftDelete) Name() string { return "nft_delete" }

func (c NftDelete) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.String(c.Command), plan.Blob(c.Message), plan.Blob(c.Data))
}

// Text is the action as a shell command.
func (c NftDelete) Text() string { return "nft '" + c.Command + "'" }

// Entry is the action in a journal.
func (c NftDelete) Entry() (action, operand string) {
	return c.Name(), strconv.Itoa(len(c.Command)) + " " + strconv.Itoa(len(c.Data)) + " " + c.Command + c.Data + c.Message
}

// NftDeleteFromEntry reads the operand of an Entry; ok is false if it is none.
func NftDeleteFromEntry(operand string) (c NftDelete, ok bool) {
	first, rest, _ := strings.Cut(operand, " ")
	second, rest, _ := strings.Cut(rest, " ")
	command, err := strconv.Atoi(first)
	data, dataErr := strconv.Atoi(second)
	if err != nil || dataErr != nil || command < 0 || data < 0 || command > len(rest) || data > len(rest)-command {
		return c, false
	}
	return NftDelete{Command: rest[:command], Data: rest[command : command+data], Message: rest[command+data:]}, true
}

// NftCommit makes all that the Nft before it are about at one moment, or nothing of it.
type NftCommit struct{}

func (NftCommit) Name() string { return "nft_commit" }

func (c NftCommit) AppendArgs(dst []plan.Arg) []plan.Arg { return dst }

// Text is the action as a comment of a shell script: nft(8) without a file of commands makes each at once.
func (c NftCommit) Text() string { return ": these nft commands happen at one moment" }

// mac writes 6 bytes as 02:00:00:00:00:01.
func mac(b string) string {
	const digits = "0123456789abcdef"
	var out strings.Builder
	for i := range b {
		if i > 0 {
			out.WriteByte(':')
		}
		out.WriteByte(digits[b[i]>>4])
		out.WriteByte(digits[b[i]&15])
	}
	return out.String()
}

func mtu(n int) string {
	if n == 0 {
		return ""
	}
	return " mtu " + strconv.Itoa(n)
}

// nodad: an address of version 6 that we give away ourselves need not be asked for among
// the neighbours, which takes a second.
func nodad(b string) string {
	if len(b) == 16 {
		return " nodad"
	}
	return ""
}
