package resolver

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

var addr = netip.MustParseAddr

// ids of containers.
var (
	idWeb  = "aaaaaaaaaaaa" + strings.Repeat("1", 52)
	idDB   = "bbbbbbbbbbbb" + strings.Repeat("2", 52)
	idBack = "cccccccccccc" + strings.Repeat("3", 52)
)

func plug(network string, third int, host int, aliases ...string) Plug {
	return Plug{Network: network, NetworkID: "id of " + network,
		Subnets:   []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.0.%d.0/24", third)), netip.MustParsePrefix(fmt.Sprintf("fd00:%d::/64", third))},
		Gateway:   addr(fmt.Sprintf("10.0.%d.1", third)),
		Addresses: []netip.Addr{addr(fmt.Sprintf("10.0.%d.%d", third, host)), addr(fmt.Sprintf("fd00:%d::%x", third, host))},
		Aliases:   aliases}
}

// lab is a resolver that knows web (10.0.1.2) and db (10.0.1.3, and 10.0.2.3 in the network back), both also called all, and
// deep (10.0.2.4) in back, which is internal.
func lab(t testing.TB) *server {
	run := t.TempDir()
	back := func(host int) Plug { p := plug("back", 2, host); p.Internal = true; return p }
	deep := Entry{ID: idBack, Name: "deep", PID: os.Getpid(), Plugs: []Plug{back(4)}}
	for _, e := range []Entry{
		{ID: idWeb, Name: "Web", PID: os.Getpid(), Plugs: []Plug{plug("front", 1, 2, "all", "web.example")}},
		{ID: idDB, Name: "db", PID: os.Getpid(), Plugs: []Plug{plug("front", 1, 3, "all"), back(3)}},
		deep,
	} {
		if err := Write(run, e); err != nil {
			t.Fatal(err)
		}
	}
	s := newServer(context.Background(), run, run+"/resolv.conf")
	s.listenNowhere()
	if err := s.watch(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

// listenNowhere keeps a resolver from making sockets: the addresses of the test are nobody's.
func (s *server) listenNowhere() { s.open = func(netip.Addr) (*endpoint, error) { return nil, nil } }

func ask(t testing.TB, name string, kind dnsmessage.Type, change func(*dnsmessage.Message)) []byte {
	t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 4711, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}}}
	if change != nil {
		change(&m)
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// answerTo returns what is answered from here, and fails if others were to be asked.
func answerTo(t *testing.T, s *server, message []byte, from, at, network string) dnsmessage.Message {
	t.Helper()
	now, wait := s.answer(message, addr(from), addr(at), network)
	if wait != nil || now == nil {
		t.Fatalf("no answer (others are to be asked: %v)", wait != nil)
	}
	var m dnsmessage.Message
	if err := m.Unpack(now); err != nil {
		t.Fatalf("%v: % x", err, now)
	}
	if m.ID != 4711 || !m.Response {
		t.Errorf("header %+v", m.Header)
	}
	return m
}

func texts(m dnsmessage.Message) []string {
	list := []string{}
	for _, r := range m.Answers {
		switch b := r.Body.(type) {
		case *dnsmessage.AResource:
			list = append(list, netip.AddrFrom4(b.A).String())
		case *dnsmessage.AAAAResource:
			list = append(list, netip.AddrFrom16(b.AAAA).String())
		case *dnsmessage.PTRResource:
			list = append(list, b.PTR.String())
		}
	}
	slices.Sort(list)
	return list
}

// Who is in a network finds its neighbours there, and nobody else.
func TestNames(t *testing.T) {
	const others = "others are asked"
	s := lab(t)
	for _, tc := range []struct {
		from, at, name string
		kind           dnsmessage.Type
		want           string
	}{
		{"10.0.1.3", "10.0.1.1", "web.", dnsmessage.TypeA, "10.0.1.2"},
		{"10.0.1.3", "10.0.1.1", "WEB.", dnsmessage.TypeAAAA, "fd00:1::2"},
		{"10.0.1.3", "10.0.1.1", "web.", dnsmessage.TypeMX, ""},
		{"10.0.1.3", "10.0.1.1", "web.", dnsmessage.TypeALL, "10.0.1.2 fd00:1::2"},
		{"10.0.1.3", "10.0.1.1", "web.front.", dnsmessage.TypeA, "10.0.1.2"},
		{"10.0.1.3", "10.0.1.1", "web.back.", dnsmessage.TypeA, others},
		{"10.0.1.3", "10.0.1.1", "web.example.", dnsmessage.TypeA, "10.0.1.2"},
		{"10.0.1.3", "10.0.1.1", "all.", dnsmessage.TypeA, "10.0.1.2 10.0.1.3"},
		{"10.0.1.3", "10.0.1.1", "aaaaaaaaaaaa.", dnsmessage.TypeA, "10.0.1.2"},
		{"10.0.1.3", "10.0.1.1", idWeb[:20] + ".", dnsmessage.TypeA, "10.0.1.2"},
		{"10.0.1.3", "10.0.1.1", "aaaaaaaaaaa.", dnsmessage.TypeA, others},
		{"10.0.1.3", "10.0.1.1", "deep.", dnsmessage.TypeA, "10.0.2.4"},
		{"10.0.1.2", "10.0.1.1", "deep.", dnsmessage.TypeA, others},
		{"10.0.1.2", "10.0.1.1", idBack[:12] + ".", dnsmessage.TypeA, others},
		{"10.0.1.2", "10.0.1.1", "db.", dnsmessage.TypeA, "10.0.1.3"},
		{"10.0.1.3", "10.0.1.1", "db.", dnsmessage.TypeA, "10.0.1.3 10.0.2.3"},
		{"10.0.2.4", "10.0.2.1", "db.", dnsmessage.TypeA, "10.0.2.3"},
		{"10.0.2.4", "10.0.2.1", "web.", dnsmessage.TypeA, others},
		{"10.0.1.1", "10.0.1.1", "web.", dnsmessage.TypeA, "10.0.1.2"}, // the host
		{"10.0.1.2", "10.0.1.1", "3.1.0.10.in-addr.arpa.", dnsmessage.TypePTR, "db.front."},
		{"10.0.1.2", "10.0.1.1", "3.1.0.10.in-addr.arpa.", dnsmessage.TypeA, ""},
		{"10.0.1.2", "10.0.1.1", "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa.", dnsmessage.TypePTR, "Web.front."},
		{"10.0.1.2", "10.0.1.1", "4.2.0.10.in-addr.arpa.", dnsmessage.TypePTR, "RCodeNameError"},
		{"10.0.1.2", "10.0.1.1", "99.1.0.10.in-addr.arpa.", dnsmessage.TypePTR, "RCodeNameError"},
		{"10.0.1.2", "10.0.1.1", "1.1.1.1.in-addr.arpa.", dnsmessage.TypePTR, others},
		{"10.0.1.2", "10.0.2.1", "db.", dnsmessage.TypeA, "RCodeRefused"},
		{"192.0.2.1", "10.0.1.1", "web.", dnsmessage.TypeA, "RCodeRefused"},
		{"192.0.2.1", "10.0.1.1", "example.com.", dnsmessage.TypeA, "RCodeRefused"},
	} {
		question := ask(t, tc.name, tc.kind, nil)
		got := others
		if _, wait := s.answer(question, addr(tc.from), addr(tc.at), "udp"); wait == nil {
			m := answerTo(t, s, question, tc.from, tc.at, "udp")
			got = strings.Join(texts(m), " ")
			if m.RCode != dnsmessage.RCodeSuccess {
				got = strings.TrimPrefix(m.RCode.GoString(), "dnsmessage.")
			}
		}
		if got != tc.want {
			t.Errorf("%s asks at %s for %s %s: %q, want %q", tc.from, tc.at, tc.name, tc.kind, got, tc.want)
		}
	}
}

// A name is gone with its container's file, and with its process; the question that comes after it sees that.
func TestNamesVanish(t *testing.T) {
	s := lab(t)
	question := ask(t, "web.", dnsmessage.TypeA, nil)
	answerTo(t, s, question, "10.0.1.3", "10.0.1.1", "udp")
	if err := Remove(s.run, idWeb); err != nil {
		t.Fatal(err)
	}
	if now, wait := s.answer(question, addr("10.0.1.3"), addr("10.0.1.1"), "udp"); wait == nil {
		t.Errorf("a container that was forgotten is found: % x", now)
	}
	if err := Write(s.run, Entry{ID: idWeb, Name: "web", PID: os.Getpid(), Plugs: []Plug{plug("front", 1, 9)}}); err != nil {
		t.Fatal(err)
	}
	if got := texts(answerTo(t, s, question, "10.0.1.3", "10.0.1.1", "udp")); !slices.Equal(got, []string{"10.0.1.9"}) {
		t.Errorf("after its restart: %v", got)
	}
}

// Who takes the first address does not always get the same.
func TestAddressesTakeTurns(t *testing.T) {
	s := lab(t)
	first := map[[4]byte]int{}
	for range 40 {
		m := answerTo(t, s, ask(t, "all.", dnsmessage.TypeA, nil), "10.0.1.2", "10.0.1.1", "udp")
		first[m.Answers[0].Body.(*dnsmessage.AResource).A]++
	}
	if len(first) != 2 || first[[4]byte{10, 0, 1, 2}] != 20 {
		t.Errorf("first addresses: %v", first)
	}
}

// What is no question that we answer is refused with the code that the standards have for it.
func TestWhatIsNoQuestion(t *testing.T) {
	s := lab(t)
	good := ask(t, "web.", dnsmessage.TypeA, nil)
	changed := func(at int, value ...byte) []byte { b := slices.Clone(good); copy(b[at:], value); return b }
	opt := func(version uint32, size int) func(*dnsmessage.Message) {
		return func(m *dnsmessage.Message) {
			h := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("."), Type: dnsmessage.TypeOPT, Class: dnsmessage.Class(size), TTL: version << 16}
			m.Additionals = append(m.Additionals, dnsmessage.Resource{Header: h, Body: &dnsmessage.OPTResource{}})
		}
	}
	for name, tc := range map[string]struct {
		message []byte
		want    dnsmessage.RCode
	}{
		"another operation":    {changed(2, 0x28), dnsmessage.RCodeNotImplemented},
		"no question":          {changed(4, 0, 0), dnsmessage.RCodeFormatError},
		"two questions":        {changed(4, 0, 2), dnsmessage.RCodeFormatError},
		"cut off":              {good[:len(good)-3], dnsmessage.RCodeFormatError},
		"a name in a circle":   {changed(12, 0xc0, 12), dnsmessage.RCodeFormatError},
		"another class":        {changed(len(good)-1, 3), dnsmessage.RCodeRefused},
		"EDNS of tomorrow":     {ask(t, "web.", dnsmessage.TypeA, opt(1, 1232)), 0}, // and 1 in the record, for 16
		"missing OPT":          {changed(10, 0, 1), dnsmessage.RCodeFormatError},
		"a question like this": {good, dnsmessage.RCodeSuccess},
	} {
		m := answerTo(t, s, tc.message, "10.0.1.3", "10.0.1.1", "udp")
		if m.RCode != tc.want {
			t.Errorf("%s: %v, want %v", name, m.RCode, tc.want)
		}
	}
	m := answerTo(t, s, ask(t, "web.", dnsmessage.TypeA, opt(1, 1232)), "10.0.1.3", "10.0.1.1", "udp")
	if len(m.Answers) != 0 || len(m.Additionals) != 1 || m.Additionals[0].Header.TTL>>24 != 1 {
		t.Errorf("EDNS of another version: %+v", m)
	}
	for name, message := range map[string][]byte{"an answer": changed(2, 0x80), "nothing": {}, "half a header": good[:11]} {
		if now, wait := s.answer(message, addr("10.0.1.3"), addr("10.0.1.1"), "udp"); now != nil || wait != nil {
			t.Errorf("%s is answered", name)
		}
	}
}

