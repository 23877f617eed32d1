package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/nft"
	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/network/policy"
	"github.com/containr/containr/pkg/networks"
)

func (p *Program) networkPolicyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "policy COMMAND", Short: "Say who may talk to whom in a network",
		Long: "Say who may talk to whom in a network.\n\n" +
			"A policy governs what containers receive (ingress), what they send (egress), or both. What is governed is refused unless a\n" +
			"rule lets it through; policies add up; an empty list lets nothing through. It holds at once, for connections that\n" +
			"exist, too. A file of a policy:\n\n" +
			"  select = [\"name=web*\", \"label=tier=front\"]   # empty: all containers of the network\n\n" +
			"  [[ingress]]\n" +
			"  from = [\"name=client\", \"label=role=probe\", \"cidr=192.0.2.0/24\", \"host\"]\n" +
			"  except = [\"192.0.2.66\"]\n" +
			"  ports = [\"80\", \"8000-8010/udp\", \"icmp\"]\n" +
			"  rate = \"100/second\"                            # what may begin; or 2mbytes/second\n\n" +
			"  [[egress]]\n" +
			"  to = [\"cidr=2001:db8::/32\", \"name=db\", \"dns=*.example.org\"]\n" +
			"  ports = [\"443\"]\n\n" +
			"egress = [] in place of [[egress]] lets nothing out. Networks of ordinary users have policies, too.",
		Args: cobra.ArbitraryArgs, RunE: groupOfCommands,
	}
	cmd.AddCommand(p.policyApplyCommand(), p.policyListCommand(), p.policyShowCommand(), p.policyRemoveCommand())
	return cmd
}

// policyFile is a policy as a file has it.
type policyFile struct {
	Name    string        `toml:"name"`
	Select  []string      `toml:"select"`
	Ingress []ingressRule `toml:"ingress"`
	Egress  []egressRule  `toml:"egress"`
}

type ingressRule struct {
	From   []string `toml:"from"`
	Except []string `toml:"except"`
	Ports  []string `toml:"ports"`
	Rate   string   `toml:"rate"`
}

type egressRule struct {
	To     []string `toml:"to"`
	Except []string `toml:"except"`
	Ports  []string `toml:"ports"`
	Rate   string   `toml:"rate"`
}

// maxPolicyFile bounds a policy's file, in bytes.
const maxPolicyFile = 1 << 20

// readPolicy reads the policy in a file. Its name is that of the file, unless it says another.
func readPolicy(path string) (policy.Policy, error) {
	f, err := os.Open(path)
	if err != nil {
		return policy.Policy{}, err
	}
	defer f.Close()
	return parsePolicy(f, path)
}

// wrongType says what the library says of a value of a wrong type in words of the file.
func wrongType(said string) string {
	where, types, ok := strings.Cut(said, ": incompatible types: TOML value has type ")
	have, want, _ := strings.Cut(types, "; destination has type ")
	if !ok {
		return said
	}
	if want == "slice" {
		want = `list of strings, such as ["any"]`
	}
	return fmt.Sprintf("%s: this is a %s, and should be a %s", where, have, want)
}

