package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/network/cni"
	"github.com/containr/containr/pkg/network/policy"
	"github.com/containr/containr/pkg/networks"
	"github.com/containr/containr/pkg/plan/linux"
)

func (p *Program) networkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "network COMMAND",
		Short:   "Make and remove networks, and connect containers with them",
		GroupID: groupSystem,
		Long: "Make and remove networks, and connect containers with them.\n\n" +
			"Containers in a network reach each other and, unless it is internal, other machines. Networks are kept apart.\n" +
			"The network " + networks.Default + " (--network bridge) is made when it is first used: by a container that names none, too.\n\n" +
			"An ordinary user has networks, too, of the driver bridge: they are in a network namespace of his own, and nothing of\n" +
			"them is seen on the host. Published ports of 1024 and above are the host's. A container that names none is in none of them.",
		Args: cobra.ArbitraryArgs,
		RunE: groupOfCommands,
	}
	cmd.AddCommand(p.networkHoldCommand(), p.networkCreateCommand(), p.networkListCommand(), p.networkInspectCommand(), p.networkRemoveCommand(),
		p.networkPruneCommand(), p.networkReloadCommand(), p.networkDoctorCommand(), p.networkCheckCommand(), p.networkConnectCommand(), p.networkDisconnectCommand(),
		p.networkPolicyCommand())
	return cmd
}

// networkFlags are those of network create.
type networkFlags struct {
	subnets, gateways, ranges []netip.Prefix
	ipv6, icc                 bool
	network                   networks.Network
	policies                  []policy.Policy
}

// Options of networks that docker has, and their keys.
const (
	optionName    = "com.docker.network.bridge.name"
	optionICC     = "com.docker.network.bridge.enable_icc"
	optionMasked  = "com.docker.network.bridge.enable_ip_masquerade"
	optionMTU     = "com.docker.network.driver.mtu"
	optionMTUWord = "mtu"

	optionParent      = "parent"
	optionMode        = "mode"
	optionMACVLANMode = "macvlan_mode"
	optionIPVLANMode  = "ipvlan_mode"
	optionIPVLANFlag  = "ipvlan_flag"
	optionAddresses   = "addresses"
)

// networkOptions are those of all drivers.
var networkOptions = []string{optionMTU, optionAddresses, optionName, optionICC, optionMasked, optionParent, optionMACVLANMode, optionIPVLANMode, optionIPVLANFlag}

func (p *Program) networkCreateCommand() *cobra.Command {
	f := &networkFlags{}
	f.network.Labels, f.network.Options = map[string]string{}, map[string]string{}
	cmd := &cobra.Command{
		Use:   "create [FLAGS] NETWORK",
		Short: "Make a network",
		Long: "Make a network. It has a subnet of version 4 of IP and, unless --ipv6=false is given, one of version 6; without\n" +
			"--subnet ranges are chosen that nobody has here.",
		Args:                  exactArgs(1),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.network.Name = args[0]
			req, err := f.request()
			if err != nil {
				return err
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			n, err := e.CreateNetwork(cmd.Context(), req)
			for _, one := range f.policies {
				if err == nil {
					if _, err = e.PutPolicy(cmd.Context(), n.ID, one); err != nil {
						_, undo := e.RemoveNetwork(cmd.Context(), n.ID)
						err = errors.Join(err, undo)
					}
				}
			}
			if err == nil {
				_, err = fmt.Fprintln(p.Out, n.ID)
			}
			return err
		},
	}
	set := cmd.Flags()
	b := binder{set, ""}
	set.StringVarP(&f.network.Driver, "driver", "d", networks.DriverBridge, "the kind of network: bridge, macvlan, ipvlan")
	b.value("subnet", "", "the addresses `PREFIX`, such as 10.1.0.0/24; one of each version of IP", add(&f.subnets, parsePrefix))
	b.value("gateway", "", "the host's `ADDRESS` there; else the first", add(&f.gateways, parseAddress))
	b.value("ip-range", "", "give containers addresses of `PREFIX`, a part of the subnet", add(&f.ranges, parsePrefix))
	set.BoolVar(&f.ipv6, "ipv6", true, "give it a subnet of version 6, too")
	set.BoolVar(&f.icc, "icc", true, "let its containers reach each other; else they reach the host and other machines only")
	set.BoolVar(&f.network.NoNames, "disable-dns", false, "do not answer for the names of its containers")
	set.BoolVar(&f.network.Internal, "internal", false, "let nothing leave it or come in")
	b.value("policy", "", "give it the policy in `FILE`: who may talk to whom", add(&f.policies, readPolicy))
	b.value("ipam-driver", "", "who chooses addresses: default is containr, and the only `NAME` that there is", checkIPAM)
	b.value("label", "", "note `KEY[=VALUE]` on it", enter(f.network.Labels, container.ParseLabel))
	b.value("opt", "o", "an `OPTION=VALUE` of the driver: "+strings.Join(networkOptions, ", "),
		enter(f.network.Options, container.ParseLabel))
	return cmd
}

