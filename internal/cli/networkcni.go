package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/engine"
)

// driverCNI is the driver of networks that plugins make.
const driverCNI = "cni"

// pluginNetwork is what there is to say about a network of plugins beside what there is about others.
type pluginNetwork struct {
	File       string
	CNIVersion string
	Plugins    []string
	Config     json.RawMessage
	// Results are what the plugins said last of each container, by its id and interface.
	Results map[string]json.RawMessage
}

// networkID stands in for the id that a network of plugins has not.
func networkID(name string) string {
	sum := sha256.Sum256([]byte(container.CNIPrefix + name))
	return hex.EncodeToString(sum[:])
}

// pluginNetworks are the networks of plugins in docker's form. A file that is none is no error for who asks for the others.
func pluginNetworks(ctx context.Context, e *engine.Engine) ([]inspectedNetwork, error) {
	list, err := e.CNINetworks()
	if err != nil {
		slog.Warn("a file of a CNI network is left out", "error", err)
	}
	names, err := namesByID(ctx, e)
	if err != nil {
		return nil, err
	}
	var out []inspectedNetwork
	for _, n := range list {
		one, err := inspectPlugins(n, names, nil)
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}

func inspectPlugins(n engine.CNINetwork, names map[string]string, traffic map[string]*engine.PlugTraffic) (inspectedNetwork, error) {
	list := n.Network.List
	out := inspectedNetwork{Name: container.CNIPrefix + list.Name, ID: networkID(list.Name), Scope: "local", Driver: driverCNI, EnableIPv4: true,
		Containers: map[string]inspectedPlug{}, Options: map[string]string{}, Labels: map[string]string{}}
	if info, err := os.Stat(n.Network.File); err == nil {
		out.Created = info.ModTime().UTC().Format(time.RFC3339Nano)
	}
	out.CNI = &pluginNetwork{File: n.Network.File, CNIVersion: list.CNIVersion, Config: list.Bytes, Results: map[string]json.RawMessage{}}
	for _, p := range list.Plugins {
		out.CNI.Plugins = append(out.CNI.Plugins, p.Network.Type)
	}
	for _, c := range n.Attached {
		plug := inspectedPlug{Name: names[c.Container], EndpointID: c.Interface, MacAddress: c.Status(false).MAC, Traffic: traffic[c.Container]}
		for _, ip := range c.Result.IPs {
			if ip.Address.IP.To4() == nil {
				plug.IPv6Address = ip.Address.String()
			} else {
				plug.IPv4Address = ip.Address.String()
			}
		}
		out.Containers[c.Container] = plug
		result, err := json.Marshal(c.Result)
		if err != nil {
			return out, err
		}
		out.CNI.Results[c.Container+" "+c.Interface] = result
	}
	return out, nil
}

// pluginNetworkByID finds a network of plugins by the beginning of the id that network ls prints; ok is false if there is not
// exactly one.
func pluginNetworkByID(ctx context.Context, e *engine.Engine, id string) (found inspectedNetwork, ok bool) {
	list, _ := e.CNINetworks() // about files that are none nobody asked
	var name string
	for _, n := range list {
		if strings.HasPrefix(networkID(n.Network.List.Name), id) && id != "" {
			ok, name = name == "", n.Network.List.Name
		}
	}
	if ok {
		var err error
		found, err = inspectPluginNetwork(ctx, e, name)
		ok = err == nil
	}
	return found, ok
}

// inspectPluginNetwork finds a network of plugins by its name, with the prefix.
func inspectPluginNetwork(ctx context.Context, e *engine.Engine, name string) (inspectedNetwork, error) {
	n, err := e.CNINetwork(strings.TrimPrefix(name, container.CNIPrefix))
	if err != nil {
		return inspectedNetwork{}, err
	}
	names, err := namesByID(ctx, e)
	if err != nil {
		return inspectedNetwork{}, err
	}
	traffic, err := e.CNITraffic(ctx, n)
	if err != nil {
		return inspectedNetwork{}, err
	}
	return inspectPlugins(n, names, traffic)
}

// namesByID are the names of all containers.
func namesByID(ctx context.Context, e *engine.Engine) (map[string]string, error) {
	list, err := e.List(ctx)
	names := map[string]string{}
	for _, c := range list {
		names[c.ID] = c.Name
	}
	return names, err
}

func rowOfPlugins(n inspectedNetwork, full bool) networkRow {
	return networkRow{ID: present.ID(n.ID, full), Name: n.Name, Driver: n.Driver, Scope: n.Scope, CreatedAt: n.Created, IPv6: "false", Internal: "false", Backend: engine.BackendCNI}
}

func (p *Program) networkCheckCommand() *cobra.Command {
	var collect bool
	cmd := &cobra.Command{
		Use: "check [FLAGS] cni:NETWORK...", Short: "Ask the plugins of networks whether all is as they made it",
		Long: "Ask the plugins of networks whether they could connect a container now (STATUS, from version 1.1.0 of CNI on), and for each\n" +
			"container in them whether it still has what they gave it (CHECK, from 0.4.0 on). It fails if one of them says no.",
		Args: minArgs(1), DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			var failures []error
			for _, name := range args {
				name, ok := strings.CutPrefix(name, container.CNIPrefix)
				if !ok {
					return usageErrorf("network check %s: only networks of plugins can be asked, such as cni:%s; those of containr's own need `network doctor`", name, name)
				}
				c, err := e.CheckCNINetwork(cmd.Context(), name, collect)
				if err != nil {
					failures = append(failures, p.printLeft(name, c)...)
					failures = append(failures, err)
					continue
				}
				failures = append(failures, p.printLeft(name, c)...)
				failures = append(failures, p.printCheck(name, c)...)
			}
			return errors.Join(failures...)
		},
	}
	cmd.Flags().BoolVar(&collect, "gc", false, "have them forget first what is no running container's (GC): also of other engines that use the network")
	return cmd
}

// printLeft prints a line for each container that is gone and was not disconnected, and returns why it still is not.
func (p *Program) printLeft(name string, c engine.CNICheck) (complaints []error) {
	for _, l := range c.Left {
		word := "is disconnected now"
		if !l.Gone {
			word = "is not disconnected"
			complaints = append(complaints, l.Err)
		}
		fmt.Fprintf(p.Out, "%s%s container %s, which is gone: %s\n", container.CNIPrefix, name, l.Container[:min(12, len(l.Container))], word)
	}
	return complaints
}

// printCheck prints a line for each that was asked, and returns the complaints.
func (p *Program) printCheck(name string, c engine.CNICheck) (complaints []error) {
	line := func(what string, asked bool, err error) {
		word := "ok"
		switch {
		case err != nil:
			word = "failed"
			complaints = append(complaints, err)
		case !asked:
			word = "cannot be asked: the network's version of CNI is older"
		}
		fmt.Fprintf(p.Out, "%s%s %s: %s\n", container.CNIPrefix, name, what, word)
	}
	line("network", c.Asked, c.Ready)
	for _, one := range c.Checked {
		line("container "+one.Container[:min(12, len(one.Container))]+" "+one.Interface, one.Asked, one.Err)
	}
	return complaints
}
