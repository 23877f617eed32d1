package cgroup

import (
	"slices"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// access is a set of ways to use a device.
type access uint8

// The bits are those of BPF_DEVCG_ACC_*, include/uapi/linux/bpf.h.
const (
	accessMknod access = 1 << iota
	accessRead
	accessWrite
	accessAll = accessMknod | accessRead | accessWrite
)

func (a access) String() string { return accessNames[a&accessAll] }

var accessNames = [...]string{"", "m", "r", "rm", "w", "wm", "rw", "rwm"}

// anyNumber stands for every major or minor number.
const anyNumber = -1

// deviceRule allows or denies some ways to use some devices. What several rules say
// about one way to use one device is decided by the last of them.
type deviceRule struct {
	allow bool
	// kind is 'c' for character and 'b' for block devices.
	kind         byte
	major, minor int64
	access       access
}

// covers reports whether the rule is about every device that o is about.
func (r deviceRule) covers(o deviceRule) bool {
	return r.kind == o.kind && (r.major == anyNumber || r.major == o.major) && (r.minor == anyNumber || r.minor == o.minor)
}

// meets reports whether there is a device that both rules are about.
func (r deviceRule) meets(o deviceRule) bool {
	same := func(a, b int64) bool { return a == b || a == anyNumber || b == anyNumber }
	return r.kind == o.kind && same(r.major, o.major) && same(r.minor, o.minor)
}

// String is the rule as the control files of version 1 spell it: "c 1:3 rwm".
func (r deviceRule) String() string {
	line := append(make([]byte, 0, 32), r.kind, ' ')
	line = append(appendNumber(line, r.major), ':')
	line = append(appendNumber(line, r.minor), ' ')
	return string(append(line, r.access.String()...))
}

func appendNumber(line []byte, n int64) []byte {
	if n == anyNumber {
		return append(line, '*')
	}
	return strconv.AppendInt(line, n, 10)
}

// standardDevices are the devices that every container may use, whatever its
// configuration says, as OCI's default devices demand and every runtime has it. Any
// device node may be made, because making is not opening: image layers and package
// managers do it, and the container's own /dev is filled under this filter.
var standardDevices = [...]deviceRule{
	{true, 'c', anyNumber, anyNumber, accessMknod},
	{true, 'b', anyNumber, anyNumber, accessMknod},
	{true, 'c', 1, 3, accessAll},           // null
	{true, 'c', 1, 5, accessAll},           // zero
	{true, 'c', 1, 7, accessAll},           // full
	{true, 'c', 1, 8, accessAll},           // random
	{true, 'c', 1, 9, accessAll},           // urandom
	{true, 'c', 5, 0, accessAll},           // tty
	{true, 'c', 5, 2, accessAll},           // ptmx
	{true, 'c', 136, anyNumber, accessAll}, // pts
}

// devicePolicy is the rules of a configuration, made simple: everything is allowed
// or denied, except what the rules say, in order.
type devicePolicy struct {
	allow bool
	rules []deviceRule
}

// newDevicePolicy reads rules that passed checkDevices. A rule about everything
// makes all before it void. Without one, everything is denied.
func newDevicePolicy(list []specs.LinuxDeviceCgroup) devicePolicy {
	p := devicePolicy{rules: make([]deviceRule, 0, len(list)+len(standardDevices))}
	for _, d := range list {
		r := deviceRule{d.Allow, 'c', wildcard(d.Major), wildcard(d.Minor), parseAccess(d.Access)}
		switch d.Type {
		case "c", "u":
			p.rules = append(p.rules, r)
		case "b":
			r.kind = 'b'
			p.rules = append(p.rules, r)
		default:
			if r.major == anyNumber && r.minor == anyNumber && r.access == accessAll {
				p.allow, p.rules = d.Allow, p.rules[:0]
				continue
			}
			p.rules = append(p.rules, r)
			r.kind = 'b'
			p.rules = append(p.rules, r)
		}
	}
	if !p.allow || len(p.rules) > 0 {
		p.rules = append(p.rules, standardDevices[:]...)
	}
	return p
}

func wildcard(n *int64) int64 {
	if n == nil {
		return anyNumber
	}
	return *n
}

func parseAccess(s string) access {
	var a access
	for _, c := range s {
		switch c {
		case 'm':
			a |= accessMknod
		case 'r':
			a |= accessRead
		case 'w':
			a |= accessWrite
		}
	}
	return a
}

// maxDeviceRules keeps the jumps of the compiled program, 16 bits wide, in reach.
const maxDeviceRules = 4000

func checkDevices(list []specs.LinuxDeviceCgroup) error {
	if len(list) > maxDeviceRules {
		return invalid("devices", strconv.Itoa(len(list))+" rules, at most "+strconv.Itoa(maxDeviceRules)+" are taken")
	}
	for i, d := range list {
		field := "devices[" + strconv.Itoa(i) + "]"
		switch {
		case d.Type != "" && d.Type != "a" && d.Type != "b" && d.Type != "c" && d.Type != "u":
			return invalid(field, "type "+strconv.Quote(d.Type)+" is none of a, b, c")
		case !isDeviceNumber(d.Major) || !isDeviceNumber(d.Minor):
			return invalid(field, "a device number is neither -1 nor between 0 and 4294967295")
		case d.Access == "":
			return invalid(field, "no access given")
		}
		for _, c := range d.Access {
			if c != 'r' && c != 'w' && c != 'm' {
				return invalid(field, "access "+strconv.Quote(d.Access)+" has more than r, w and m")
			}
		}
	}
	return nil
}

func isDeviceNumber(n *int64) bool { return n == nil || *n >= anyNumber && *n < 1<<32 }

// exceptions reduces the rules to those that contradict the default, in the way in
// which version 1 keeps them: a set without order. It fails if order matters, that
// is, if a rule takes back a part of what an earlier, wider one said: the kernel
// would ignore such a rule without a word.
func (p devicePolicy) exceptions() ([]deviceRule, error) {
	var set []deviceRule
	for _, r := range p.rules {
		if r.allow != p.allow {
			set = addException(set, r)
			continue
		}
		for i, e := range set {
			if !r.meets(e) || r.access&e.access == 0 {
				continue
			}
			if !r.covers(e) {
				return nil, invalid("devices", "rule "+strconv.Quote(r.String())+" takes back a part of "+
					strconv.Quote(e.String())+", which cgroup v1 cannot express")
			}
			set[i].access &^= r.access
		}
	}
	kept := set[:0]
	for _, e := range set {
		if e.access != 0 {
			kept = append(kept, e)
		}
	}
	return widen(kept), nil
}

func addException(set []deviceRule, r deviceRule) []deviceRule {
	for i, e := range set {
		if e.covers(r) && r.covers(e) {
			set[i].access |= r.access
			return set
		}
	}
	return append(set, r)
}

// widen gives every exception the reading and writing that wider ones grant for its
// devices: who opens a device for both needs one exception that grants both. (Making
// a node is asked for alone.) An exception that a wider one then makes superfluous is
// left out.
func widen(set []deviceRule) []deviceRule {
	kept := make([]deviceRule, 0, len(set))
	for i, e := range set {
		for j, wider := range set {
			if i != j && wider.covers(e) {
				e.access |= wider.access &^ accessMknod
			}
		}
		superfluous := func(wider deviceRule) bool { return wider.covers(e) && wider.access&e.access == e.access }
		if !slices.ContainsFunc(set[:i], superfluous) && !slices.ContainsFunc(set[i+1:], superfluous) {
			kept = append(kept, e)
		}
	}
	return kept
}

// devicesV1 writes the rules as lines. A new group has its parent's rules: where
// everything is to be allowed, nothing has to be written, because no child is
// allowed more than its parent.
func (l *limits) devicesV1() error {
	const field = at + "devices"
	p := newDevicePolicy(l.res.Devices)
	list, err := p.exceptions()
	if err != nil {
		return err
	}
	why, file := "deny devices", "devices.deny"
	if !p.allow {
		l.set("deny all devices", "devices.deny", "a", field)
		why, file = "allow devices", "devices.allow"
	}
	for _, e := range list {
		l.set(why, file, e.String(), field)
	}
	return nil
}
