package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/nft"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/events"
	"github.com/containr/containr/pkg/network/policy"
	"github.com/containr/containr/pkg/networks"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// ErrPolicyThere means that a policy would be for somebody whose packets do not pass a switch of containr's.
var ErrPolicyThere = errors.New("policies hold in networks of the driver bridge")

// policyTable is the table of the rules of policies, one for each state root.
func (e *Engine) policyTable() nft.Table {
	sum := sha256.Sum256([]byte(e.root))
	return nft.Table("bridge containr-" + hex.EncodeToString(sum[:4]))
}

// policyInput reads what the rules are made of. own, if it has an ID, stands for the container of that id.
func (e *Engine) policyInput(own policy.Container) (policy.Input, []container.Record, error) {
	in := policy.Input{Table: e.policyTable()}
	store, containers, err := e.stores()
	if err != nil {
		return in, nil, err
	}
	list, err := store.List()
	if err != nil {
		return in, nil, err
	}
	hub, err := e.usesHub()
	if err != nil {
		return in, nil, err
	}
	for _, n := range list {
		if n.Driver != networks.DriverBridge {
			continue
		}
		planned := policy.Network{ID: n.ID, Name: n.Name, Resolver: n.Resolver()}
		for _, s := range n.Subnets {
			planned.Gateways = append(planned.Gateways, s.Gateway)
		}
		if hub {
			planned.Gateways = append(planned.Gateways, hubNet().Gateway(), hubNet().Gateway6()) // who comes from the host's own loopback addresses
		}
		if !planned.Resolver.IsValid() && !n.Internal && len(n.Subnets) > 0 && container.OnlyLoopback(readIfThere("/etc/resolv.conf")) {
			planned.Resolver = n.Subnets[0].Gateway // as forwardNames will have it
		}
		if planned.Policies, err = store.Policies(n); err != nil {
			return in, nil, err
		}
		in.Networks = append(in.Networks, planned)
	}
	records, err := containers.List()
	if err != nil {
		return in, nil, err
	}
	for _, r := range records {
		forwardedTo(&in, r.Endpoints)
		if r.ID != own.ID && len(r.Endpoints) > 0 {
			in.Containers = append(in.Containers, policyContainer(r.ID, r.Name, r.Config, r.Endpoints))
		}
	}
	if own.ID != "" {
		in.Containers = append(in.Containers, own)
	}
	return in, records, nil
}

// forwardedTo notes the networks without names of their own where containers ask for others': see forwardNames. A policy lets them.
func forwardedTo(in *policy.Input, endpoints []container.Endpoint) {
	for _, p := range endpoints {
		a, err := netip.ParseAddr(p.Resolver)
		for i, n := range in.Networks {
			if err == nil && p.Forwards && n.ID == p.NetworkID {
				in.Networks[i].Resolver = a
			}
		}
	}
}

// policyContainer is a container as policies see it.
func policyContainer(id, name string, c container.Config, endpoints []container.Endpoint) policy.Container {
	out := policy.Container{ID: id, Name: name, Labels: c.Labels, Own: c.Policies}
	for _, p := range endpoints {
		plug := policy.Plug{Network: p.NetworkID, Link: p.Link}
		for _, s := range p.Prefixes {
			if a, err := netip.ParsePrefix(s); err == nil {
				plug.Addresses = append(plug.Addresses, a.Addr())
			}
		}
		out.Plugs = append(out.Plugs, plug)
	}
	return out
}

// policySteps plans the rules of a container that is about to be made. Nothing of it is the container's alone to undo: they go with
// its record, see applyPolicies.
func (e *Engine) policySteps(id, name string, c container.Config, endpoints []container.Endpoint) ([]plan.Step, error) {
	if some, err := e.somePolicy(c, endpoints); err != nil || !some {
		return nil, err
	}
	own := policyContainer(id, name, c, endpoints)
	in, _, err := e.policyInput(own)
	if err != nil || !in.Governs(own) {
		return nil, err
	}
	b := plan.Build(plan.Host, plan.NetworkChapter)
	for _, s := range policy.Compile(in, id).Steps() {
		b.Do(s.Why, nftStep(s.Message))
	}
	b.Do("all at once", linux.NftCommit{})
	for i := range b.Steps {
		b.Steps[i].Early()
	}
	return b.Steps, nil
}

