// Package policy says who may talk to whom in a network, and plans the rules for it.
//
// # Theory of operation
//
// A Policy is about containers of one network, all of them or those that it selects. It governs what they receive, ingress, or
// what they send, egress, or both. What is governed is refused unless a rule lets it through: there are rules that allow, and none that refuse.
// Several policies for a container add up. A direction that no policy governs is free. Those are the semantics of a
// NetworkPolicy of Kubernetes. A policy belongs to a network, and goes with it, or to a container.
//
// The rules are in a table of the family bridge, of its own for each state root, which is there while a policy is for somebody. There
// every frame between a container and anybody else passes one port of the switch, the container's end of the cable, and
// that is who it is: no address that a container may make up. A frame between two containers passes the chain forward, one for
// the host or beyond it input, and one from there output.
//
//	map from, to      a port, and the chain for what comes out of it, or goes into it
//	chain out-ID      what a container sends: answers; or what a rule lets through; the rest is counted, noted, and dropped
//	chain in-ID       what it receives
//	chain began-...   notes what a rule has let through, in the sets by which answers are known
//	chain own         what a container sends with an address that is not its own is dropped, as ranges of addresses are peers, too
//
// Another table comes before, bridge.BridgeTable, which all state roots share: it is asked in the hook prerouting, and this one in
// forward, input and output. It keeps the addresses of networks to their owners, in all networks. Those of nobody here it lets
// through, which own does not. Neither table needs the other, and nobody removes but his own.
//
// Who began to talk, or is answered, is told by those sets, as not every kernel tracks connections on a switch, and the host's
// own tracking would not see what does not leave the switch. A flow is both addresses, the protocol and both ports; it is noted when
// the one who begins sends something, and what the other sends the other way is an answer. The names of the sets are made of
// the policy: when that changes the flows are forgotten, and have to begin again, which they may if the new policy lets them.
//
// Compile is pure: the same networks, containers and policies give the same messages.
package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containr/containr/internal/spelling"
)

// ErrInvalid means that a policy cannot be.
var ErrInvalid = errors.New("the policy cannot be")

// Policy is who may talk to some containers of a network, and whom they may talk to.
type Policy struct {
	Name string `json:"name"`
	// Select are the containers that it is for, by name and label; empty for all.
	Select []Peer `json:"select,omitempty"`
	// GovernsIngress and GovernsEgress: what no rule of the list lets through is refused.
	GovernsIngress bool   `json:"governsIngress,omitempty"`
	GovernsEgress  bool   `json:"governsEgress,omitempty"`
	Ingress        []Rule `json:"ingress,omitempty"`
	Egress         []Rule `json:"egress,omitempty"`
}

// Rule lets through what is from, or to, one of its peers, at one of its ports. None of either means any.
type Rule struct {
	Peers []Peer `json:"peers,omitempty"`
	Ports []Port `json:"ports,omitempty"`
	Rate  Rate   `json:"rate,omitzero"`
}

// Peer is who is at the other end: exactly one of its fields is set, but for Except.
type Peer struct {
	// Name is that of a container, or a pattern with *; Label is KEY or KEY=VALUE.
	Name  string `json:"name,omitempty"`
	Label string `json:"label,omitempty"`
	// Range is a range of addresses, but for those in Except.
	Range  netip.Prefix   `json:"range,omitzero"`
	Except []netip.Prefix `json:"except,omitempty"`
	// DNS is a name, in lower case and without a dot at its end, or *. and a name for all that are below it: whoever has an address that
	// the network's resolver has told the container for such a name. For egress only.
	DNS string `json:"dns,omitempty"`
	// Host is the host, by its address in the network.
	Host bool `json:"host,omitempty"`
}

// Port is a range of ports, or a protocol without any: icmp. First 0 means all of them.
type Port struct {
	Protocol string `json:"protocol"`
	First    uint16 `json:"first,omitempty"`
	Last     uint16 `json:"last,omitempty"`
}

// Rate bounds how many flows begin, or with Bytes how many bytes are sent by who began: for a container by a rule, whatever peers and ports
// that has. Count 0 is no bound.
type Rate struct {
	Count uint64        `json:"count,omitempty"`
	Per   time.Duration `json:"per,omitempty"`
	Bytes bool          `json:"bytes,omitempty"`
}

