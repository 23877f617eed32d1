package linux

import (
	"strconv"
	"strings"

	"github.com/containr/containr/pkg/plan"
)

// The host's actions on network devices, rtnetlink(7).

// MoveLink moves a network device to the network namespace of the process in PID. Its
// result is the device's index there. A name To that holds "%d" gets a number from the
// kernel.
type MoveLink struct {
	Link  string
	Index int
	PID   plan.Reg
	To    string
}

func (MoveLink) Name() string { return "move_link" }

func (c MoveLink) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.String(c.Link), plan.Number(c.Index), plan.Value(c.PID), plan.String(c.To))
}

// Text is the action as a shell command.
func (c MoveLink) Text() string {
	return "ip link set " + quote(c.Link) + " netns $" + string(c.PID) + " name " + quote(c.To)
}

// AddAddress gives the device with the index in Link, in the network namespace of the
// process in PID, an address: 4 or 16 bytes in network order, and so are Peer and
// Broadcast where there are some. Flags are the IFA_F_ bits.
type AddAddress struct {
	PID, Link              plan.Reg
	Local, Peer, Broadcast string
	Prefix                 int
	Flags                  uint32
}

func (AddAddress) Name() string { return "add_address" }

func (c AddAddress) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.Value(c.PID), plan.Value(c.Link), plan.Blob(c.Local), plan.Number(c.Prefix),
		plan.Blob(c.Peer), plan.Blob(c.Broadcast), plan.Arg{Kind: plan.Hex, Num: uint64(c.Flags)})
}

// Text is the action as a shell command.
func (c AddAddress) Text() string {
	text := "nsenter --target $" + string(c.PID) + " --net -- ip address add " + address(c.Local)
	if c.Peer != "" {
		text += " peer " + address(c.Peer)
	}
	text += "/" + strconv.Itoa(c.Prefix)
	if c.Broadcast != "" {
		text += " broadcast " + address(c.Broadcast)
	}
	return text + " dev $" + string(c.Link)
}

// RaiseLink brings the device with the index in Link up, in the network namespace of
// the process in PID.
type RaiseLink struct{ PID, Link plan.Reg }

func (RaiseLink) Name() string { return "raise_link" }

func (c RaiseLink) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.Value(c.PID), plan.Value(c.Link))
}

// Text is the action as a shell command.
func (c RaiseLink) Text() string {
	return "nsenter --target $" + string(c.PID) + " --net -- ip link set up dev $" + string(c.Link)
}

// address writes 4 bytes as 10.0.0.1 and 16 in groups of hexadecimal digits, none left
// out.
func address(b string) string {
	var out strings.Builder
	if len(b) == 4 {
		for i := range b {
			out.WriteString([]string{"", "."}[min(i, 1)] + strconv.Itoa(int(b[i])))
		}
		return out.String()
	}
	for i := 0; i+1 < len(b); i += 2 {
		out.WriteString([]string{"", ":"}[min(i, 1)] + strconv.FormatUint(uint64(b[i])<<8|uint64(b[i+1]), 16))
	}
	return out.String()
}
