package resolver

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/containr/containr/internal/nft"
)

// answerWith is an answer for a.example, with resources as "TTL ADDRESS", or "TTL alias".
func answerWith(t *testing.T, list ...string) []byte {
	t.Helper()
	name := dnsmessage.MustNewName("a.example.")
	m := dnsmessage.Message{Header: dnsmessage.Header{Response: true},
		Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	for _, text := range list {
		var ttl uint32
		var what string
		if _, err := fmt.Sscan(text, &ttl, &what); err != nil {
			t.Fatal(err)
		}
		r := dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: ttl}}
		switch a, err := netip.ParseAddr(what); {
		case err != nil:
			r.Body = &dnsmessage.CNAMEResource{CNAME: name}
		case a.Is4():
			r.Body = &dnsmessage.AResource{A: a.As4()}
		default:
			r.Body = &dnsmessage.AAAAResource{AAAA: a.As16()}
		}
		m.Answers = append(m.Answers, r)
	}
	// What is only said beside the answer opens nothing.
	m.Additionals = append(m.Additionals, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: 60}, Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 99}}})
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// An answer opens its addresses for as long as it is good, within bounds, and no more of them than a bound.
func TestOpenings(t *testing.T) {
	at := netip.MustParseAddr
	for _, c := range []struct {
		list []string
		want []opening
	}{
		{[]string{"60 192.0.2.1", "90 2001:db8::1"}, []opening{{at("192.0.2.1"), time.Minute}, {at("2001:db8::1"), 90 * time.Second}}},
		{[]string{"0 192.0.2.1", "4294967295 192.0.2.2"}, []opening{{at("192.0.2.1"), leastOpen}, {at("192.0.2.2"), mostOpen}}},
		{[]string{"30 alias", "600 192.0.2.1"}, []opening{{at("192.0.2.1"), 30 * time.Second}}},
		{[]string{"60 ::ffff:192.0.2.1"}, []opening{{at("192.0.2.1"), time.Minute}}},
		{nil, nil},
	} {
		if got := openings(answerWith(t, c.list...)); !slices.Equal(got, c.want) {
			t.Errorf("%q: %v; want %v", c.list, got, c.want)
		}
	}
	var many []string
	for i := range 200 {
		many = append(many, fmt.Sprint("60 192.0.2.", i))
	}
	whole := answerWith(t, many...)
	if got := len(openings(whole)); got != maxOpened {
		t.Errorf("%d addresses are opened; want %d", got, maxOpened)
	}
	for i := range whole { // one that is cut off must not be anything worse
		openings(whole[:i])
	}
}

// Names open sets for who asks, at the port of the network whose policy says so, and never for the host's or a neighbour's address.
func TestNamesOpenWhatIsOutside(t *testing.T) {
	e := &Entry{ID: "1", Table: "bridge t", Plugs: []Plug{{NetworkID: "n", Subnets: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}, Link: "ctr-0",
		Opens: []Open{{"a.example", "dns-1-"}, {"*.b.example", "dns-2-"}}}, {NetworkID: "m", Link: "ctr-1"}}}
	v := newView(map[string]*Entry{"1": e})
	real := elsewhere
	t.Cleanup(func() { elsewhere = real })
	elsewhere = func(a netip.Addr) (bool, error) { return a != netip.MustParseAddr("203.0.113.7"), nil }
	answer := answerWith(t, "60 203.0.113.7", "60 10.1.0.1", "60 127.0.0.1", "60 169.254.169.254", "60 ::1", "60 fe80::1", "60 0.0.0.0", "60 224.0.0.1", "60 192.0.2.1")
	want := func(set string) (list []string) {
		s := nft.Set{Table: "bridge t", Name: set, Key: []nft.Field{nft.Interface, nft.IPv4}}
		for _, m := range s.Renew([]nft.Item{nft.InterfaceName("ctr-0"), nft.Address(netip.MustParseAddr("192.0.2.1"))}, time.Minute) {
			list = append(list, m.Bytes)
		}
		return list
	}
	for name, set := range map[string]string{"a.example": "dns-1-4", "x.b.example": "dns-2-4", "x.y.b.example": "dns-2-4", "b.example": "", "xb.example": "", "x.a.example": "", "a.example.org": ""} {
		var list []string
		if set != "" {
			list = want(set)
		}
		if got, err := v.opened(e, name, answer); err != nil || !slices.Equal(got, list) {
			t.Errorf("%s opens %d messages, error %v; want %d of set %q", name, len(got), err, len(list), set)
		}
	}
}
