package resolver

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/nft"
	"github.com/containr/containr/internal/sys"
)

// How long an address is open: as long as the answer is good, but for these bounds. Who is told a name needs time to connect, whatever
// the answer says.
const (
	leastOpen = 10 * time.Second
	mostOpen  = time.Hour
)

// maxOpened is how many addresses one answer opens; the others stay closed.
const maxOpened = 64

// opening is an address of a name, and how long it is good.
type opening struct {
	addr netip.Addr
	stay time.Duration
}

// openings are the addresses in an answer. A chain of aliases is good as long as its shortest link.
func openings(answer []byte) []opening {
	var p dnsmessage.Parser
	if h, err := p.Start(answer); err != nil || h.RCode != dnsmessage.RCodeSuccess || p.SkipAllQuestions() != nil {
		return nil
	}
	var list []opening
	shortest := mostOpen
	for len(list) < maxOpened {
		h, err := p.AnswerHeader()
		if err != nil {
			break
		}
		stay := time.Duration(h.TTL) * time.Second
		switch {
		case h.Class == dnsmessage.ClassINET && h.Type == dnsmessage.TypeA:
			r, err := p.AResource()
			if err != nil {
				return nil
			}
			list = append(list, opening{netip.AddrFrom4(r.A), stay})
			continue
		case h.Class == dnsmessage.ClassINET && h.Type == dnsmessage.TypeAAAA:
			r, err := p.AAAAResource()
			if err != nil {
				return nil
			}
			list = append(list, opening{netip.AddrFrom16(r.AAAA).Unmap(), stay})
			continue
		case h.Type == dnsmessage.TypeCNAME:
			shortest = min(shortest, stay)
		}
		if p.SkipAnswer() != nil {
			break
		}
	}
	for i := range list {
		list[i].stay = max(leastOpen, min(list[i].stay, shortest))
	}
	return list
}

// outside reports whether an address is that of another machine, as far as we know. Whoever owns a name could say that it is the host's, a
// neighbour's, or one of the machine that asks.
func (v *view) outside(a netip.Addr) bool {
	if !a.IsGlobalUnicast() { // as loopback, link-local and multicast addresses are
		return false
	}
	for _, n := range v.networks {
		if slices.ContainsFunc(n.Subnets, func(s netip.Prefix) bool { return s.Contains(a) }) {
			return false
		}
	}
	return true
}

// elsewhere reports whether the host's routes lead to an address through another machine, or to one: it is not the host's own, on whatever
// device. The rules for bridges cannot tell, as they see packets before they are routed (nor has their family an expression fib).
// Tests have it be something else.
var elsewhere = func(a netip.Addr) (bool, error) {
	r, err := sys.OpenRoute()
	if err != nil {
		return false, err
	}
	defer r.Close()
	return r.Unicast(a.AsSlice())
}

// elsewhereFor is elsewhere where all routes lead to who carries the packets: he is asked, too, by a line that is answered with ok if it is.
func elsewhereFor(socket string) func(netip.Addr) (bool, error) {
	here := elsewhere
	return func(a netip.Addr) (bool, error) {
		if is, err := here(a); err != nil || !is {
			return false, err
		}
		dir, err := os.Open(filepath.Dir(socket))
		if err != nil {
			return false, err
		}
		defer dir.Close()
		c, err := net.Dial("unix", durable.SocketAddress(dir, filepath.Base(socket)))
		if err != nil {
			return false, err
		}
		defer c.Close()
		answer, err := exchange(c, "elsewhere "+a.String()+" names")
		return answer == answerOK, err
	}
}

// opens reports whether a pattern of Open is for a name.
func (o Open) opens(name string) bool {
	if below, all := strings.CutPrefix(o.Name, "*"); all {
		return len(name) > len(below) && strings.HasSuffix(name, below)
	}
	return o.Name == name
}

// opened are the messages that open the addresses in an answer to who has asked for a name.
func (v *view) opened(e *Entry, name string, answer []byte) (list []string, err error) {
	for _, p := range e.Plugs {
		for _, o := range p.Opens {
			if !o.opens(name) {
				continue
			}
			for _, a := range openings(answer) {
				if !v.outside(a.addr) {
					continue
				}
				if other, err := elsewhere(a.addr); err != nil {
					return nil, fmt.Errorf("whether %s is the host's own: %w", a.addr, err)
				} else if !other {
					continue
				}
				for _, m := range openSet(e.Table, o, a.addr).Renew([]nft.Item{nft.InterfaceName(p.Link), nft.Address(a.addr)}, a.stay) {
					list = append(list, m.Bytes)
				}
			}
		}
	}
	return list, nil
}

func openSet(table string, o Open, a netip.Addr) nft.Set {
	s := nft.Set{Table: nft.Table(table), Name: o.Set + "4", Key: []nft.Field{nft.Interface, nft.IPv4}}
	if a.Is6() {
		s.Name, s.Key[1] = o.Set+"6", nft.IPv6
	}
	return s
}

// transact is nft.Transact; tests have it be something else.
var transact = nft.Transact

// openTo opens the addresses in an answer. Rules that are just taken away have no sets: then nothing is to be opened.
func (v *view) openTo(e *Entry, q question, answer []byte) error {
	if e == nil {
		return nil
	}
	list, err := v.opened(e, q.name(), answer)
	if err != nil || len(list) == 0 {
		return err
	}
	if err := transact(list...); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("its addresses could not be opened: %w", err)
	}
	return nil
}