// Most of what a policy may have.
const (
	maxRules = 256
	maxItems = 256
	maxName  = 64
)

// ValidateName refuses what is no name for a policy.
func ValidateName(name string) error {
	if !spelling.IsName(name, maxName) {
		return fmt.Errorf("policy name %q: use letters, digits and _.- after a letter or digit, at most %d: %w", name, maxName, ErrInvalid)
	}
	return nil
}

// Deny is the rule's word that lets nothing through.
const Deny = "deny"

// ParseRule reads a rule in one line, as flags have it: KEY=VALUE,... with the keys name, label, cidr, except, dns, port and rate, and
// the word host. Deny is no rule: ok is false.
func ParseRule(s string) (r Rule, ok bool, err error) {
	if s == Deny {
		return r, false, nil
	}
	for word := range strings.SplitSeq(s, ",") {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "any":
		case "port":
			p, err := ParsePort(value)
			if err != nil {
				return r, false, err
			}
			r.Ports = append(r.Ports, p)
		case "rate":
			if r.Rate, err = ParseRate(value); err != nil {
				return r, false, err
			}
		case "except":
			if len(r.Peers) == 0 || !r.Peers[len(r.Peers)-1].Range.IsValid() {
				return r, false, fmt.Errorf("except=%s: it goes behind a cidr=: %w", value, ErrInvalid)
			}
			p, err := parseRange(value)
			if err != nil {
				return r, false, err
			}
			last := &r.Peers[len(r.Peers)-1]
			last.Except = append(last.Except, p)
		default:
			p, err := ParsePeer(word)
			if err != nil {
				return r, false, err
			}
			r.Peers = append(r.Peers, p)
		}
	}
	return r, true, nil
}

// ParsePeer reads who is at the other end: name=, label=, cidr=, dns=, or host.
func ParsePeer(s string) (p Peer, err error) {
	key, value, has := strings.Cut(s, "=")
	if s == "host" {
		return Peer{Host: true}, nil
	}
	if has && value == "" {
		return p, fmt.Errorf("%s: there is nothing behind =: %w", s, ErrInvalid)
	}
	switch {
	case key == "name" && has:
		if strings.Trim(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-*") != "" {
			err = fmt.Errorf("name=%s: no container has such a name: %w", value, ErrInvalid)
		}
		p.Name = value
	case key == "label" && has:
		p.Label = value
	case key == "cidr" && has:
		p.Range, err = parseRange(value)
	case key == "dns" && has:
		p.DNS, err = parseDNS(value)
	default:
		err = fmt.Errorf("%q: peers are name=NAME, label=KEY[=VALUE], cidr=RANGE, dns=NAME and host: %w", s, ErrInvalid)
	}
	return p, err
}

// Most of a name of DNS, RFC 1035 section 2.3.4.
const (
	maxDNSName  = 253
	maxDNSLabel = 63
)

// parseDNS reads a name of DNS, or *. and a name.
func parseDNS(s string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(s, "."))
	below := strings.TrimPrefix(name, "*.")
	if _, err := netip.ParseAddr(below); err == nil {
		return "", fmt.Errorf("dns=%s: it is an address: cidr= is for those: %w", s, ErrInvalid)
	}
	for label := range strings.SplitSeq(below, ".") {
		if label == "" || len(label) > maxDNSLabel || len(name) > maxDNSName || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
			return "", fmt.Errorf("dns=%s: use a name such as example.org, or *.example.org for all below it: %w", s, ErrInvalid)
		}
	}
	return name, nil
}

// NameMatches reports whether a name, in lower case and without a dot at its end, is what a pattern of Peer.DNS says.
func NameMatches(pattern, name string) bool {
	if below, all := strings.CutPrefix(pattern, "*"); all {
		return len(name) > len(below) && strings.HasSuffix(name, below)
	}
	return pattern == name
}

func parseRange(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%q is no range of addresses, such as 10.1.0.0/24: %w", s, ErrInvalid)
	}
	if p != p.Masked() {
		return p, fmt.Errorf("range %s: bits behind its length are set: %s is meant?: %w", p, p.Masked(), ErrInvalid)
	}
	return p, nil
}