// checkIPAM refuses whoever else may choose addresses elsewhere.
func checkIPAM(name string) error {
	switch name {
	case "default":
		return nil
	case "dhcp":
		return errors.New("addresses by DHCP come from the CNI plugin of that name: use a file with \"ipam\": {\"type\": \"dhcp\"}, and --network cni:NAME at run")
	}
	return errors.New("use default; others choose addresses in networks of CNI plugins, --network cni:NAME")
}

func parseAddress(s string) (netip.Prefix, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not an address", s)
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return prefix, fmt.Errorf("%q is no range of addresses, such as 10.1.0.0/24", s)
	}
	return prefix, nil
}

// request puts the flags together.
func (f *networkFlags) request() (engine.NetworkRequest, error) {
	n := f.network
	if err := networks.ValidateName(n.Name); err != nil {
		return engine.NetworkRequest{}, &usageError{text: err.Error(), err: err}
	}
	if !slices.Contains([]string{networks.DriverBridge, networks.DriverMACVLAN, networks.DriverIPVLAN}, n.Driver) {
		return engine.NetworkRequest{}, usageErrorf("network create: driver %s: there are bridge, macvlan, ipvlan", n.Driver)
	}
	for _, prefix := range f.subnets {
		if prefix != prefix.Masked() {
			return engine.NetworkRequest{}, &usageError{text: fmt.Sprintf("network create: subnet %s: bits behind its length are set", prefix),
				hint: fmt.Sprintf("--subnet %s has that address in it; --gateway %s makes it the host's", prefix.Masked(), prefix.Addr())}
		}
		n.Subnets = append(n.Subnets, networks.Subnet{Prefix: prefix})
	}
	for _, g := range f.gateways {
		i := slices.IndexFunc(n.Subnets, func(s networks.Subnet) bool { return s.Prefix.Contains(g.Addr()) })
		if i < 0 {
			return engine.NetworkRequest{}, usageErrorf("network create: gateway %s: it is in no --subnet", g.Addr())
		}
		n.Subnets[i].Gateway = g.Addr()
	}
	for _, r := range f.ranges {
		i := slices.IndexFunc(n.Subnets, func(s networks.Subnet) bool { return s.Prefix.Contains(r.Addr()) })
		if i < 0 {
			return engine.NetworkRequest{}, usageErrorf("network create: address range %s: it is in no --subnet", r)
		}
		n.Subnets[i].Range = r.Masked()
	}
	for _, six := range []bool{false, true} {
		count := 0
		for _, s := range n.Subnets {
			if s.Prefix.Addr().Is6() == six {
				count++
			}
		}
		if count > 1 {
			return engine.NetworkRequest{}, usageErrorf("network create: a network has one subnet of each version of IP, and %d are given", count)
		}
	}
	if n.Driver != networks.DriverBridge {
		n.Mode = linux.SubLinkModes[n.Driver][0].Word
	}
	err := readOptions(&n)
	if err == nil && !f.icc && n.Driver != networks.DriverBridge {
		err = usageErrorf("network create: --icc=false is for networks of the driver bridge: a %s is kept apart by its mode or flag, private", n.Driver)
	}
	n.Isolated = n.Isolated || !f.icc
	return engine.NetworkRequest{Network: n, NoIPv6: !f.ipv6}, err
}

