package cni

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"

	"github.com/containr/containr/internal/shellword"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// Port is a port of the host that is to lead to one of the container's, in the words of the capability portMappings.
type Port struct {
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP,omitempty"`
}

// Bandwidth is the capability of that name: rates in bits per second, bursts in bits.
type Bandwidth struct {
	IngressRate  uint64 `json:"ingressRate,omitempty"`
	IngressBurst uint64 `json:"ingressBurst,omitempty"`
	EgressRate   uint64 `json:"egressRate,omitempty"`
	EgressBurst  uint64 `json:"egressBurst,omitempty"`
}

// DNS is the capability dns: who is to be asked for names, in which domains, and how.
type DNS struct {
	Servers  []string `json:"servers,omitempty"`
	Searches []string `json:"searches,omitempty"`
	Options  []string `json:"options,omitempty"`
}

// Request is what a container asks of a network.
type Request struct {
	Network Network
	// Container is its id, Interface the name of its device.
	Container, Interface string
	// Addresses and MAC are those that it is to have, or empty.
	Addresses []netip.Prefix
	MAC       string
	Aliases   []string
	Ports     []Port
	Bandwidth Bandwidth
	// Args are further arguments for the plugins, as pairs of a key and a value.
	Args [][2]string
	// Bin are the directories where its programs are, if not those of Place.
	Bin []string
}

// Place is where a container's namespace, and what is known of it, are kept.
type Place struct {
	// Netns is the name of its network namespace; beside it are the locks.
	Netns string
	// Cache is the directory of results.
	Cache string
	// Bin are the directories of plugins.
	Bin []string
	// Hosts is the container's file of names, in which its addresses get the name Hostname; empty if it has none of its own.
	Hosts, Hostname string
	// ResolvConf is its file of name servers, which says ResolvText unless plugins name others; empty if they are not to.
	ResolvConf, ResolvText string
	// DNS is what the container was told to ask for names.
	DNS DNS
}

// Attachment is all that plugins are told to connect a container with one network, and to disconnect it.
type Attachment struct {
	Container    string         `json:"container"`
	Netns        string         `json:"netns"`
	Interface    string         `json:"interface"`
	Bin          []string       `json:"bin"`
	Cache        string         `json:"cache"`
	Args         [][2]string    `json:"args,omitempty"`
	Capabilities map[string]any `json:"capabilities,omitempty"`
	// Addresses and MAC are what the result must have.
	Addresses []string `json:"addresses,omitempty"`
	MAC       string   `json:"mac,omitempty"`
	// Hosts is the file in which the addresses get the name Hostname. In that of the First network former ones go.
	Hosts    string `json:"hosts,omitempty"`
	Hostname string `json:"hostname,omitempty"`
	First    bool   `json:"first,omitempty"`
	// ResolvConf is the file that gets the name servers of the first network that has any, in place of those in ResolvText.
	ResolvConf string `json:"resolvConf,omitempty"`
	ResolvText string `json:"resolvText,omitempty"`
	// Config is the network's list of plugins.
	Config json.RawMessage `json:"config"`
	// Netavark is what netavark is told, if it makes the network and not plugins.
	Netavark json.RawMessage `json:"netavark,omitempty"`

	// File is where that was read.
	File string `json:"file,omitempty"`

	list *libcni.NetworkConfigList
	// within is how long plugins may take, if that is not the usual time.
	within time.Duration
}

// attach puts a request into the words of the interface.
func (r Request) attach(at Place) (Attachment, error) {
	a := Attachment{Container: r.Container, Netns: at.Netns, Interface: r.Interface, Bin: at.Bin, Cache: at.Cache, MAC: r.MAC,
		Args: append([][2]string{{"IgnoreUnknown", "1"}}, r.Args...), Capabilities: map[string]any{}, Config: r.Network.List.Bytes, File: r.Network.File, list: r.Network.List}
	missing := func(what, capability string) error {
		return fmt.Errorf("network %s%s: %s: no plugin of %s says that it has the capability %s: %w", Prefix, r.Network.List.Name, what, r.Network.File, capability, ErrNoCapability)
	}
	for _, p := range r.Addresses {
		a.Addresses = append(a.Addresses, p.Addr().String())
	}
	if r.Bin != nil {
		a.Bin = r.Bin
	}
	if r.Network.Netavark != nil {
		return r.attachNetavark(a)
	}
	switch {
	case len(r.Addresses) == 0:
	case r.Network.Has("ips"):
		a.Capabilities["ips"] = a.Addresses
	default: // the older way, which has no prefix either
		a.Args = append(a.Args, [2]string{"IP", a.Addresses[0]})
	}
	switch {
	case r.MAC == "":
	case r.Network.Has("mac"):
		a.Capabilities["mac"] = r.MAC
	default:
		a.Args = append(a.Args, [2]string{"MAC", r.MAC})
	}
	if len(r.Aliases) > 0 {
		if !r.Network.Has("aliases") {
			return a, missing("name "+r.Aliases[0], "aliases")
		}
		a.Capabilities["aliases"] = map[string][]string{r.Network.List.Name: r.Aliases}
	}
	if len(r.Ports) > 0 {
		if !r.Network.Has("portMappings") {
			return a, missing("port "+strconv.Itoa(r.Ports[0].HostPort)+"/"+r.Ports[0].Protocol, "portMappings")
		}
		a.Capabilities["portMappings"] = r.Ports
	}
	if r.Bandwidth != (Bandwidth{}) {
		if !r.Network.Has("bandwidth") {
			return a, missing("a limit of bandwidth", "bandwidth")
		}
		a.Capabilities["bandwidth"] = r.Bandwidth
	}
	if d := at.DNS; len(d.Servers)+len(d.Searches)+len(d.Options) > 0 && r.Network.Has("dns") {
		a.Capabilities["dns"] = d
	}
	return a, a.checkNames()
}

