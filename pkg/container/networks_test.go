package container

import (
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestParsePorts(t *testing.T) {
	port := func(ip string, first, last, port uint16, protocol string) Port {
		return Port{HostIP: ip, HostPort: first, HostEnd: last, Port: port, Protocol: protocol}
	}
	for text, want := range map[string][]Port{
		"80":                        {port("", 0, 0, 80, "tcp")},
		"8080:80":                   {port("", 8080, 8080, 80, "tcp")},
		"8080:80/udp":               {port("", 8080, 8080, 80, "udp")},
		"8080:80/SCTP":              {port("", 8080, 8080, 80, "sctp")},
		"127.0.0.1:8080:80":         {port("127.0.0.1", 8080, 8080, 80, "tcp")},
		"127.0.0.1::80":             {port("127.0.0.1", 0, 0, 80, "tcp")},
		"[::1]:8080:80":             {port("::1", 8080, 8080, 80, "tcp")},
		"0.0.0.0:8080:80":           {port("0.0.0.0", 8080, 8080, 80, "tcp")},
		"8000-8010:80":              {port("", 8000, 8010, 80, "tcp")},
		"8000-8001:80-81":           {port("", 8000, 8000, 80, "tcp"), port("", 8001, 8001, 81, "tcp")},
		"80-81":                     {port("", 0, 0, 80, "tcp"), port("", 0, 0, 81, "tcp")},
		"target=80,published=8080":  {port("", 8080, 8080, 80, "tcp")},
		"target=53,protocol=udp":    {port("", 0, 0, 53, "udp")},
		"target=80,host_ip=::1":     {port("::1", 0, 0, 80, "tcp")},
		"65535:65535,":              nil,
		"0:80":                      {port("", 0, 0, 80, "tcp")},
		"127.0.0.1:0:80":            {port("127.0.0.1", 0, 0, 80, "tcp")},
		"80:0":                      nil,
		"80/icmp":                   nil,
		"8000-8002:80-81":           nil,
		"81-80":                     nil,
		"65536":                     nil,
		"":                          nil,
		":":                         nil,
		"nowhere:1:2":               nil,
		"fe80::1%eth0:1:2":          nil,
		"target=80,mode=ingress":    nil,
		"target=80,colour=blue":     nil,
		"published=80":              nil,
		"1:2:3:4":                   nil,
		"8080:80/tcp/udp":           nil,
		"-1:80":                     nil,
		"8080: 80":                  nil,
		"target=80,published=80-90": {port("", 80, 90, 80, "tcp")},
	} {
		got, err := ParsePorts(text)
		if (err == nil) != (want != nil) || want != nil && !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %v, error %v; want %v", text, got, err, want)
		}
	}
}

func TestPortsOfImage(t *testing.T) {
	c := Config{PublishAll: true, Expose: []string{"70/tcp"}, Ports: []Port{{HostPort: 8080, HostEnd: 8080, Port: 80, Protocol: "tcp"}}}
	got, err := Ports(c, map[string]struct{}{"80/tcp": {}, "53/udp": {}, "70": {}})
	if err != nil {
		t.Fatal(err)
	}
	want := []Port{c.Ports[0], {Port: 53, Protocol: "udp"}, {Port: 70, Protocol: "tcp"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if _, err := Ports(c, map[string]struct{}{"no port": {}}); err == nil {
		t.Error("an image that exposes what is no port is taken")
	}
}

func TestParsePlug(t *testing.T) {
	for text, want := range map[string]Plug{
		"front": {Network: "front"},
		"name=front,ip=10.0.0.2,ip6=fd00::2,mac-address=02:00:00:00:00:01,interface=web0": {Network: "front", IPv4: "10.0.0.2", IPv6: "fd00::2",
			MAC: "02:00:00:00:00:01", Interface: "web0"},
		"name=front,alias=Web,alias=web.example":  {Network: "front", Aliases: []string{"web", "web.example"}},
		"front:ip6=fd00::2,alias=web,ip=10.0.0.2": {Network: "front", IPv4: "10.0.0.2", IPv6: "fd00::2", Aliases: []string{"web"}},
		"name=front,gw-priority=-7":               {Network: "front", Priority: -7},
		"ns:/run/a=b":                             {Network: "ns:/run/a=b"},
	} {
		if got, err := ParsePlug(text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v, error %v", text, got, err)
		}
	}
	for text, why := range map[string]string{
		"ip=10.0.0.2":                          "no name=NETWORK",
		"name=n,ip=fd00::1":                    "not an IPv4 address",
		"name=n,ip6=10.0.0.1":                  "not an IPv6 address",
		"name=n,ip6=::ffff:10.0.0.1":           "not an IPv6 address",
		"name=n,mac-address=01:0:0":            "Ethernet",
		"name=n,mac-address=ff-ff-ff-ff-ff-ff": "Ethernet",
		"name=n,interface=lo":                  "no name for a network device",
		"name=n,interface=a/b":                 "no name for a network device",
		"name=n,gw-priority=high":              "no whole number",
		"name=n,colour=blue":                   "unknown key",
		"name=n,alias=":                        "no name that others could ask for",
		"n:alias=a b":                          "no name that others could ask for",
	} {
		if _, err := ParsePlug(text); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: error %v; want %q", text, err, why)
		}
	}
}

func TestNetworksThatContradict(t *testing.T) {
	web := []Port{{Port: 80, Protocol: "tcp"}}
	for name, tc := range map[string]struct {
		c    Config
		m    Machine
		want string
	}{
		"a port without a network": {c: Config{Ports: web}, want: "-p cannot be used with --network none"},
		"the host's ports":         {c: Config{Ports: web, Namespaces: Namespaces{Network: "host"}}, want: "-p cannot be used with --network host"},
		"twice":                    {c: Config{Networks: []Plug{{Network: "a"}, {Network: "a"}}}, want: "given twice"},
		"a network and none":       {c: Config{Networks: []Plug{{Network: "a"}, {Network: "none"}}}, want: "--network none cannot be used with another"},
		"none and a network":       {c: Config{Networks: []Plug{{Network: "host"}, {Network: "a"}}}, want: "--network host cannot be used with another"},
		"whose":                    {c: Config{Namespaces: Namespaces{Network: "container:"}}, want: "whose?"},
		"a relative path":          {c: Config{Namespaces: Namespaces{Network: "ns:x"}}, want: "not an absolute path"},
		"an ordinary user":         {c: Config{Networks: []Plug{{Network: "cni:a"}}}, m: Machine{Rootless: true}, want: "networks of his own"},
		"a sysctl of another's":    {c: Config{Namespaces: Namespaces{Network: "container:x"}, Sysctls: map[string]string{"net.ipv4.ip_forward": "1"}}, want: "it would change"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.c.Image = "i"
			if tc.m.Rootless {
				tc.m.UIDMap, tc.m.GIDMap = []specs.LinuxIDMapping{{Size: 1}}, []specs.LinuxIDMapping{{Size: 1}}
			}
			err := Validate(Defaults(tc.c, tc.m), tc.m)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v; want %q", err, tc.want)
			}
		})
	}
	c := Defaults(Config{Image: "i", Networks: []Plug{{Network: "a"}, {Network: "b"}}, Ports: web}, Machine{})
	if err := Validate(c, Machine{}); err != nil || c.Namespaces.Network != "a" {
		t.Errorf("network %q, error %v", c.Namespaces.Network, err)
	}
}