// readOptions gives the driver's options their meaning.
func readOptions(n *networks.Network) error {
	for key, value := range n.Options {
		var err error
		var yes bool
		switch key {
		case optionMTU, optionMTUWord:
			n.MTU, err = strconv.Atoi(value)
			if err == nil && (n.MTU < 1280 || n.MTU > 65535) {
				err = errors.New("use 1280 to 65535")
			}
		case optionName:
			n.Bridge = value
			if value == "" || len(value) > 15 || strings.ContainsAny(value, "/ :%\t\n") || value == "." || value == ".." {
				err = errors.New("it is no name for a network device")
			}
		case optionICC:
			yes, err = strconv.ParseBool(value)
			n.Isolated = !yes
		case optionMasked:
			yes, err = strconv.ParseBool(value)
			n.Unmasked = !yes
		case optionAddresses:
			n.Random = value == "random"
			if value != "random" && value != "lowest" {
				err = errors.New("use lowest or random")
			}
		case optionParent, optionMode, optionMACVLANMode, optionIPVLANMode, optionIPVLANFlag:
			err = readShare(n, key, value)
		default:
			err = fmt.Errorf("options are %s", strings.Join(networkOptions, ", "))
		}
		if err != nil {
			return usageErrorf("network create: option %s=%s: %v", key, value, inWords(err))
		}
	}
	return nil
}

// readShare reads an option of macvlan or ipvlan.
func readShare(n *networks.Network, key, value string) error {
	modes := linux.SubLinkModes[n.Driver]
	switch {
	case n.Driver == networks.DriverBridge:
		return errors.New("it is one of the drivers macvlan and ipvlan")
	case key == optionParent:
		if value == "" || len(value) > 15 || strings.ContainsAny(value, "/ :%\t\n") {
			return errors.New("it is no name for a network device")
		}
		n.Parent = value
		return nil
	case key != optionMode && !strings.HasPrefix(key, n.Driver):
		return fmt.Errorf("it is no option of driver %s", n.Driver)
	case key == optionIPVLANFlag:
		modes, n.Flag = linux.SubLinkModes["flag"], value
	default:
		n.Mode = value
	}
	var words []string
	for _, m := range modes {
		words = append(words, m.Word)
	}
	if !slices.Contains(words, value) {
		return fmt.Errorf("use %s", strings.Join(words, ", "))
	}
	return nil
}

// networkRow is a line of network ls, and what a template may name.
type networkRow struct {
	ID, Name, Driver, Scope, Labels, CreatedAt, IPv6, Internal string
	// Backend is who makes it: builtin, cni or netavark.
	Backend string
	// Containers and NetIO are there with --traffic.
	Containers, NetIO string
	labels            map[string]string
}

// Label is the value of a label.
func (r networkRow) Label(name string) string { return r.labels[name] }

var networkFilters = []string{"driver", "id", "label", "name"}

func (p *Program) networkListCommand() *cobra.Command {
	var filters []string
	var format string
	var quiet, full, traffic bool
	cmd := &cobra.Command{
		Use: "ls [FLAGS]", Aliases: []string{"list"}, Short: "List networks",
		Long: "List networks. --traffic counts, of each, the containers in it that run, and what these have received and sent there since they\n" +
			"were put into it, as NET I/O. Where one is made by netavark, a column says who makes each; in templates that is {{.Backend}}:\n" +
			"builtin, cni or netavark.",
		Example: "  containr network ls --traffic\n  containr network ls --filter driver=bridge --format '{{.Name}}'",
		Args:    exactArgs(0), DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := present.ParseFilters(filters, networkFilters...)
			if err != nil {
				return err
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			named, err := f.Matching("name")
			if err != nil {
				return err
			}
			list, err := e.Networks()
			if err != nil {
				return err
			}
			rows := []networkRow{}
			for _, n := range list {
				if f.Exactly("driver", n.Driver) && f.Labels("label", n.Labels) &&
					f.Any("id", func(v string) bool { return strings.HasPrefix(n.ID, v) }) &&
					named(n.Name) {
					rows = append(rows, rowOfNetwork(n, full))
				}
			}
			plugins, err := pluginNetworks(cmd.Context(), e)
			if err != nil {
				return err
			}
			for _, n := range plugins {
				if f.Exactly("driver", n.Driver) && f.Labels("label", n.Labels) &&
					f.Any("id", func(v string) bool { return strings.HasPrefix(n.ID, v) }) &&
					named(n.Name) {
					rows = append(rows, rowOfPlugins(n, full))
				}
			}
			if quiet && format == "" {
				for _, r := range rows {
					fmt.Fprintln(p.Out, r.ID)
				}
				return nil
			}
			columns := []present.Column{{Field: "ID", Title: "NETWORK ID"}, {Field: "Name", Title: "NAME"}, {Field: "Driver", Title: "DRIVER"}, {Field: "Scope", Title: "SCOPE"}}
			if slices.ContainsFunc(rows, func(r networkRow) bool { return r.Backend == engine.BackendNetavark }) { // else the driver tells
				columns = append(columns, present.Column{Field: "Backend", Title: "BACKEND"})
			}
			if traffic {
				columns = append(columns, present.Column{Field: "Containers", Title: "CONTAINERS"}, present.Column{Field: "NetIO", Title: "NET I/O"})
				totals, err := e.NetworkTotals(cmd.Context())
				if err != nil {
					return err
				}
				for i := range rows {
					t := totals[rows[i].Name]
					rows[i].Containers, rows[i].NetIO = strconv.Itoa(t.Containers), netIO(t.NetworkUsage)
				}
			}
			return present.Rows(p.text(), present.List{Format: format, Columns: columns}, rows)
		},
	}
	set := cmd.Flags()
	set.StringArrayVarP(&filters, "filter", "f", nil, "only those with `KEY=VALUE`: "+strings.Join(networkFilters, ", "))
	set.StringVar(&format, "format", "", "print as table, 'table `TEMPLATE`', json or TEMPLATE (Go's)")
	set.BoolVar(&full, "no-trunc", false, "print whole ids")
	set.BoolVarP(&quiet, "quiet", "q", false, "print ids alone")
	set.BoolVar(&traffic, "traffic", false, "count containers that run, and what they have received and sent")
	return cmd
}

