package shell

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/containr/containr/internal/shellword"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// birth is what is known about the making of the container's first process.
type birth struct {
	step *plan.Step
	// nsenter and unshare are the options for namespaces to join and to make.
	nsenter, unshare []string
	fork             bool
	// cgroup is the directory of version 2 that the process is to be in before
	// it has a cgroup namespace.
	cgroup string
	// lateCgroup asks for that namespace once the process is in its groups, before it
	// mounts anything. unit: systemd puts it there.
	lateCgroup, unit bool
	// setsid and identity are the reasons of such steps.
	setsid, identity []string
}

// The kinds of namespaces and their options, which unshare and nsenter share.
var namespaceOptions = [...]struct {
	flag   linux.CloneFlags
	option string
}{
	{linux.CloneNewuser, "--user"}, {linux.CloneNewns, "--mount"}, {linux.CloneNewuts, "--uts"}, {linux.CloneNewipc, "--ipc"},
	{linux.CloneNewnet, "--net"}, {linux.CloneNewpid, "--pid"}, {linux.CloneNewcgroup, "--cgroup"}, {linux.CloneNewtime, "--time"},
}

// clone interprets the birth.
func (w *writer) clone(s *plan.Step, c linux.Clone) error {
	if w.born {
		return errors.New("a second process is born")
	}
	w.born, w.birth.step = true, s
	if c.Cgroup != "" {
		v, ok := w.regs[plan.Reg(c.Cgroup)]
		if !ok || v.file == "" {
			return errors.New("it is not known which control group it is born into")
		}
		w.birth.cgroup = v.file
	}
	rest := c.Flags &^ (linux.CloneParent | linux.CloneIntoCgroup)
	for _, n := range namespaceOptions {
		if rest&n.flag == 0 {
			continue
		}
		rest &^= n.flag
		if n.flag == linux.CloneNewcgroup && c.Cgroup != "" {
			w.birth.lateCgroup = true
			continue
		}
		w.birth.unshare = append(w.birth.unshare, n.option)
	}
	if rest != 0 {
		return fmt.Errorf("unknown clone flags %#x", uint64(rest))
	}
	if c.Flags&linux.CloneNewns == 0 {
		return errors.New("without a mount namespace the host's mounts would be changed")
	}
	w.userNS = c.Flags&linux.CloneNewuser != 0
	w.birth.fork = c.Flags&(linux.CloneNewpid|linux.CloneNewtime) != 0
	return nil
}

// join makes a namespace one that the process is born in. Mounts and ids cannot be
// joined: the script would lose its tools or its rights with them.
func (w *writer) join(s *plan.Step, c linux.Setns) error {
	v, ok := w.regs[plan.Reg(c.FD)]
	if !ok || v.file == "" {
		return errors.New("it is not known which namespace it joins")
	}
	if v.file == clocksToCome {
		w.host.remember(s.Why)
		return nil
	}
	for _, n := range namespaceOptions {
		if c.Flags != n.flag {
			continue
		}
		if n.flag == linux.CloneNewns || n.flag == linux.CloneNewuser {
			return errors.New("a script would lose its tools or its rights by joining it")
		}
		w.host.remember(s.Why)
		w.birth.nsenter = append(w.birth.nsenter, n.option+"="+shellword.Quote(v.file))
		return nil
	}
	return errors.New("several namespaces at once")
}

// The files of procfs by which a plan shifts the clocks of a time namespace.
const (
	clockOffsets = "/proc/self/timens_offsets"
	clocksToCome = "/proc/self/ns/time_for_children"
)

// offsets makes what is written to clockOffsets options of unshare: a shell that had been
// executed in between would be in the namespace already, with clocks that are set.
func (w *writer) offsets(s *plan.Step, text string) error {
	for line := range strings.Lines(text) {
		f := strings.Fields(line) // clock, seconds, nanoseconds
		if len(f) != 3 {
			return fmt.Errorf("an offset %q", line)
		}
		if f[2] != "0" {
			return errors.New("unshare takes whole seconds")
		}
		w.birth.unshare = append(w.birth.unshare, "--"+f[0]+"="+f[1])
	}
	w.host.remember(s.Why)
	return nil
}