// somePolicy reports whether a container or a network of its has any policy.
func (e *Engine) somePolicy(c container.Config, endpoints []container.Endpoint) (bool, error) {
	if len(c.Policies) > 0 && len(endpoints) > 0 {
		return true, nil
	}
	for _, p := range endpoints {
		store, err := e.networks()
		if err != nil {
			return false, err
		}
		if list, err := store.Policies(networks.Network{Name: p.Network}); err != nil || len(list) > 0 {
			return len(list) > 0, err
		}
	}
	return false, nil
}

func nftStep(m nft.Message) linux.Nft { return linux.Nft{Command: m.Text, Message: m.Bytes} }

// lockPolicies is held while the rules of policies are changed, or asked what they have refused.
func (e *Engine) lockPolicies(ctx context.Context) (*durable.Lock, error) {
	if err := os.MkdirAll(e.run, 0o700); err != nil {
		return nil, err
	}
	return durable.Acquire(ctx, filepath.Join(e.run, "policy.lock"), durable.Exclusive)
}

// applyPolicies makes the rules of policies what networks and containers say now. Whoever changes something calls it behind the change, so
// that the last one to hold the lock has seen all of it: who was killed in between leaves that to the next.
func (e *Engine) applyPolicies(ctx context.Context) error {
	lock, err := e.lockPolicies(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	defer lock.Release()
	rules, err := e.policyRules(false)
	if errors.Is(err, errNoHub) {
		return nil // there is no network to hold in, and whoever comes into one brings its rules
	}
	if err != nil {
		return policyTrouble(err)
	}
	in, records, err := e.policyInput(policy.Container{})
	if err != nil {
		return err
	}
	if rules.there {
		if err := rules.tellRefused(in, records); err != nil {
			return err
		}
	}
	if !in.Governed() {
		if !rules.there {
			return nil
		}
		return errors.Join(policyTrouble(rules.transact(in.Table.Delete().Bytes)), e.openNames(ctx, in))
	}
	if err := rules.replace(policy.Compile(in, "")); err != nil {
		return policyTrouble(err)
	}
	return e.openNames(ctx, in)
}

func policyTrouble(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("rules of policies, in the family bridge of nf_tables: %w", err)
}

// hubTrouble returns what kept the rules in a user's hub from being asked for. Where there is no hub, or nobody may ask, there are none.
func (e *Engine) hubTrouble(err error) error {
	if hub, usesErr := e.usesHub(); !hub || usesErr != nil || errors.Is(err, errNoHub) {
		return usesErr
	}
	return policyTrouble(err)
}

// renewPolicies is applyPolicies if there are any, or have been.
func (e *Engine) renewPolicies(ctx context.Context, endpoints []container.Endpoint) error {
	if len(endpoints) == 0 {
		return nil
	}
	rules, err := e.policyRules(false)
	if err != nil {
		return e.hubTrouble(err)
	}
	if !rules.there {
		return nil // what the kernel does not have needs no change
	}
	return e.applyPolicies(ctx)
}

// enforce has the policies be in force that are for a container which is about to run, and those that name it.
func (e *Engine) enforce(ctx context.Context, record container.Record) error {
	if len(record.Endpoints) == 0 {
		return nil
	}
	steps, err := e.policySteps(record.ID, record.Name, record.Config, record.Endpoints)
	if err != nil {
		return err
	}
	if len(steps) > 0 {
		return e.applyPolicies(ctx)
	}
	return e.renewPolicies(ctx, record.Endpoints)
}

// checkPolicies refuses policies of a container's own that could not hold.
func (e *Engine) checkPolicies(c container.Config, endpoints []container.Endpoint) error {
	if len(c.Policies) == 0 {
		return nil
	}
	store, err := e.networks()
	if err != nil {
		return err
	}
	for _, p := range c.Policies {
		if err := p.Check(); err != nil {
			return err
		}
	}
	if len(endpoints) < len(c.Networks) {
		return fmt.Errorf("policy %s: a network of plugins: %w", c.Policies[0].Name, ErrPolicyThere)
	}
	for _, endpoint := range endpoints {
		n, err := store.Get(endpoint.Network)
		if err != nil {
			return err
		}
		for _, p := range c.Policies {
			if err := policyFits(n, p); err != nil {
				return err
			}
		}
	}
	return nil
}

func policyFits(n networks.Network, p policy.Policy) error {
	if n.Backend != "" {
		return fmt.Errorf("policy %s, network %s, which %s makes: %w", p.Name, n.Name, n.Backend, ErrPolicyThere)
	}
	if n.Driver != networks.DriverBridge {
		return fmt.Errorf("policy %s, network %s, driver %s: %w", p.Name, n.Name, n.Driver, ErrPolicyThere)
	}
	if p.ByName() && !n.Resolver().IsValid() {
		return fmt.Errorf("policy %s, network %s: nobody answers names there, so none of DNS leads anywhere; networks that `containr network create` makes have names: %w", p.Name, n.Name, policy.ErrInvalid)
	}
	return nil
}

// PutPolicy gives a network a policy, in place of one of the same name, which holds at once.
func (e *Engine) PutPolicy(ctx context.Context, network string, p policy.Policy) (networks.Network, error) {
	if err := e.refuseOther(network, "given a policy"); err != nil {
		return networks.Network{}, err
	}
	store, err := e.networks()
	if err != nil {
		return networks.Network{}, err
	}
	n, err := e.findNetwork(ctx, store, network)
	if err == nil {
		err = policyFits(n, p)
	}
	if err != nil {
		return n, err
	}
	former, err := store.Policies(n)
	if err != nil {
		return n, err
	}
	if n, err = store.PutPolicy(ctx, network, p); err != nil {
		return n, err
	}
	if err := e.applyPolicies(ctx); err != nil { // it does not hold, and says so: what was there before goes on
		var undo error
		if i := slices.IndexFunc(former, func(o policy.Policy) bool { return o.Name == p.Name }); i >= 0 {
			_, undo = store.PutPolicy(ctx, n.Name, former[i])
		} else {
			_, undo = store.RemovePolicy(ctx, n.Name, p.Name)
		}
		if undo == nil { // rules that are changed in parts may have been changed in part
			undo = e.applyPolicies(ctx)
		}
		if undo != nil && undo.Error() == err.Error() {
			undo = nil // what was in the way still is
		}
		return n, errors.Join(err, undo)
	}
	return n, nil
}

// RemovePolicy takes a policy from a network.
func (e *Engine) RemovePolicy(ctx context.Context, network, name string) error {
	store, err := e.networks()
	if err != nil {
		return err
	}
	if _, err := store.RemovePolicy(ctx, network, name); err != nil {
		return err
	}
	return e.applyPolicies(ctx)
}

// PolicyView is a policy with what it does.
type PolicyView struct {
	policy.Policy
	Network networks.Network
	// Own is the name of the container whose own policy it is, by run's flags; empty if it is the network's.
	Own string
	// Containers are the names of those that it is for.
	Containers []string
	// Ingress and Egress are what each rule has let through, of those who began.
	IngressPassed, EgressPassed []nft.Tallied
	// Refused is what its containers have been refused, by any policy: by direction.
	Refused map[string]nft.Tallied
}

// finishPolicies has the rules be what is written down, if somebody was killed between the two.
func (e *Engine) finishPolicies(ctx context.Context) error {
	in, _, err := e.policyInput(policy.Container{})
	if err != nil {
		return err
	}
	rules, err := e.policyRules(false)
	if err != nil {
		return e.hubTrouble(err)
	}
	if !rules.there && !in.Governed() {
		return nil
	}
	if in.Governed() && policy.Compile(in, "").Are(rules.Contents) {
		return nil
	}
	return e.applyPolicies(ctx)
}

// Policies lists the policies of networks, and those that containers in them have of their own; of all networks if none is named.
func (e *Engine) Policies(ctx context.Context, refs ...string) ([]PolicyView, error) {
	if err := errors.Join(e.finishPolicies(ctx), e.TellRefused(ctx)); err != nil {
		return nil, err
	}
	store, err := e.networks()
	if err != nil {
		return nil, err
	}
	var chosen []networks.Network
	for _, ref := range refs {
		n, err := store.Get(ref)
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, n)
	}
	if len(refs) == 0 {
		if chosen, err = store.List(); err != nil {
			return nil, err
		}
	}
	in, _, err := e.policyInput(policy.Container{})
	if err != nil {
		return nil, err
	}
	rules, err := e.policyRules(true)
	if err != nil {
		rules = &policyRules{} // without a packet filter nothing is counted
	}
	there := rules.Contents
	var views []PolicyView
	for _, n := range chosen {
		list, err := store.Policies(n)
		if err != nil {
			return nil, err
		}
		for _, p := range list {
			views = append(views, viewOf(n, p, "", in, there))
		}
		for _, c := range in.Containers {
			if slices.ContainsFunc(c.Plugs, func(plug policy.Plug) bool { return plug.Network == n.ID }) {
				for _, p := range c.Own {
					views = append(views, viewOf(n, p, c.ID, in, there))
				}
			}
		}
	}
	return views, nil
}