func parsePolicy(r io.Reader, path string) (policy.Policy, error) {
	var p policy.Policy
	text, err := io.ReadAll(io.LimitReader(r, maxPolicyFile+1))
	if err != nil {
		return p, fmt.Errorf("%s: %w", path, err)
	}
	if len(text) > maxPolicyFile {
		return p, fmt.Errorf("%s: larger than %d bytes", path, maxPolicyFile)
	}
	var file policyFile
	meta, err := toml.Decode(string(text), &file)
	if err != nil {
		var parse toml.ParseError
		if errors.As(err, &parse) {
			return p, fmt.Errorf("%s:%d: %s: %w", path, parse.Position.Line, parse.Message, policy.ErrInvalid)
		}
		return p, fmt.Errorf("%s: %s: %w", path, wrongType(strings.TrimPrefix(err.Error(), "toml: ")), policy.ErrInvalid)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return p, fmt.Errorf("%s: %s: keys are name, select, ingress and egress, and of a rule from (ingress), to (egress), except, ports, rate: %w", path, unknown[0], policy.ErrInvalid)
	}
	p.Name = file.Name
	if p.Name == "" {
		p.Name = strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	}
	p.GovernsIngress, p.GovernsEgress = meta.IsDefined("ingress"), meta.IsDefined("egress")
	for _, s := range file.Select {
		peer, err := policy.ParsePeer(s)
		if err != nil {
			return p, fmt.Errorf("%s: select: %w", path, err)
		}
		p.Select = append(p.Select, peer)
	}
	for i, r := range file.Ingress {
		rule, err := parseFileRule(r.From, r.Except, r.Ports, r.Rate)
		if err != nil {
			return p, fmt.Errorf("%s: ingress rule %d: %w", path, i+1, err)
		}
		p.Ingress = append(p.Ingress, rule)
	}
	for i, r := range file.Egress {
		rule, err := parseFileRule(r.To, r.Except, r.Ports, r.Rate)
		if err != nil {
			return p, fmt.Errorf("%s: egress rule %d: %w", path, i+1, err)
		}
		p.Egress = append(p.Egress, rule)
	}
	if err := p.Check(); err != nil {
		return p, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// parseFileRule reads a rule of a file. What is excepted is so from each range that it is in.
func parseFileRule(peers, except, ports []string, rate string) (r policy.Rule, err error) {
	for _, s := range peers {
		peer, err := policy.ParsePeer(s)
		if err != nil {
			return r, err
		}
		r.Peers = append(r.Peers, peer)
	}
	for _, s := range except {
		x, err := policy.ParsePeer("cidr=" + s)
		if err != nil {
			return r, fmt.Errorf("except: %w", err)
		}
		within := false
		for i := range r.Peers {
			if p := &r.Peers[i]; p.Range.IsValid() && p.Range.Overlaps(x.Range) {
				p.Except, within = append(p.Except, x.Range), true
			}
		}
		if !within {
			return r, fmt.Errorf("except %s: it is in no cidr= of the rule: %w", s, policy.ErrInvalid)
		}
	}
	for _, s := range ports {
		port, err := policy.ParsePort(s)
		if err != nil {
			return r, err
		}
		r.Ports = append(r.Ports, port)
	}
	if rate != "" {
		r.Rate, err = policy.ParseRate(rate)
	}
	return r, err
}

// readPolicy reads --policy of run.
func (r *runFlags) readPolicy(path string) error {
	p, err := readPolicy(path)
	if err == nil && slices.ContainsFunc(r.config.Policies, func(o policy.Policy) bool { return o.Name == p.Name }) {
		err = fmt.Errorf("policy %s: there are two of this name", p.Name)
	}
	if err == nil && len(p.Select) > 0 {
		err = fmt.Errorf("policy %s: select is for policies of networks: this one is the container's alone", p.Name)
	}
	if err == nil {
		r.config.Policies = append(r.config.Policies, p)
	}
	return err
}

// flagPolicy is the name of the policy that --ingress and --egress make.
const flagPolicy = "flags"

// direction reads --ingress, or --egress.
func (r *runFlags) direction(egress bool) func(string) error {
	return func(s string) error {
		rule, ok, err := policy.ParseRule(s)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(r.config.Policies, func(p policy.Policy) bool { return p.Name == flagPolicy })
		if i < 0 {
			i = len(r.config.Policies)
			r.config.Policies = append(r.config.Policies, policy.Policy{Name: flagPolicy})
		}
		p := &r.config.Policies[i]
		list, governs := &p.Ingress, &p.GovernsIngress
		if egress {
			list, governs = &p.Egress, &p.GovernsEgress
		}
		*governs = true
		if ok {
			*list = append(*list, rule)
		}
		return p.Check()
	}
}

func (p *Program) policyApplyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "apply NETWORK FILE...", Short: "Give a network policies",
		Long: "Give a network the policies in files, in place of those of the same names; - is standard input. A policy is called as its\n" +
			"file, without the suffix, unless the file says name = \"NAME\". It holds at once.",
		Example: "  containr network policy apply front web.toml\n" +
			"  echo 'ingress = []' | containr network policy apply front -",
		Args: minArgs(2), DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			var list []policy.Policy
			for _, path := range args[1:] {
				one, err := readPolicyOr(path, p.In)
				if err != nil {
					return err
				}
				list = append(list, one)
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			for _, one := range list {
				n, err := e.PutPolicy(cmd.Context(), args[0], one)
				if err != nil {
					return err
				}
				fmt.Fprintf(p.Out, "%s/%s\n", n.Name, one.Name)
			}
			return nil
		},
	}
}

// readPolicyOr reads a policy from a file, or from standard input.
func readPolicyOr(path string, in io.Reader) (policy.Policy, error) {
	if path == "-" {
		return parsePolicy(in, "stdin")
	}
	return readPolicy(path)
}

// policyRow is a line of network policy ls, and what a template may name.
type policyRow struct {
	Network, Name, Select, Containers, Ingress, Egress string
	Passed, Refused                                    uint64
}