// An answer is as long as the asker takes it; what is longer is asked for again over TCP.
func TestTruncation(t *testing.T) {
	s := lab(t)
	for i := range 50 {
		id := fmt.Sprintf("%064x", 0xd00000000000000+i)
		if err := Write(s.run, Entry{ID: id, Name: fmt.Sprintf("many%d", i), PID: os.Getpid(), Plugs: []Plug{plug("front", 1, 100+i, "many")}}); err != nil {
			t.Fatal(err)
		}
	}
	edns := func(size int) func(*dnsmessage.Message) {
		return func(m *dnsmessage.Message) {
			var h dnsmessage.ResourceHeader
			h.SetEDNS0(size, 0, false)
			m.Additionals = append(m.Additionals, dnsmessage.Resource{Header: h, Body: &dnsmessage.OPTResource{}})
		}
	}
	for _, tc := range []struct {
		network   string
		change    func(*dnsmessage.Message)
		truncated bool
	}{{"udp", nil, true}, {"udp", edns(600), true}, {"udp", edns(1232), false}, {"udp", edns(100), true}, {"tcp", nil, false}} {
		question := ask(t, "many.", dnsmessage.TypeA, tc.change)
		m := answerTo(t, s, question, "10.0.1.3", "10.0.1.1", tc.network)
		if m.Truncated != tc.truncated || !tc.truncated && len(m.Answers) != 50 || tc.truncated && len(m.Answers) != 0 {
			t.Errorf("%+v: truncated %v with %d answers", tc, m.Truncated, len(m.Answers))
		}
		if (len(m.Additionals) == 1) != (tc.change != nil) {
			t.Errorf("%+v: %d additional records", tc, len(m.Additionals))
		}
	}
	question := ask(t, "many.", dnsmessage.TypeAAAA, edns(4096)) // 50 of them do not fit into a packet
	if m := answerTo(t, s, question, "10.0.1.3", "10.0.1.1", "udp"); !m.Truncated {
		t.Errorf("an answer of more than %d bytes", ownSize)
	}
}