// unshare knows the namespaces that are made late.
func (w *writer) unshare(s *plan.Step, c linux.Unshare) error {
	if c.Flags == linux.CloneNewtime {
		if w.userNS {
			return errors.New("unshare sets the clocks before ids of the user namespace have a meaning, which is too early")
		}
		w.host.remember(s.Why)
		w.birth.unshare, w.birth.fork = append(w.birth.unshare, "--time"), true
		return nil
	}
	if c.Flags != linux.CloneNewcgroup {
		return errors.New("only a cgroup namespace can be made late")
	}
	if w.birth.unit {
		w.host.remember(s.Why)
		w.birth.lateCgroup = true
		return nil
	}
	w.final.wrap(s, "unshare --cgroup --")
	return nil
}

// keeper explains the keeper's steps: the script itself is the parent.
func (w *writer) keeper(s *plan.Step) error {
	if c, ok := s.Call.(linux.Setns); ok {
		return w.join(s, c)
	}
	w.host.note(s, "the script is the container's parent, and ends with its exit status")
	return nil
}

// hostStep interprets a step of the host: before the birth by the script, after it by
// the helper.
func (w *writer) hostStep(s *plan.Step) error {
	if c, ok := s.Call.(linux.OpenHost); ok {
		w.regs[s.Result] = value{file: c.Path}
		if c.Flags&linux.OWronly != 0 || s.Result == startRegister {
			w.host.note(s, "the script waits for the program, and starts it at once")
		} else {
			w.host.remember(s.Why)
		}
		return nil
	}
	section := &w.host
	if w.born {
		section = &w.helper
	}
	text, err := w.hostCommand(s)
	if err != nil {
		return err
	}
	if text == "" {
		section.note(s, "a shell cannot load eBPF; bpftool, of the kernel's sources, could")
		return nil
	}
	section.add(s, lines(s, []command{{text: text, tolerant: strings.HasPrefix(text, "[ ")}})...)
	if s.Undo != nil {
		return w.later(s)
	}
	return nil
}

// hostCommand is the command for a host action, or "" for the one that has none.
func (w *writer) hostCommand(s *plan.Step) (string, error) {
	switch c := s.Call.(type) {
	case linux.MakeDir:
		if tolerates(s, plan.EEXIST) {
			return fmt.Sprintf("[ -d %s ] || mkdir -- %s", shellword.Quote(c.Path), shellword.Quote(c.Path)), nil
		}
		return "mkdir -- " + shellword.Quote(c.Path), nil
	case linux.WriteFile:
		return redirected(s, echo(c.Data, shellword.Quote(c.Path))), nil
	case linux.ChangeOwner:
		return "chown -h -- " + strconv.FormatUint(uint64(c.UID), 10) + " " + shellword.Quote(c.Path), nil
	case linux.CopyFile:
		return fmt.Sprintf("grep -q '[^[:space:]]' %s || cat %s > %s", shellword.Quote(c.To), shellword.Quote(c.From), shellword.Quote(c.To)), nil
	case linux.Attach:
		return redirected(s, `echo "$pid" > `+shellword.Quote(c.Path)), nil
	case linux.WriteProc:
		if c.File == "" || strings.ContainsAny(c.File, "/\"$`\\") {
			return "", fmt.Errorf("a file %q of a process", c.File)
		}
		return redirected(s, "printf %s "+shellword.Quote(c.Data)+` > "/proc/$pid/`+c.File+`"`), nil
	case linux.MapIDs:
		text := shellword.Quote(c.Program) + ` "$pid"`
		for _, n := range c.Map {
			text += " " + strconv.FormatUint(uint64(n), 10)
		}
		return text, nil
	case linux.DeviceFilter:
		return "", nil
	case linux.StartUnit:
		w.birth.unit = true
		return c.Command(`"$pid"`) + " >/dev/null && until " + isActive(c) + "; do :; done", nil
	case linux.SetUnit:
		return c.Text(), nil
	}
	return "", beyond(s.Call)
}

