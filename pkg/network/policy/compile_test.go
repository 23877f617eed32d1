package policy_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/containr/containr/internal/nft"
	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/network/policy"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func rules(t testing.TB, texts ...string) (list []policy.Rule) {
	t.Helper()
	for _, text := range texts {
		r, ok, err := policy.ParseRule(text)
		if err != nil || !ok {
			t.Fatalf("%s: %v, %v", text, ok, err)
		}
		list = append(list, r)
	}
	return list
}

// inputOf has every kind of peer, port and rate.
func inputOf(t testing.TB) policy.Input {
	id := strings.Repeat("ab", 32)
	web := policy.Policy{Name: "web", Select: []policy.Peer{{Name: "web*"}}, GovernsIngress: true, GovernsEgress: true,
		Ingress: rules(t, "name=client,port=80,port=8000-8010/udp,rate=10/second", "cidr=192.0.2.0/24,except=192.0.2.66,cidr=2001:db8::/32,port=icmp", "host"),
		Egress: rules(t, "label=role=db,port=5432/tcp", "cidr=0.0.0.0/0,rate=2mbytes/second", "cidr=224.0.0.0/4,port=udp",
			"dns=a.example,dns=*.b.example,port=443,port=53/udp", "dns=C.example.,rate=5/second", "dns=d.example,rate=1mbytes/second")}
	own := policy.Policy{Name: "own", GovernsEgress: true}
	plug := func(i int) []policy.Plug {
		return []policy.Plug{{Network: id, Link: fmt.Sprintf("ctr%d-0", i), Addresses: []netip.Addr{addr(fmt.Sprint("10.1.0.", i)), addr(fmt.Sprint("fd00:1::", i))}}}
	}
	return policy.Input{Table: "bridge containr-test",
		Networks: []policy.Network{{ID: id, Name: "lab", Gateways: []netip.Addr{addr("10.1.0.1"), addr("fd00:1::1")}, Resolver: addr("10.1.0.1"), Policies: []policy.Policy{web}}},
		Containers: []policy.Container{{ID: "1", Name: "web1", Plugs: plug(1)}, {ID: "2", Name: "client", Plugs: plug(2), Own: []policy.Policy{own}},
			{ID: "3", Name: "db", Labels: map[string]string{"role": "db"}, Plugs: plug(3)}}}
}

// changed is the input with one rule other than it was.
func changed(input policy.Input) policy.Input {
	input.Containers = slices.Clone(input.Containers)
	own := input.Containers[0].Own[0]
	own.Egress = []policy.Rule{{}}
	input.Containers[0].Own = []policy.Policy{own}
	return input
}

func in(n *testkit.NetNS, f func() error) (err error) {
	n.Do(func() { err = f() })
	return err
}