// title names the network to who reads of it.
func (a Attachment) title() string {
	if own, ok := strings.CutPrefix(a.list.Name, netavarkPrefix); ok && a.Netavark != nil {
		return "network " + own
	}
	return "network " + Prefix + a.list.Name
}

// Connect plans what connects the container whose process is in pid with networks, in their order.
func Connect(pid plan.Reg, at Place, requests []Request) ([]plan.Step, error) {
	if len(requests) == 0 {
		return nil, nil
	}
	b := plan.Build(plan.Host, plan.NetworkChapter)
	b.Do("plugins find the container's network by a name, also when it has ended", linux.PinNamespace{PID: pid, Path: at.Netns}).
		Reverse(linux.UnpinNamespace{Path: at.Netns})
	for i, r := range requests {
		a, err := r.attach(at)
		if err != nil {
			return nil, err
		}
		a.Hosts, a.Hostname, a.First = at.Hosts, at.Hostname, i == 0
		a.ResolvConf, a.ResolvText = at.ResolvConf, at.ResolvText
		text, err := json.Marshal(a)
		if err != nil {
			return nil, err
		}
		var names []string
		for _, p := range a.list.Plugins {
			names = append(names, p.Network.Type)
		}
		what := fmt.Sprintf("network %s of %s, by %s", a.list.Name, r.Network.File, strings.Join(names, ", "))
		if a.Netavark != nil {
			what = a.title() + ", by netavark"
		}
		b.Do(what,
			linux.CNI{Command: a.commands("ADD"), Attachment: string(text)}).
			Reverse(linux.CNIDelete{Command: a.commands("DEL"), Attachment: string(text)})
	}
	for i := range b.Steps {
		b.Steps[i].Early()
	}
	return b.Steps, nil
}

// commands is how a shell would call the plugins.
func (a Attachment) commands(verb string) string {
	if a.Netavark != nil {
		return a.netavarkCommand(map[string]string{"ADD": "setup", "DEL": "teardown"}[verb])
	}
	plugins := slices.Clone(a.list.Plugins)
	if verb == "DEL" {
		slices.Reverse(plugins)
	}
	var lines []string
	for i, p := range plugins {
		config := map[string]any{}
		_ = json.Unmarshal(p.Bytes, &config) // libcni has read it
		config["name"], config["cniVersion"] = a.list.Name, a.list.CNIVersion
		if told := a.toldTo(p); len(told) > 0 {
			config["runtimeConfig"] = told
		}
		text, _ := json.Marshal(config) // it was JSON
		in := shellword.Quote(string(text))
		if verb == "DEL" || i > 0 {
			in = strings.TrimSuffix(in, "}'") + `,"prevResult":'"$result"'}'`
		}
		call := "printf %s " + in + " | " + a.environment(verb) + " " + shellword.Quote(p.Network.Type)
		if verb == "ADD" {
			call = "result=$(" + call + ")"
		}
		lines = append(lines, call)
	}
	return strings.Join(lines, " && ")
}

// toldTo are the capability arguments of a plugin.
func (a Attachment) toldTo(p *libcni.PluginConfig) map[string]any {
	told := maps.Clone(a.Capabilities)
	maps.DeleteFunc(told, func(name string, _ any) bool { return !p.Network.Capabilities[name] })
	return told
}

// environment is how a plugin is told what to do: as assignments, and PATH has it found.
func (a Attachment) environment(verb string) string {
	var args []string
	for _, p := range a.Args {
		args = append(args, p[0]+"="+p[1])
	}
	path := shellword.Quote(strings.Join(a.Bin, ":"))
	return "PATH=" + path + ":$PATH CNI_COMMAND=" + verb + " CNI_CONTAINERID=" + shellword.Quote(a.Container) + " CNI_NETNS=" + shellword.Quote(a.Netns) +
		" CNI_IFNAME=" + shellword.Quote(a.Interface) + " CNI_ARGS=" + shellword.Quote(strings.Join(args, ";")) + " CNI_PATH=" + path
}