// Nothing that a container sends ends the resolver, or gets an answer that is none.
func FuzzAnswer(f *testing.F) {
	s := lab(f)
	f.Add(ask(f, "web.", dnsmessage.TypeA, nil))
	f.Add(ask(f, "3.1.0.10.in-addr.arpa.", dnsmessage.TypePTR, nil))
	f.Add(ask(f, "all.", dnsmessage.TypeALL, func(m *dnsmessage.Message) {
		var h dnsmessage.ResourceHeader
		h.SetEDNS0(512, 0, true)
		m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{Options: []dnsmessage.Option{{Code: 10, Data: []byte("cookie")}}}}}
	}))
	f.Fuzz(func(t *testing.T, message []byte) {
		for _, network := range []string{"udp", "tcp"} {
			now, _ := s.answer(message, addr("10.0.1.3"), addr("10.0.1.1"), network)
			if now == nil {
				continue
			}
			var m dnsmessage.Message
			if err := m.Unpack(now); err != nil || !m.Response || m.ID != binary.BigEndian.Uint16(message) {
				t.Fatalf("answer % x to % x: %v", now, message, err)
			}
			if network == "udp" && len(now) > ownSize {
				t.Fatalf("answer of %d bytes", len(now))
			}
		}
		questionEnd(append(make([]byte, headerSize), message...))
		answersTo(message, message)
	})
}