func rowOfNetwork(n networks.Network, full bool) networkRow {
	r := networkRow{ID: present.ID(n.ID, full), Name: n.Name, Driver: n.Driver, Scope: "local", CreatedAt: present.At(n.Created),
		IPv6: strconv.FormatBool(hasIPv6(n)), Internal: strconv.FormatBool(n.Internal), Backend: cmp.Or(n.Backend, engine.BackendBuiltin), labels: n.Labels}
	var labels []string
	for key, value := range n.Labels {
		labels = append(labels, key+"="+value)
	}
	slices.Sort(labels)
	r.Labels = strings.Join(labels, ",")
	return r
}

func hasIPv6(n networks.Network) bool {
	return slices.ContainsFunc(n.Subnets, func(s networks.Subnet) bool { return s.Prefix.Addr().Is6() })
}

// inspectedNetwork is a network in docker's form.
type inspectedNetwork struct {
	Name       string
	ID         string `json:"Id"`
	Created    string
	Scope      string
	Driver     string
	EnableIPv4 bool
	EnableIPv6 bool
	IPAM       struct {
		Driver  string
		Options map[string]string
		Config  []inspectedSubnet
	}
	Internal   bool
	Attachable bool
	Ingress    bool
	Containers map[string]inspectedPlug
	Options    map[string]string
	Labels     map[string]string
	// Bridge is the device on the host.
	Bridge string
	// Backend is the program that makes it, if that is not containr.
	Backend string `json:",omitempty"`
	// CNI is there if plugins make the network.
	CNI *pluginNetwork `json:",omitempty"`
}

type inspectedSubnet struct {
	Subnet  string
	IPRange string `json:",omitempty"`
	Gateway string
}

type inspectedPlug struct {
	Name        string
	EndpointID  string
	MacAddress  string
	IPv4Address string
	IPv6Address string
	// Traffic is there while the container runs.
	Traffic *engine.PlugTraffic `json:",omitempty"`
}

func inspectNetwork(v engine.NetworkView) inspectedNetwork {
	n := v.Network
	out := inspectedNetwork{Name: n.Name, ID: n.ID, Created: n.Created.Format(time.RFC3339Nano), Scope: "local", Driver: n.Driver, EnableIPv4: true,
		EnableIPv6: hasIPv6(n), Internal: n.Internal, Containers: map[string]inspectedPlug{}, Options: n.Options, Labels: n.Labels, Bridge: n.Bridge, Backend: n.Backend}
	out.IPAM.Driver = "default"
	for _, s := range n.Subnets {
		i := inspectedSubnet{Subnet: s.Prefix.String(), Gateway: s.Gateway.String()}
		if s.Range.IsValid() {
			i.IPRange = s.Range.String()
		}
		out.IPAM.Config = append(out.IPAM.Config, i)
	}
	for _, r := range v.Containers {
		for _, endpoint := range r.Endpoints {
			if endpoint.NetworkID != n.ID {
				continue
			}
			out.Containers[r.ID] = plugOf(r.Name, endpoint.Link, endpoint.MAC, endpoint.Prefixes, v.Traffic[r.ID])
		}
		for _, a := range r.Attachments {
			if a.NetworkID == n.ID {
				out.Containers[r.ID] = plugOf(r.Name, a.Interface, a.MAC, a.Addresses, v.Traffic[r.ID])
			}
		}
	}
	return out
}