func (p *Program) policyListCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "ls [FLAGS] [NETWORK...]", Aliases: []string{"list"}, Short: "List policies of networks",
		Long: "List policies of networks, and those that flags of run gave to containers in them: for whom they are, how many rules they have,\n" +
			"and how many packets of those who began to talk were let through by them, and refused to their containers.",
		Args: cobra.ArbitraryArgs, DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			views, err := e.Policies(cmd.Context(), args...)
			if err != nil {
				return err
			}
			rows := []policyRow{}
			for _, v := range views {
				rows = append(rows, rowOfPolicy(v))
			}
			return present.Rows(p.text(), present.List{Format: format, Columns: []present.Column{
				{Field: "Network", Title: "NETWORK"}, {Field: "Name", Title: "POLICY"}, {Field: "Containers", Title: "CONTAINERS"},
				{Field: "Ingress", Title: "INGRESS"}, {Field: "Egress", Title: "EGRESS"}, {Field: "Passed", Title: "PASSED"}, {Field: "Refused", Title: "REFUSED"},
			}}, rows)
		},
	}
	cmd.Flags().StringVar(&format, "format", "", "print as table, 'table `TEMPLATE`', json or TEMPLATE (Go's)")
	return cmd
}

func rowOfPolicy(v engine.PolicyView) policyRow {
	r := policyRow{Network: v.Network.Name, Name: v.Name, Containers: strings.Join(v.Containers, ","), Ingress: "free", Egress: "free"}
	if v.GovernsIngress {
		r.Ingress = countOf(len(v.Ingress), "rule")
	}
	if v.GovernsEgress {
		r.Egress = countOf(len(v.Egress), "rule")
	}
	var words []string
	for _, s := range v.Policy.Select {
		words = append(words, s.String())
	}
	r.Select = strings.Join(words, ",")
	for _, n := range append(slices.Clone(v.IngressPassed), v.EgressPassed...) {
		r.Passed += n.Packets
	}
	for _, n := range v.Refused {
		r.Refused += n.Packets
	}
	return r
}

func countOf(n int, word string) string {
	switch n {
	case 0:
		return "none"
	case 1:
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// someOrNo is countOf in a sentence.
func someOrNo(n int, word string) string {
	if n == 0 {
		return "no " + word + "s"
	}
	return countOf(n, word)
}

func (p *Program) policyShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show NETWORK [POLICY...]", Short: "Print policies with what their rules have let through",
		Long: "Print the policies of a network, and those of containers in it by flags of run: for whom they are, and each rule with the packets and bytes of those who began to talk that it\n" +
			"has let through. What answers them is not counted. What was refused, who to whom, is in the events.",
		Args: minArgs(1), DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			views, err := e.Policies(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			for _, name := range args[1:] {
				if !slices.ContainsFunc(views, func(v engine.PolicyView) bool { return v.Name == name }) {
					return fmt.Errorf("network %s, policy %s: %w", args[0], name, networks.ErrNoPolicy)
				}
			}
			for _, v := range views {
				if len(args) == 1 || slices.Contains(args[1:], v.Name) {
					fmt.Fprint(p.Out, policyText(v))
				}
			}
			return nil
		},
	}
}

// policyText is a policy for people.
func policyText(v engine.PolicyView) string {
	var b strings.Builder
	fmt.Fprintf(&b, "policy %s of network %s\n", v.Name, v.Network.Name)
	who := "all containers"
	if v.Own != "" {
		who = "container " + v.Own + " alone, in all its networks"
	} else if words := rowOfPolicy(v).Select; words != "" {
		who = "containers with " + words
	}
	fmt.Fprintf(&b, "  for %s: %s\n", who, present.CleanLine(orNone(strings.Join(v.Containers, " "))))
	for _, part := range []struct {
		word    string
		governs bool
		rules   []policy.Rule
		passed  []nft.Tallied
	}{{"ingress", v.GovernsIngress, v.Ingress, v.IngressPassed}, {"egress", v.GovernsEgress, v.Egress, v.EgressPassed}} {
		if !part.governs {
			fmt.Fprintf(&b, "  %s is free\n", part.word)
			continue
		}
		for i, r := range part.rules {
			fmt.Fprintf(&b, "  %s %d: %s: %s\n", part.word, i+1, present.CleanLine(r.String()), tallyText(part.passed[i]))
		}
		fmt.Fprintf(&b, "  %s of others is refused: %s\n", part.word, tallyText(v.Refused[part.word]))
	}
	return b.String()
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func tallyText(n nft.Tallied) string {
	return fmt.Sprintf("%s, %d bytes", strings.Replace(countOf(int(n.Packets), "packet"), "none", "0 packets", 1), n.Bytes)
}

func (p *Program) policyRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rm NETWORK POLICY...", Aliases: []string{"remove"}, Short: "Take policies from a network",
		Long: "Take policies from a network, at once. When no policy governs a direction of a container any more, it is free.",
		Args: minArgs(2), DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			var failures []error
			for _, name := range args[1:] {
				if err := e.RemovePolicy(cmd.Context(), args[0], name); err != nil {
					failures = append(failures, err)
					continue
				}
				fmt.Fprintln(p.Out, name)
			}
			return errors.Join(failures...)
		},
	}
}