// The kernel has the same from our messages as from the texts beside them, which nft(8) was told; and it has the same again when all is
// replaced by itself, and nothing else when there is less.
func TestRulesAreWhatTheirTextsSay(t *testing.T) {
	testkit.RequireNft(t)
	input := inputOf(t)
	r := policy.Compile(input, "")
	ours, theirs := testkit.NewNetNS(t), testkit.NewNetNS(t)
	var texts, messages []string
	for _, s := range r.Steps() {
		texts, messages = append(texts, s.Text), append(messages, s.Bytes)
		if s.Why == "" {
			t.Errorf("%s has no reason", s.Text)
		}
	}
	file := filepath.Join(t.TempDir(), "rules")
	if err := os.WriteFile(file, []byte(strings.Join(texts, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := in(ours, func() error { return nft.Transact(messages...) }); err != nil {
		for i := range messages {
			if in(ours, func() error { return nft.Transact(messages[:i+1]...) }) != nil {
				t.Fatalf("%s: %v", texts[i], err)
			}
		}
	}
	theirs.Run("nft", "-f", file)
	list := func(n *testkit.NetNS) string { return n.Run("nft", "-s", "list", "ruleset") }
	want := list(theirs)
	if got := list(ours); got != want {
		t.Errorf("the kernel has\n%s\nand from nft\n%s", got, want)
	}
	replace := func(r *policy.Rules) {
		t.Helper()
		err := in(ours, func() error {
			there, err := r.Table.Contents()
			if err != nil {
				return err
			}
			return nft.Transact(r.Replace(there)...)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	replace(r)
	if got := list(ours); got != want {
		t.Errorf("replaced by itself it is\n%s\nand was\n%s", got, want)
	}
	input.Containers = input.Containers[1:]
	less := policy.Compile(input, "")
	replace(less)
	there, err := nft.Contents{}, error(nil)
	ours.Do(func() { there, err = less.Table.Contents() })
	if err != nil || len(there.Chains) != len(less.Chains) || len(there.Sets) != len(less.Sets) || len(there.Counters) != len(less.Counters) {
		t.Errorf("there are %d chains, %d sets, %d counters; want %d, %d, %d; error %v", len(there.Chains), len(there.Sets), len(there.Counters),
			len(less.Chains), len(less.Sets), len(less.Counters), err)
	}
	if !less.Are(there) || r.Are(there) || policy.Compile(changed(input), "").Are(there) {
		t.Error("the table is not what it was made, or is something else, too")
	}
	if strings.Contains(list(ours), "ctr1-0") {
		t.Error("a container that is gone has rules")
	}
}

// Made in several transactions the rules are the same, whatever was there before; and what is not finished is seen.
func TestRulesInParts(t *testing.T) {
	testkit.RequireNft(t)
	const most = 8 << 10
	input := inputOf(t)
	less := input
	less.Containers = input.Containers[1:]
	whole, parted := testkit.NewNetNS(t), testkit.NewNetNS(t)
	list := func(n *testkit.NetNS) string { return n.Run("nft", "-s", "list", "ruleset") }
	contents := func(n *testkit.NetNS) (there nft.Contents) {
		t.Helper()
		if err := in(n, func() (err error) { there, err = input.Table.Contents(); return err }); err != nil {
			t.Fatal(err)
		}
		return there
	}
	for when, rules := range map[string][]*policy.Rules{"made": {policy.Compile(input, "")}, "with less": {policy.Compile(input, ""), policy.Compile(less, "")}, "with more again": {policy.Compile(less, ""), policy.Compile(input, "")}} {
		for _, r := range rules {
			there := contents(whole)
			if err := in(whole, func() error { return nft.Transact(r.Replace(there)...) }); err != nil {
				t.Fatal(when, err)
			}
			parts := r.Parts(contents(parted), most)
			if len(parts) < 3 {
				t.Fatalf("%s: %d parts", when, len(parts))
			}
			for i, p := range parts {
				if err := in(parted, func() error { return nft.Transact(p...) }); err != nil {
					t.Fatalf("%s: part %d: %v", when, i, err)
				}
				if is := r.Are(contents(parted)); is != (i == len(parts)-1) {
					t.Errorf("%s: part %d of %d: the table is what it was to be: %v", when, i, len(parts), is)
				}
			}
		}
		if got, want := sortedLines(list(parted)), sortedLines(list(whole)); got != want {
			t.Errorf("%s: in parts there is\n%s\nand at once\n%s", when, got, want)
		}
		for _, n := range []*testkit.NetNS{whole, parted} {
			n.Run("nft", "flush", "ruleset")
		}
	}
	if parts := policy.Compile(input, "").Parts(nft.Contents{}, 1<<20); len(parts) != 1 {
		t.Errorf("what one transaction has room for are %d", len(parts))
	}
}

// sortedLines is a text by whose lines two lists are compared, as chains and sets are listed in the order in which they were made.
func sortedLines(s string) string {
	lines := strings.Split(s, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestPlanIsPure(t *testing.T) {
	if a, b := policy.Compile(inputOf(t), "1").Steps(), policy.Compile(inputOf(t), "1").Steps(); !reflect.DeepEqual(a, b) {
		t.Error("the same input gives other rules")
	}
}

func TestRulesAreReadAsTheyArePrinted(t *testing.T) {
	for _, text := range []string{"any", "host", "name=web*,port=80/tcp", "label=a=b,label=c,port=icmp", "cidr=10.0.0.0/8,except=10.1.0.0/16,rate=5/minute",
		"cidr=192.0.2.7/32,port=1-65535/udp", "port=tcp,rate=3kbytes/second", "cidr=::/0"} {
		r, ok, err := policy.ParseRule(text)
		if err != nil || !ok || r.String() != text {
			t.Errorf("%s: %q, %v", text, r, err)
		}
	}
	if _, ok, err := policy.ParseRule("deny"); ok || err != nil {
		t.Error("deny is a rule")
	}
}

func TestPoliciesThatCannotBe(t *testing.T) {
	for text, want := range map[string]string{
		"nam=web": "peers are name=", "name=": "nothing behind =", "cidr=10.0.0.1/8": "10.0.0.0/8 is meant", "cidr=10.0.0": "no range of addresses",
		"port=0": "1 to 65535", "port=70000": "1 to 65535", "port=9-8": "ends before it begins", "port=80/icmp": "stands alone", "port=http": "1 to 65535",
		"rate=0/second": "use COUNT/second", "rate=1/day": "use COUNT/second", "except=10.0.0.0/8": "behind a cidr=", "dns=a..example": "use a name such as", "dns=192.0.2.1": "it is an address", "dns=*": "use a name such as", "dns=a.*.example": "use a name such as",
		"name=a b": "no container has such a name",
	} {
		if _, _, err := policy.ParseRule(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", text, err, want)
		}
	}
	for text, want := range map[string]string{
		"cidr=10.0.0.0/8,except=11.0.0.0/8": "not in 10.0.0.0/8", "cidr=10.0.0.0/8,except=10.0.0.0/8": "can never apply",
		"cidr=127.0.0.0/8": "can never apply", "cidr=224.0.0.0/4": "can never apply", "cidr=10.0.0.0/8,except=fd00::/8": "not in 10.0.0.0/8",
	} {
		p := policy.Policy{Name: "p", GovernsIngress: true, Ingress: rules(t, text)}
		if err := p.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", text, err, want)
		}
	}
	for _, p := range []policy.Policy{{Name: "p"}, {Name: "/", GovernsIngress: true}, {Name: "p", GovernsIngress: true, Select: []policy.Peer{{Host: true}}}} {
		if p.Check() == nil {
			t.Errorf("%+v can be", p)
		}
	}
}

func TestSelects(t *testing.T) {
	c := policy.Container{Name: "web-1", Labels: map[string]string{"tier": "front", "empty": ""}}
	for _, tc := range []struct {
		words []string
		want  bool
	}{{nil, true}, {[]string{"name=web-*"}, true}, {[]string{"name=db", "name=web-1"}, true}, {[]string{"name=web"}, false}, {[]string{"label=tier"}, true},
		{[]string{"label=tier=back"}, false}, {[]string{"name=w*-*1", "label=tier=front", "label=empty="}, true}, {[]string{"label=tier", "label=none"}, false}} {
		var p policy.Policy
		for _, w := range tc.words {
			peer, err := policy.ParsePeer(w)
			if w == "label=empty=" {
				peer, err = policy.Peer{Label: "empty="}, nil
			}
			if err != nil {
				t.Fatal(err)
			}
			p.Select = append(p.Select, peer)
		}
		if p.Selects(c) != tc.want {
			t.Errorf("%q: %v", tc.words, !tc.want)
		}
	}
}