// viewOf looks at a policy of a network, or of the container with the id own.
func viewOf(n networks.Network, p policy.Policy, own string, in policy.Input, there nft.Contents) PolicyView {
	counters := policy.NetworkCounters(n.ID, p.Name)
	if own != "" {
		counters = policy.ContainerCounters(own, p.Name)
	}
	v := PolicyView{Policy: p, Network: n, Refused: map[string]nft.Tallied{}}
	counted := func(direction string, rules []policy.Rule) (list []nft.Tallied) {
		for i := range rules {
			list = append(list, there.Counters[counters+"/"+direction+"/"+strconv.Itoa(i+1)])
		}
		return list
	}
	v.IngressPassed, v.EgressPassed = counted("ingress", p.Ingress), counted("egress", p.Egress)
	for _, c := range in.Containers {
		for _, plug := range c.Plugs {
			if plug.Network != n.ID || own == "" && !p.Selects(c) || own != "" && c.ID != own {
				continue
			}
			if own != "" {
				v.Own = c.Name
			}
			v.Containers = append(v.Containers, c.Name)
			for _, d := range policy.Directions {
				one, all := there.Counters[policy.RefusedCounter(d, plug.Link)], v.Refused[d]
				v.Refused[d] = nft.Tallied{Packets: all.Packets + one.Packets, Bytes: all.Bytes + one.Bytes}
			}
		}
	}
	return v
}