func plugOf(name, id, mac string, addresses []string, traffic *engine.PlugTraffic) inspectedPlug {
	plug := inspectedPlug{Name: name, EndpointID: id, MacAddress: mac, Traffic: traffic}
	for _, a := range addresses {
		if strings.Contains(a, ":") {
			plug.IPv6Address = a
		} else {
			plug.IPv4Address = a
		}
	}
	return plug
}

func (p *Program) networkInspectCommand() *cobra.Command {
	var format, graph string
	cmd := &cobra.Command{
		Use: "inspect [FLAGS] NETWORK...", Short: "Print all that is known of networks",
		Long: "Print all that is known of networks, as JSON in docker's form, with the containers that are in them and what those that run have\n" +
			"received and sent there, in bytes and packets, and been refused by policies. --graph draws networks: where each leads, its switch\n" +
			"and policies, and at each cable a container with its addresses, published ports and traffic; --graph=dot does so for graphviz.",
		Example: "  containr network inspect front\n" +
			"  containr network inspect --graph front\n" +
			"  containr network inspect --graph=dot front | dot -Tsvg > front.svg",
		Args: minArgs(1), DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("graph") {
				return p.printGraphs(cmd.Context(), e, graph, args)
			}
			found := []inspectedNetwork{}
			var failures []error
			for _, name := range args {
				if strings.HasPrefix(name, container.CNIPrefix) {
					n, err := inspectPluginNetwork(cmd.Context(), e, name)
					if err != nil {
						failures = append(failures, err)
						continue
					}
					found = append(found, n)
					continue
				}
				v, err := e.NetworkView(cmd.Context(), name)
				if errors.Is(err, networks.ErrNotFound) {
					if one, ok := pluginNetworkByID(cmd.Context(), e, name); ok {
						found = append(found, one)
						continue
					}
				}
				if err != nil {
					failures = append(failures, err)
					continue
				}
				found = append(found, inspectNetwork(v))
			}
			if err := present.Documents(p.text(), format, found); err != nil {
				return err
			}
			return errors.Join(failures...)
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "print as json, or by a `TEMPLATE` (Go's)")
	cmd.Flags().StringVar(&graph, "graph", "", "draw the networks, as `FORM` text, or dot, which is --graph=dot")
	cmd.Flags().Lookup("graph").NoOptDefVal = "text"
	cmd.MarkFlagsMutuallyExclusive("format", "graph")
	return cmd
}

func (p *Program) networkRemoveCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "rm [FLAGS] NETWORK...", Aliases: []string{"remove"}, Short: "Remove networks",
		Long: "Remove networks that no container is in, whether it runs or not. With the last one everything goes that\n" +
			"networks have changed on the host.",
		Args: minArgs(1), DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			var failures []error
			for _, name := range args {
				n, err := e.RemoveNetwork(cmd.Context(), name)
				if force && (errors.Is(err, networks.ErrNotFound) || errors.Is(err, cni.ErrNotFound)) {
					continue
				}
				if err != nil {
					failures = append(failures, err)
					continue
				}
				fmt.Fprintln(p.Out, n.Name)
			}
			return errors.Join(failures...)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "do not complain about one that is not there")
	return cmd
}

