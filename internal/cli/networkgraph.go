package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/networks"
)

// A drawing of a network has three parts: where it leads, the middle that all cables come together in, and the containers at their
// cables. Each is lines of text, which both forms of drawings have.

// drawnNetwork is what a drawing is made of.
type drawnNetwork struct {
	engine.NetworkView
	policies []engine.PolicyView
}

func drawnNetworkOf(ctx context.Context, e *engine.Engine, ref string) (d drawnNetwork, err error) {
	if strings.HasPrefix(ref, container.CNIPrefix) {
		return d, fmt.Errorf("network %s: what plugins have made cannot be drawn: only they know it", ref)
	}
	if d.NetworkView, err = e.NetworkView(ctx, ref); err != nil {
		return d, err
	}
	d.policies, err = e.Policies(ctx, d.ID)
	d.policies = slices.DeleteFunc(d.policies, func(v engine.PolicyView) bool { return v.Own != "" })
	return d, err
}

// graphForms are the forms of drawings.
var graphForms = []string{"text", "dot"}

// printGraphs prints drawings of networks.
func (p *Program) printGraphs(ctx context.Context, e *engine.Engine, form string, names []string) error {
	if !slices.Contains(graphForms, form) {
		return usageErrorf("--graph=%s: use --graph=%s", form, strings.Join(graphForms, " or --graph="))
	}
	var failures []error
	printed := false
	for _, name := range names {
		d, err := drawnNetworkOf(ctx, e, name)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		draw := graphText
		if form == "dot" {
			draw = graphDot
		}
		if printed {
			fmt.Fprintln(p.Out)
		}
		fmt.Fprint(p.Out, draw(d))
		printed = true
	}
	return errors.Join(failures...)
}

// graphUplink is where a network leads.
func graphUplink(v drawnNetwork) string {
	out := "the host's routes"
	if v.Uplink != "" {
		out = "the host's " + v.Uplink
	}
	switch {
	case v.Internal:
		return "nowhere: the network is internal"
	case v.Carried:
		return "the host's network, carried by containr-usernet"
	case v.Driver != networks.DriverBridge:
		return "the network of the host's " + v.Parent
	case v.Unmasked:
		return out + ", with the containers' own addresses"
	}
	return out + ", with the host's address"
}

// graphMiddle is what all cables lead to: the switch, or the device that is shared.
func graphMiddle(v drawnNetwork) []string {
	what := "driver " + v.Driver
	switch {
	case v.Bridge != "":
		what = "bridge " + v.Bridge
	case v.Mode != "":
		what += ", mode " + v.Mode
	}
	if v.MTU != 0 {
		what += ", MTU " + strconv.Itoa(v.MTU)
	}
	lines := []string{"network " + v.Name, what}
	for _, s := range v.Subnets {
		lines = append(lines, fmt.Sprintf("gateway %s/%d", s.Gateway, s.Prefix.Bits()))
	}
	if r := v.Resolver(); r.IsValid() {
		lines = append(lines, "names at "+r.String())
	}
	if v.Isolated {
		lines = append(lines, "containers are kept apart")
	}
	for _, one := range v.policies {
		r := rowOfPolicy(one)
		lines = append(lines, fmt.Sprintf("policy %s: ingress %s, egress %s; for %s", r.Name, graphRules(r.Ingress), graphRules(r.Egress), orNone(strings.Join(one.Containers, ", "))))
	}
	return lines
}

// graphRules is a number of rules: none of them lets nothing through.
func graphRules(s string) string { return strings.Replace(s, "none", "refused", 1) }

// graphPlug is a container: the name of its cable, as both ends call it, and lines, the first of which is its name.
func graphPlug(v drawnNetwork, r container.Record) (cable string, lines []string) {
	traffic, runs := v.Traffic[r.ID]
	lines = []string{r.Name + map[bool]string{false: ", stopped"}[runs]}
	for _, p := range r.Endpoints {
		if p.NetworkID != v.ID {
			continue
		}
		cable = strings.Trim(p.Link+" = "+p.Interface, " =")
		lines = append(lines, slices.DeleteFunc([]string{p.MAC, strings.Join(p.Prefixes, ", ")}, func(s string) bool { return s == "" })...)
		if len(p.Aliases) > 0 {
			lines = append(lines, "also called "+strings.Join(p.Aliases, ", "))
		}
	}
	for _, p := range r.Config.Policies {
		lines = append(lines, "policy "+p.Name+" of its own")
	}
	if !runs {
		return cable, lines
	}
	if !v.Internal {
		for _, p := range r.Reached() {
			lines = append(lines, fmt.Sprintf("published at %s: %d/%s", strings.Join(hostAddresses(p), ", "), p.Port, p.Protocol))
		}
	}
	return cable, append(lines, graphTraffic(traffic)...)
}

func graphTraffic(t *engine.PlugTraffic) []string {
	if t == nil {
		return []string{"it has no such device any more"}
	}
	lines := []string{fmt.Sprintf("received %s, %s", present.Size(int64(t.Received)), countOr0(t.ReceivedPackets)),
		fmt.Sprintf("sent %s, %s", present.Size(int64(t.Sent)), countOr0(t.SentPackets))}
	if n := t.ReceiveDropped + t.SendDropped; n > 0 {
		lines = append(lines, "lost "+countOr0(n))
	}
	if t.RefusedIngress+t.RefusedEgress > 0 {
		lines = append(lines, fmt.Sprintf("refused by policies: %s for it, %s of its own", countOr0(t.RefusedIngress), countOr0(t.RefusedEgress)))
	}
	return lines
}

func countOr0(n uint64) string {
	if n == 0 {
		return "0 packets"
	}
	return countOf(int(n), "packet")
}

// graphText draws a network for a terminal.
func graphText(v drawnNetwork) string {
	var b strings.Builder
	line := func(before, s string) { fmt.Fprintln(&b, strings.TrimRight(before+present.CleanLine(s), " ")) }
	line("", graphUplink(v))
	line("│", "")
	below := "│   "
	if len(v.Containers) == 0 {
		below = "    "
	}
	for i, s := range graphMiddle(v) {
		line(map[bool]string{false: below}[i == 0], s)
	}
	for i, r := range v.Containers {
		branch, below := "├── ", "│   "
		if i == len(v.Containers)-1 {
			branch, below = "└── ", "    "
		}
		cable, lines := graphPlug(v, r)
		line("│", "")
		line(branch, cable+" ── "+lines[0])
		for _, s := range lines[1:] {
			line(below+"    ", s)
		}
	}
	return b.String()
}

// graphDot draws a network in the language of graphviz, dot(1).
func graphDot(v drawnNetwork) string {
	var b strings.Builder
	label := func(lines ...string) string {
		for i, s := range lines {
			lines[i] = present.CleanLine(s)
		}
		return strconv.Quote(strings.Join(lines, "\n"))
	}
	fmt.Fprintf(&b, "graph %s {\n\tnode [shape=box];\n\tuplink [label=%s];\n\tnetwork [label=%s];\n\tuplink -- network;\n",
		strconv.Quote(v.Name), label(graphUplink(v)), label(graphMiddle(v)...))
	for _, r := range v.Containers {
		cable, lines := graphPlug(v, r)
		node := strconv.Quote(present.ID(r.ID, false))
		fmt.Fprintf(&b, "\t%s [label=%s];\n\tnetwork -- %s [label=%s];\n", node, label(lines...), node, label(cable))
	}
	return b.String() + "}\n"
}