// TellRefused writes down what policies have refused since that was done last. The kernel keeps it until then.
func (e *Engine) TellRefused(ctx context.Context) error {
	if rules, err := e.policyRules(true); err != nil || !rules.there {
		return nil // where nobody may ask there are none
	}
	lock, err := e.lockPolicies(ctx)
	if err != nil {
		return err
	}
	defer lock.Release()
	in, records, err := e.policyInput(policy.Container{})
	if err != nil {
		return err
	}
	rules, err := e.policyRules(true)
	if err != nil || !rules.there {
		return nil // they have just gone
	}
	return rules.tellRefused(in, records)
}

// maxRefused is how many events one look at what was refused makes, at most; the rest is counted in the last of them.
const maxRefused = 200

// tellRefused is TellRefused, with the lock held.
func (r *policyRules) tellRefused(in policy.Input, records []container.Record) error {
	told := 0
	for _, c := range in.Containers {
		i := slices.IndexFunc(records, func(r container.Record) bool { return r.ID == c.ID })
		for _, plug := range c.Plugs {
			for _, d := range policy.Directions {
				if i < 0 || r.Counters[policy.RefusedCounter(d, plug.Link)].Packets == 0 {
					continue
				}
				for _, six := range []bool{false, true} {
					n, err := r.tellNotes(policy.Notes(r.table, d, six, plug.Link), d, records[i], maxRefused-told)
					if err != nil {
						return policyTrouble(err)
					}
					told += n
				}
			}
		}
	}
	return nil
}

// tellNotes writes down what one set notes, and takes it out of the set.
func (r *policyRules) tellNotes(s nft.Set, direction string, record container.Record, most int) (int, error) {
	if most <= 0 {
		return 0, nil
	}
	elements, err := r.elements(s)
	if err != nil || len(elements) == 0 {
		return 0, err
	}
	elements = elements[:min(len(elements), most)]
	var gone []string
	for _, note := range elements {
		r.engine.write(record.Event(events.Refused, append([]string{"direction", direction, "packets", strconv.FormatUint(note.Packets, 10)}, noteAttributes(note.Key)...)...))
		gone = append(gone, s.DeleteKey(note.Key).Bytes)
	}
	err = r.transact(gone...)
	if errors.Is(err, unix.ENOENT) {
		err = nil // it was too old just now
	}
	return len(elements), err
}

// noteAttributes reads the key of a note: addresses, protocol and port, each filled up to 4 bytes.
func noteAttributes(key string) []string {
	size := 4
	if len(key) > 16 {
		size = 16
	}
	if len(key) < 2*size+6 {
		return nil
	}
	source, _ := netip.AddrFromSlice([]byte(key[:size]))
	destination, _ := netip.AddrFromSlice([]byte(key[size : 2*size]))
	number, port := key[2*size], int(key[2*size+4])<<8|int(key[2*size+5])
	names := map[byte]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_SCTP: "sctp", unix.IPPROTO_ICMP: "icmp", unix.IPPROTO_ICMPV6: "icmpv6"}
	list := []string{"source", source.String(), "destination", destination.String(), "protocol", names[number]}
	if strings.HasPrefix(names[number], "icmp") {
		return append(list, "icmpType", strconv.Itoa(port>>8))
	}
	return append(list, "port", strconv.Itoa(port))
}
