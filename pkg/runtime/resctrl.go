package runtime

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/namespace"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// Processors may share out their cache and the bandwidth to their memory between
// classes of service (Intel RDT, AMD QoS, Arm MPAM). The kernel shows the classes as
// directories of the file system resctrl: a file schemata says what a class gets, a
// file tasks lists its processes, and below mon_groups is counted what they use
// (Documentation/filesystems/resctrl.rst).

// class plans the container's directory. It stays when the configuration named it, and
// goes with the container otherwise.
func (c *compiler) class() error {
	rdt := c.Spec.Linux.IntelRdt
	if rdt == nil {
		return nil
	}
	const pointer = "/linux/intelRdt"
	if c.Resctrl.Path == "" {
		return errors.New(pointer + ": no file system resctrl is mounted: it takes a processor that can do this, a kernel with CONFIG_X86_CPU_RESCTRL, and mount -t resctrl resctrl /sys/fs/resctrl")
	}
	if rdt.ClosID != "/" && strings.Contains(rdt.ClosID, "/") || rdt.ClosID == "." || rdt.ClosID == ".." {
		return fmt.Errorf("%s/closID: %q is not the name of a directory", pointer, rdt.ClosID)
	}
	schemata, err := schemataOf(rdt.L3CacheSchema, rdt.MemBwSchema, rdt.Schemata)
	if err != nil {
		return err
	}
	c.classDir = classDir(c.Resctrl.Path, rdt.ClosID, c.ID)
	b := plan.Build(plan.Host, plan.ResctrlChapter)
	switch {
	case rdt.ClosID == "":
		b.Do("a class of service of the container's own", linux.MakeDir{Path: c.classDir, Mode: 0o755}).
			Reverse(linux.RemoveDir{Path: c.classDir}).For(pointer)
	case c.Resctrl.Exists:
		if err := matches(schemata, c.Resctrl.Schemata); err != nil {
			return fmt.Errorf("%s: the class %s exists: %w", pointer, rdt.ClosID, err)
		}
		schemata = nil
	case len(schemata) == 0:
		return fmt.Errorf("%s/closID: there is no class %s, and nothing says what it would get", pointer, rdt.ClosID)
	default:
		b.Do("a class of service that others may join", linux.MakeDir{Path: c.classDir, Mode: 0o755}).Ok(plan.EEXIST).For(pointer)
	}
	if len(schemata) > 0 {
		b.Do("its share of cache and memory bandwidth", linux.WriteFile{Path: c.classDir + "/schemata", Data: strings.Join(schemata, "\n") + "\n"}).For(pointer)
	}
	if rdt.EnableMonitoring {
		group := c.monitor()
		b.Do("what it uses is counted", linux.MakeDir{Path: group, Mode: 0o755}).Reverse(linux.RemoveDir{Path: group}).For(pointer + "/enableMonitoring")
	}
	c.add(b.Steps)
	return nil
}

func (c *compiler) monitor() string { return c.classDir + "/mon_groups/" + c.ID }

func classDir(root, name, id string) string {
	switch name {
	case "":
		return root + "/" + id
	case "/":
		return root
	}
	return root + "/" + name
}

// classify puts the process into its class; what it starts follows it.
func (c *compiler) classify() error {
	if c.classDir == "" {
		return nil
	}
	tasks := []string{c.classDir + "/tasks"}
	if c.Spec.Linux.IntelRdt.EnableMonitoring {
		tasks = append(tasks, c.monitor()+"/tasks")
	}
	c.add(joinClass(tasks))
	return nil
}

// joinClass puts a process into a class, and into its group that is counted.
func joinClass(tasks []string) []plan.Step {
	b := plan.Build(plan.Host, plan.ResctrlChapter)
	for _, path := range tasks {
		b.Do("the process, and all that it starts, is of this class", linux.Attach{Path: path, PID: namespace.PID}).Early().For("/linux/intelRdt")
	}
	return b.Steps
}

// schemataOf lists the lines to write, in the order that the specification wants.
func schemataOf(l3, bandwidth string, more []string) ([]string, error) {
	var lines []string
	if l3 != "" {
		lines = append(lines, l3)
	}
	if bandwidth != "" {
		if !strings.HasPrefix(bandwidth, "MB:") {
			return nil, fmt.Errorf("/linux/intelRdt/memBwSchema: %q does not begin with \"MB:\"", bandwidth)
		}
		lines = append(lines, bandwidth)
	}
	lines = append(lines, more...)
	for _, l := range lines {
		if strings.Contains(l, "\n") || !strings.Contains(l, ":") {
			return nil, fmt.Errorf("/linux/intelRdt: %q is not one line of a schemata file, as L3:0=7f0;1=1f", l)
		}
	}
	return lines, nil
}

// changeClass plans other shares for the class of a container that lives.
func changeClass(root, id string, spec *specs.Spec, l3, bandwidth string) ([]plan.Step, error) {
	if spec.Linux == nil || spec.Linux.IntelRdt == nil {
		return nil, errors.New("it has no class of service: /linux/intelRdt of its configuration would have made one")
	}
	if root == "" {
		return nil, errors.New("no file system resctrl is mounted any more")
	}
	lines, err := schemataOf(l3, bandwidth, nil)
	if err != nil {
		return nil, err
	}
	b := plan.Build(plan.Host, plan.ResctrlChapter)
	path := classDir(root, spec.Linux.IntelRdt.ClosID, id) + "/schemata"
	b.Do("another share of cache and memory bandwidth", linux.WriteFile{Path: path, Data: strings.Join(lines, "\n") + "\n"}).For("/linux/intelRdt")
	return b.Steps, nil
}

// matches checks that an existing class gives what is asked for.
func matches(lines []string, schemata string) error {
	have := make(map[string]string)
	for line := range strings.Lines(schemata) {
		eachShare(line, func(resource, domain, value string) { have[resource+":"+domain] = value })
	}
	want := make(map[string]string)
	for _, line := range lines { // the last one counts
		eachShare(line, func(resource, domain, value string) { want[resource+":"+domain] = value })
	}
	for key, value := range want {
		if have[key] != value {
			return fmt.Errorf("%s is %q there, not %q", key, have[key], value)
		}
	}
	return nil
}

// eachShare visits the parts of a line such as "L3:0=7f0;1=1f". The kernel pads
// numbers, so zeros and spaces before them do not count.
func eachShare(line string, visit func(resource, domain, value string)) {
	resource, list, _ := strings.Cut(strings.TrimSpace(line), ":")
	for part := range strings.SplitSeq(list, ";") {
		domain, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if ok {
			visit(resource, domain, strings.ToLower(strings.TrimLeft(strings.TrimSpace(value), "0")))
		}
	}
}

// taskFiles finds the files of the class that a plan's process joins.
func taskFiles(p *plan.Plan) []string {
	var paths []string
	for i := range p.Steps {
		if a, ok := p.Steps[i].Call.(linux.Attach); ok && p.Steps[i].Chapter == plan.ResctrlChapter {
			paths = append(paths, a.Path)
		}
	}
	return paths
}

// probeResctrl looks at the class that a configuration asks for.
func probeResctrl(in *Input) error {
	if in.Spec.Linux == nil || in.Spec.Linux.IntelRdt == nil {
		return nil
	}
	root, err := host.FindResctrl()
	if err != nil || root == "" {
		return err
	}
	in.Resctrl, err = host.LookResctrl(root, classDir(root, in.Spec.Linux.IntelRdt.ClosID, in.ID))
	return err
}