// ParsePort reads PORT[-PORT][/PROTOCOL], or a protocol alone: tcp, udp, sctp, icmp.
func ParsePort(s string) (p Port, err error) {
	numbers, protocol, has := strings.Cut(s, "/")
	if !has {
		protocol = "tcp"
	}
	switch s {
	case "tcp", "udp", "sctp", "icmp":
		return Port{Protocol: s}, nil
	}
	if !slices.Contains([]string{"tcp", "udp", "sctp"}, protocol) {
		return p, fmt.Errorf("port %s: protocols are tcp, udp and sctp; icmp has no ports, and stands alone: %w", s, ErrInvalid)
	}
	first, last, isRange := strings.Cut(numbers, "-")
	if !isRange {
		last = first
	}
	a, errA := strconv.ParseUint(first, 10, 16)
	b, errB := strconv.ParseUint(last, 10, 16)
	switch {
	case errA != nil || errB != nil || a == 0:
		return p, fmt.Errorf("port %s: use 1 to 65535, or a range such as 8000-8010: %w", s, ErrInvalid)
	case b < a:
		return p, fmt.Errorf("port %s: the range ends before it begins: %w", s, ErrInvalid)
	}
	return Port{protocol, uint16(a), uint16(b)}, nil
}

// ParseRate reads COUNT/second, /minute or /hour; or COUNT with kbytes or mbytes, for a second.
func ParseRate(s string) (r Rate, err error) {
	count, unit, _ := strings.Cut(s, "/")
	factor := uint64(1)
	for suffix, n := range map[string]uint64{"kbytes": 1 << 10, "mbytes": 1 << 20} {
		if number, ok := strings.CutSuffix(count, suffix); ok {
			count, factor, r.Bytes = strings.TrimSpace(number), n, true
		}
	}
	r.Per = map[string]time.Duration{"second": time.Second, "minute": time.Minute, "hour": time.Hour}[unit]
	r.Count, err = strconv.ParseUint(count, 10, 32)
	if err != nil || r.Count == 0 || r.Per == 0 || r.Bytes && r.Per != time.Second {
		return Rate{}, fmt.Errorf("rate %s: use COUNT/second, /minute or /hour for what begins, or COUNTkbytes/second or COUNTmbytes/second: %w", s, ErrInvalid)
	}
	r.Count *= factor
	return r, nil
}

// Check refuses a policy that cannot be, and rules that can never apply.
func (p Policy) Check() error {
	if err := ValidateName(p.Name); err != nil {
		return err
	}
	if !p.GovernsIngress && !p.GovernsEgress {
		return fmt.Errorf("policy %s: it has neither ingress nor egress: an empty list of one refuses everything: %w", p.Name, ErrInvalid)
	}
	for _, s := range p.Select {
		if s.Name == "" && s.Label == "" {
			return fmt.Errorf("policy %s, select %s: containers are selected by name= and label=: %w", p.Name, s, ErrInvalid)
		}
	}
	for _, part := range []struct {
		word  string
		rules []Rule
	}{{"ingress", p.Ingress}, {"egress", p.Egress}} {
		if len(part.rules) > maxRules {
			return fmt.Errorf("policy %s: %d rules for %s: at most %d: %w", p.Name, len(part.rules), part.word, maxRules, ErrInvalid)
		}
		for i, r := range part.rules {
			if err := r.check(part.word == "egress"); err != nil {
				return fmt.Errorf("policy %s, %s rule %d: %w", p.Name, part.word, i+1, err)
			}
		}
	}
	return nil
}