// beyond says why there is no command for a host action.
func beyond(c plan.Call) error {
	switch c.(type) {
	case linux.RunHook:
		return errors.New("a hook is to find a container that has its mounts and still its privileges; the script's has given them up before it changes its root")
	case linux.Fsopen:
		return errors.New("a /proc of the processes that are shared is opened by one among them, which no shell can be without the host's files")
	case linux.UserNamespace:
		return errors.New("mount(8) maps the owners of files since util-linux 2.39 only")
	case linux.ServeFuse:
		return errors.New("the program that serves the mount gets a descriptor that another process has opened, and no shell can take it from there")
	case linux.Mount:
		return errors.New("without a mount namespace the host's mounts would be changed, also if the script does not come to its end")
	case linux.MoveLink, linux.AddAddress, linux.RaiseLink:
		return errors.New("network devices take ip(8), which is not one of util-linux")
	case linux.NftSet, linux.Nft, linux.NftCommit, linux.AddBridge, linux.AddLinkAddress, linux.AddVeth, linux.AddRoute, linux.FindLink,
		linux.AddSubLink, linux.AddVLAN, linux.DropLink:
		return errors.New("networks take ip(8) and nft(8), which are none of util-linux: their steps in the plan are the commands")
	case linux.PinNamespace, linux.CNI:
		return errors.New("the plugins of networks have their own needs: their steps in the plan are the commands")
	case linux.SendListener:
		return errors.New("the listener is a descriptor in another process, and no shell can take it from there")
	}
	return errors.New("there is no command for it")
}

// isActive is a command that succeeds when a unit runs: the call that starts it answers
// before it does.
func isActive(c linux.StartUnit) string {
	if c.User {
		return "systemctl --user --quiet is-active " + shellword.Quote(c.Unit)
	}
	return "systemctl --quiet is-active " + shellword.Quote(c.Unit)
}

// redirected puts a command with a redirection into braces where its error is
// tolerated: the shell reports a file that it cannot open before the command is there
// to be silenced.
func redirected(s *plan.Step, text string) string {
	if s.TolerateAny || len(s.Tolerate) > 0 {
		return "{ " + text + "; }"
	}
	return text
}

// later notes the inverse of a host step, to be made when the script ends.
func (w *writer) later(s *plan.Step) error {
	w.undo = true
	switch c := s.Undo.(type) {
	case linux.RemoveDir:
		w.uses["remove"] = true
		w.host.add(s, "undo+=("+shellword.Quote("remove "+shellword.Quote(c.Path))+")")
	case linux.StopUnit:
		w.host.add(s, "undo+=("+shellword.Quote("{ "+c.Text()+" || :; } 2>/dev/null")+")")
	default:
		return fmt.Errorf("there is no command to undo it (%s)", s.Undo.Name())
	}
	return nil
}

// hostGroup interprets a host step with those that depend on it.
func (w *writer) hostGroup(i, end int) (int, error) {
	s := &w.steps[i]
	section := &w.host
	if w.born {
		section = &w.helper
	}
	var then, otherwise []string
	head, err := w.hostCommand(s)
	if err == nil && head == "" {
		err = errors.New("steps depend on it")
	}
	if err != nil {
		return end, err
	}
	for k := i + 1; k < end; k++ {
		text, err := w.hostCommand(&w.steps[k])
		if err != nil || text == "" || w.steps[k].Undo != nil {
			return end, errors.Join(err, errors.New("a step that depends on another"))
		}
		list := lines(&w.steps[k], []command{{text: text}})
		if w.steps[k].When == plan.Then {
			then = append(then, list...)
		} else {
			otherwise = append(otherwise, list...)
		}
	}
	w.rememberAll(section, i, end)
	section.add(s, conditional(head+" 2>/dev/null", then, otherwise)...)
	return end, nil
}