func (p *Program) networkPruneCommand() *cobra.Command {
	var force bool
	var filters []string
	cmd := &cobra.Command{
		Use: "prune [FLAGS]", Short: "Remove the networks that no container is in",
		Long: "Remove the networks that no container is in, but for " + networks.Default + ".",
		Args: exactArgs(0), DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			doomed, err := prunableNetworks(filters)
			if err != nil {
				return err
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			if err := p.confirm(cmd.Context(), "prune", "all networks that no container is in", force); err != nil {
				return err
			}
			gone, err := e.PruneNetworks(cmd.Context(), doomed)
			for i, n := range gone {
				if i == 0 {
					fmt.Fprintln(p.Out, "Deleted Networks:")
				}
				fmt.Fprintln(p.Out, n.Name)
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	cmd.Flags().StringArrayVar(&filters, "filter", nil, "only those with `KEY=VALUE`: label, label!, until")
	return cmd
}

// prunableNetworks makes a predicate of the filters of prune.
func prunableNetworks(filters []string) (func(networks.Network) bool, error) {
	f, err := present.ParseFilters(filters, "label", "label!", "until")
	if err != nil {
		return nil, err
	}
	until, err := f.Until("until", time.Now())
	return func(n networks.Network) bool {
		return f.Labels("label", n.Labels) && f.NoLabels("label!", n.Labels) && (until.IsZero() || n.Created.Before(until))
	}, err
}

func (p *Program) networkReloadCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "reload [FLAGS] [CONTAINER...]", Short: "Make rules of running containers again",
		Long: "Make the rules of the packet filter again that networks and published ports of running containers need, after\n" +
			"somebody has thrown away all of the host's, as nft flush ruleset does. What is there stays. What plugins of CNI or\n" +
			"netavark have made is theirs: `containr restart` has them make it anew.",
		Args: cobra.ArbitraryArgs, DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return usageErrorf("network reload: name containers, or give --all")
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			if all {
				if args, err = e.RunningIDs(); err != nil {
					return err
				}
			}
			var failures []error
			for _, name := range args {
				record, err := e.ReloadNetwork(cmd.Context(), name)
				if all && errors.Is(err, engine.ErrNothingToReload) && len(record.Attachments) == 0 {
					continue
				}
				if err != nil {
					failures = append(failures, err)
					continue
				}
				fmt.Fprintln(p.Out, record.ID)
			}
			return errors.Join(failures...)
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "those of all containers that run")
	return cmd
}

func (p *Program) networkConnectCommand() *cobra.Command {
	var plug container.Plug
	cmd := p.connection("connect [FLAGS] NETWORK CONTAINER", "Connect a container with a network",
		"Connect a container with a network: at once if it runs, and whenever it is started.",
		func(ctx context.Context, e *engine.Engine, r engine.ConnectRequest) error {
			plug.Network = r.Plug.Network
			r.Plug = plug
			return e.Connect(ctx, r)
		})
	b := binder{cmd.Flags(), ""}
	b.value("ip", "", "its `ADDRESS` there", put(&plug.IPv4, container.ParseIPv4))
	b.value("ip6", "", "its IPv6 `ADDRESS` there", put(&plug.IPv6, container.ParseIPv6))
	b.value("mac-address", "", "the hardware `ADDRESS` of its device there", put(&plug.MAC, container.ParseMAC))
	b.value("interface", "", "call its device there `NAME`, and not eth1 and so on", put(&plug.Interface, container.ParseInterface))
	b.value("gw-priority", "", "of its networks, the one with the highest `NUMBER` is the way to everywhere else; 0 if it is not given, and the first of those that are equal",
		put(&plug.Priority, container.ParsePriority))
	b.value("alias", "", "let others there find it by `NAME`, too", add(&plug.Aliases, container.ParseAlias))
	return cmd
}

func (p *Program) networkDisconnectCommand() *cobra.Command {
	return p.connection("disconnect NETWORK CONTAINER", "Take a container out of a network", "Take a container out of a network, at once.",
		func(ctx context.Context, e *engine.Engine, r engine.ConnectRequest) error {
			return e.Disconnect(ctx, r)
		})
}

// connection makes a command about a network and a container.
func (p *Program) connection(use, short, long string, do func(context.Context, *engine.Engine, engine.ConnectRequest) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Long: long, Args: exactArgs(2), DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			return do(cmd.Context(), e, engine.ConnectRequest{Container: args[1], Plug: container.Plug{Network: args[0]}})
		}}
}

// networkHoldCommand is what containr executes in the hub of an ordinary user's networks.
func (p *Program) networkHoldCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "hold RUNDIR MONITOR",
		Short:  "Hold the networks of an ordinary user",
		Hidden: true,
		Long: "Hold the networks of an ordinary user, in a network namespace of his own, and change them as other\n" +
			"commands ask. This is done by itself; the command is there to be called by containr, and ends when no container\n" +
			"has been in one of these networks for three seconds.",
		Args:                  exactArgs(2),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return engine.HoldNetworks(cmd.Context(), args[0], args[1], p.In)
		},
	}
}