func (r Rule) check(egress bool) error {
	if len(r.Peers) > maxItems || len(r.Ports) > maxItems || len(r.Peers)*len(r.Ports) > 4*maxItems {
		return fmt.Errorf("%d peers and %d ports: more than %d of one: %w", len(r.Peers), len(r.Ports), maxItems, ErrInvalid)
	}
	for _, p := range r.Peers {
		if p.DNS != "" && !egress {
			return fmt.Errorf("%s: names of DNS are for egress: who comes in has an address, and no name: %w", p, ErrInvalid)
		}
		for _, x := range p.Except {
			switch {
			case x.Addr().Is4() != p.Range.Addr().Is4() || !p.Range.Contains(x.Addr()) || x.Bits() < p.Range.Bits():
				return fmt.Errorf("except %s: it is not in %s: %w", x, p.Range, ErrInvalid)
			case x == p.Range:
				return fmt.Errorf("except %s: nothing is left of %s, so the rule can never apply: %w", x, p.Range, ErrInvalid)
			}
		}
		if p.Range.IsValid() && p.Range.Bits() > 0 && never(p.Range, egress) {
			return fmt.Errorf("cidr %s: nobody outside has such an address, so the rule can never apply; host means the host: %w", p.Range, ErrInvalid)
		}
	}
	return nil
}

// never reports whether no packet on a switch is from such an address, or for one.
func never(p netip.Prefix, egress bool) bool {
	a := p.Addr()
	return a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() && !egress
}

// String is the peer as ParsePeer reads it.
func (p Peer) String() string {
	switch {
	case p.Host:
		return "host"
	case p.Name != "":
		return "name=" + p.Name
	case p.Label != "":
		return "label=" + p.Label
	case p.DNS != "":
		return "dns=" + p.DNS
	}
	text := "cidr=" + p.Range.String()
	for _, x := range p.Except {
		text += ",except=" + x.String()
	}
	return text
}

// String is the port as ParsePort reads it.
func (p Port) String() string {
	switch {
	case p.First == 0:
		return p.Protocol
	case p.First == p.Last:
		return fmt.Sprintf("%d/%s", p.First, p.Protocol)
	}
	return fmt.Sprintf("%d-%d/%s", p.First, p.Last, p.Protocol)
}

// String is the rate as ParseRate reads it; empty for none.
func (r Rate) String() string {
	switch {
	case r.Count == 0:
		return ""
	case r.Bytes && r.Count%(1<<20) == 0:
		return fmt.Sprintf("%dmbytes/second", r.Count>>20)
	case r.Bytes:
		return fmt.Sprintf("%dkbytes/second", r.Count>>10)
	}
	return fmt.Sprintf("%d/%s", r.Count, map[time.Duration]string{time.Second: "second", time.Minute: "minute", time.Hour: "hour"}[r.Per])
}

// String is the rule as ParseRule reads it; any for one that lets everything through.
func (r Rule) String() string {
	var words []string
	for _, p := range r.Peers {
		words = append(words, p.String())
	}
	for _, p := range r.Ports {
		words = append(words, "port="+p.String())
	}
	if rate := r.Rate.String(); rate != "" {
		words = append(words, "rate="+rate)
	}
	if len(words) == 0 {
		return "any"
	}
	return strings.Join(words, ",")
}

// ByName reports whether a rule of the policy goes by names of DNS.
func (p Policy) ByName() bool {
	return slices.ContainsFunc(p.Egress, func(r Rule) bool { return slices.ContainsFunc(r.Peers, func(p Peer) bool { return p.DNS != "" }) })
}

// matches reports whether a name or label is that of a container.
func (p Peer) matches(c Container) bool {
	if p.Name != "" {
		return like(p.Name, c.Name)
	}
	if p.Label == "" {
		return false
	}
	key, value, has := strings.Cut(p.Label, "=")
	got, there := c.Labels[key]
	return there && (!has || got == value)
}

// like reports whether a name is as a pattern says, in which * stands for anything.
func like(pattern, name string) bool {
	before, after, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == name
	}
	if !strings.HasPrefix(name, before) {
		return false
	}
	for rest := name[len(before):]; ; rest = rest[1:] {
		if like(after, rest) {
			return true
		}
		if rest == "" {
			return false
		}
	}
}

// Selects reports whether the policy is for a container of its network. It needs one of the names, and all labels.
func (p Policy) Selects(c Container) bool {
	names := 0
	named, labelled := false, true
	for _, s := range p.Select {
		if s.Name != "" {
			names++
			named = named || s.matches(c)
		} else {
			labelled = labelled && s.matches(c)
		}
	}
	return (names == 0 || named) && labelled
}
