package cgroup

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// # Control groups from systemd
//
// Where systemd manages the tree, it is the one to ask: it makes the directory, as a
// *scope*, and leaves what is below it alone (Delegate). A scope begins with a process,
// so the container's is born first, in the group of its maker, and its first act is to
// wait; nothing of the image runs before the limits hold.
//
// Limits are given twice. As properties, so that systemd does not take them back when
// it looks at the unit again; and as files, because properties say less: quotas are
// rounded, and half of what OCI has is missing. The files have the last word.

// Unit is a container's scope.
type Unit struct {
	// Name ends in ".scope". It is empty if the group does not come from systemd.
	Name string
	// User: it belongs to the manager of an ordinary user.
	User bool
}

// PlanUnit is Plan for a group that systemd is asked for; see host.Facts.ProbeManager.
//
// cgroupsPath has the form slice:prefix:name, as runc has it: the scope is called
// "prefix-name.scope", and without a prefix "name.scope". Without a slice it is
// system.slice, or user.slice for an ordinary user; without a path the name is the id
// and the prefix "containr". Properties of the unit are set by annotations called
// "org.systemd.property." and the property's name, in the text format of GVariant.
//
// Errors wrap ErrInvalid, ErrNoController or ErrNotDelegated.
func PlanUnit(spec *specs.Spec, f *host.Facts, id string) (*Placement, error) {
	res, path := resources(spec), ""
	if spec.Linux != nil {
		path = spec.Linux.CgroupsPath
	}
	if err := check(res); err != nil {
		return nil, err
	}
	s, err := locateUnit(path, id, f.Administrator())
	if err != nil {
		return nil, err
	}
	switch {
	case f.CgroupMode == host.NoCgroup:
		return nil, fmt.Errorf("%w: no cgroup file system is mounted", ErrNoController)
	case !f.Administrator() && f.CgroupMode == host.CgroupV1:
		return nil, fmt.Errorf("%w: the systemd of an ordinary user has nothing to give in cgroup v1", ErrNotDelegated)
	}
	if err := available(f, res); err != nil {
		return nil, err
	}
	extra, err := annotated(spec.Annotations)
	if err != nil {
		return nil, err
	}
	properties := append(s.properties(id), unitLimits(res, f)...)
	call := linux.StartUnit{User: !f.Administrator(), Unit: s.name, PID: Process, Properties: append(properties, extra...)}
	b := plan.Build(plan.Host, plan.CgroupChapter)
	b.Do("have systemd make the container's control group, and put the process into it", call).
		For("/linux/cgroupsPath").Reverse(linux.StopUnit{User: call.User, Unit: s.name})
	loc := location{path: s.path(f.Manager), absolute: true, chosen: true, unit: true}
	var p *Placement
	if f.CgroupMode == host.CgroupV1 {
		p, err = unitV1(b, f, loc, res)
	} else {
		p = unitV2(b, spec, f, loc, res)
	}
	if err != nil {
		return nil, err
	}
	p.Unit = Unit{Name: s.name, User: call.User}
	for i := range p.Enter {
		p.Enter[i].Early()
	}
	return p, nil
}

// unitV1 makes the directories in the hierarchies that systemd leaves alone, and then
// does as without it.
func unitV1(b *plan.Builder, f *host.Facts, loc location, res *specs.LinuxResources) (*Placement, error) {
	p, err := planV1(f, loc, res, false)
	if err != nil {
		return nil, err
	}
	p.Enter, p.Setup = append(b.Steps, p.Setup...), nil
	return p, nil
}

// systemdControllers are those that systemd hands down to a delegated unit by itself.
var systemdControllers = [...]string{"cpu", "cpuset", "io", "memory", "pids"}

// unitV2 enables what systemd does not know of, and writes the files.
func unitV2(b *plan.Builder, spec *specs.Spec, f *host.Facts, loc location, res *specs.LinuxResources) *Placement {
	h := f.Hierarchies[0]
	dir := h.Path + loc.path
	if f.Administrator() {
		rare := slices.DeleteFunc(asked(res, host.CgroupV2), func(w want) bool { return slices.Contains(systemdControllers[:], w.controller) })
		e := enabling{b: b, needed: names(rare)}
		for _, above := range between(h.Path, dir) {
			e.enable(above)
		}
	}
	b.Do("the process is where systemd was asked to put it", linux.Attach{Path: dir + "/cgroup.procs", PID: Process}).
		Reverse(linux.RemoveDir{Path: dir})
	giveAway(b, spec, f, dir)
	l := &limits{b: b, dir: dir, res: res}
	l.unifiedHierarchy()
	if f.Administrator() {
		l.devicesV2()
	}
	return &Placement{Enter: b.Steps, Paths: []string{dir}}
}

// scope is where systemd is to make a group.
type scope struct{ slice, name string }

// locateUnit reads cgroupsPath.
func locateUnit(path, id string, root bool) (scope, error) {
	slice, prefix, name := "", "containr", id
	if path != "" {
		parts := strings.Split(path, ":")
		if len(parts) != 3 {
			return scope{}, fmt.Errorf("%w: cgroupsPath %q: from systemd, a group is asked for in the form slice:prefix:name", ErrInvalid, path)
		}
		slice, prefix, name = parts[0], parts[1], parts[2]
	}
	if slice == "" {
		slice = "user.slice"
		if root {
			slice = "system.slice"
		}
	}
	if _, err := expandSlice(slice); err != nil {
		return scope{}, fmt.Errorf("%w: cgroupsPath %q: %w", ErrInvalid, path, err)
	}
	if strings.HasSuffix(name, ".slice") {
		return scope{}, fmt.Errorf("%w: cgroupsPath %q: a slice has no processes of its own: a container is a scope", ErrInvalid, path)
	}
	if prefix != "" {
		name = prefix + "-" + name
	}
	if !isUnitName(name) {
		return scope{}, fmt.Errorf("%w: cgroupsPath %q: %q is no name of a unit: letters, digits and the characters _-.\\@ are", ErrInvalid, path, name)
	}
	return scope{slice: slice, name: name + ".scope"}, nil
}

// isUnitName reports whether systemd takes a name, before its suffix; see systemd.unit(5).
func isUnitName(name string) bool {
	for _, c := range name {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune(`_-.\@`, c)) {
			return false
		}
	}
	return name != "" && len(name) <= 255-len(".scope")
}

// expandSlice is the path of a slice: "a-b.slice" lies in "a.slice", and "-.slice" is the
// root; see systemd.slice(5).
func expandSlice(slice string) (string, error) {
	name, ok := strings.CutSuffix(slice, ".slice")
	if slice == "-.slice" {
		return "", nil
	}
	if !ok || !isUnitName(name) || strings.HasPrefix(name, "-") || strings.HasSuffix(name, "-") || strings.Contains(name, "--") {
		return "", fmt.Errorf("%q is no name of a slice", slice)
	}
	var path strings.Builder
	for i := range len(name) + 1 {
		if i == len(name) || name[i] == '-' {
			path.WriteString("/" + name[:i] + ".slice")
		}
	}
	return path.String(), nil
}

// path is where the scope will be, below the manager's own group.
func (s scope) path(manager string) string {
	slice, _ := expandSlice(s.slice) // locateUnit has looked
	return strings.TrimSuffix(manager, "/") + slice + "/" + s.name
}

// properties are those that have nothing to do with limits. The scope is not ordered
// before the machine's shutdown (DefaultDependencies) because its maker sees to that,
// and systemd does not remember it when it has failed (CollectMode, systemd 236).
func (s scope) properties(id string) []string {
	return []string{
		linux.Property("Description", "s", "containr container "+id),
		linux.Property("Slice", "s", s.slice),
		"Delegate b true", "DefaultDependencies b false", "CollectMode s inactive-or-failed",
	}
}

// unitLimits says in properties what systemd has properties for.
func unitLimits(res *specs.LinuxResources, f *host.Facts) []string {
	var u unitProperties
	v2 := f.CgroupMode == host.CgroupV2
	u.memory(res.Memory, v2)
	u.cpu(res.CPU, v2)
	if res.Pids != nil && res.Pids.Limit != nil {
		u.number("TasksMax", max(*res.Pids.Limit, -1))
	}
	if b := res.BlockIO; b != nil && number(b.Weight) != 0 && !v2 {
		u.number("BlockIOWeight", int64(*b.Weight))
	}
	if f.Administrator() {
		u.devices(newDevicePolicy(res.Devices))
	}
	u.unified(res.Unified)
	return u
}

type unitProperties []string

// number adds a limit; -1 is none.
func (u *unitProperties) number(name string, n int64) {
	value := uint64(n)
	if n == -1 {
		value = math.MaxUint64
	}
	*u = append(*u, name+" t "+strconv.FormatUint(value, 10))
}

func (u *unitProperties) memory(m *specs.LinuxMemory, v2 bool) {
	switch {
	case m == nil:
		return
	case !v2:
		if isSet(m.Limit) {
			u.number("MemoryLimit", *m.Limit)
		}
		return
	}
	limit, swap := number(m.Limit), number(m.Swap)
	if limit != 0 {
		u.number("MemoryMax", limit)
	}
	switch {
	case swap == -1 || limit == -1:
		u.number("MemorySwapMax", -1)
	case swap > 0:
		u.number("MemorySwapMax", swap-limit)
	}
	if isSet(m.Reservation) {
		u.number("MemoryLow", *m.Reservation)
	}
}

func (u *unitProperties) cpu(c *specs.LinuxCPU, v2 bool) {
	if c == nil {
		return
	}
	if isSet(c.Shares) {
		if v2 {
			u.number("CPUWeight", int64(Weight(*c.Shares)))
		} else {
			u.number("CPUShares", int64(*c.Shares))
		}
	}
	if isSet(c.Quota) || isSet(c.Period) {
		period := number(c.Period)
		if period == 0 {
			period = defaultPeriod
		}
		u.number("CPUQuotaPeriodUSec", int64(period))
		u.number("CPUQuotaPerSecUSec", perSecond(number(c.Quota), period))
	}
	if v2 {
		u.bits("AllowedCPUs", c.Cpus)
		u.bits("AllowedMemoryNodes", c.Mems)
	}
}

// defaultPeriod is the kernel's, in microseconds.
const defaultPeriod = 100000

// perSecond is a quota in microseconds of each second. systemd keeps whole percents, so
// it is rounded up to one: what the file says must fit into what a slice above allows.
func perSecond(quota int64, period uint64) int64 {
	const percent = 10000
	if quota <= 0 || uint64(quota) > math.MaxInt64/1000000 {
		return -1
	}
	n := uint64(quota) * 1000000 / period
	return int64((n + percent - 1) / percent * percent)
}

// bits adds a set of numbers as a mask, the lowest first. A list in a form that only
// the kernel understands is left to the file.
func (u *unitProperties) bits(name, list string) {
	const most = 8192 // CONFIG_NR_CPUS ends there
	var mask []byte
	if list == "" {
		return
	}
	for part := range strings.SplitSeq(list, ",") {
		low, high, isRange := strings.Cut(part, "-")
		if !isRange {
			high = low
		}
		first, err1 := strconv.ParseUint(low, 10, 16)
		last, err2 := strconv.ParseUint(high, 10, 16)
		if err1 != nil || err2 != nil || last >= most {
			return
		}
		for n := first; n <= last; n++ {
			for uint64(len(mask)) <= n/8 {
				mask = append(mask, 0)
			}
			mask[n/8] |= 1 << (n % 8)
		}
	}
	words := []string{name, "ay", strconv.Itoa(len(mask))}
	for _, b := range mask {
		words = append(words, strconv.Itoa(int(b)))
	}
	*u = append(*u, linux.Property(words...))
}

// devices adds the rules if systemd can express them, as a list of what is allowed. It
// enforces them beside our own filter, and what it cannot express it must not enforce.
func (u *unitProperties) devices(p devicePolicy) {
	list, err := p.exceptions()
	words := []string{"DeviceAllow", "a(ss)", strconv.Itoa(len(list))}
	for _, e := range list {
		name := map[byte]string{'c': "char", 'b': "block"}[e.kind]
		switch {
		case e.major != anyNumber && e.minor != anyNumber:
			name = fmt.Sprintf("/dev/%s/%d:%d", name, e.major, e.minor)
		case e.major != anyNumber:
			name += "-" + strconv.FormatInt(e.major, 10)
		case e.minor == anyNumber:
			name += "-*"
		default:
			err = errors.New("a minor number without its major")
		}
		words = append(words, name, e.access.String())
	}
	if p.allow || err != nil {
		*u = append(*u, "DevicePolicy s auto")
		return
	}
	*u = append(*u, "DevicePolicy s strict", linux.Property(words...))
}

// unified adds settings of version 2 that are properties too. They override.
func (u *unitProperties) unified(settings map[string]string) {
	for _, key := range unifiedKeys(settings) {
		name, ok := map[string]string{"memory.max": "MemoryMax", "memory.high": "MemoryHigh", "memory.low": "MemoryLow", "memory.min": "MemoryMin",
			"memory.swap.max": "MemorySwapMax", "pids.max": "TasksMax", "cpu.weight": "CPUWeight"}[key]
		if !ok {
			continue
		}
		value := strings.TrimSpace(settings[key])
		if value == "max" {
			u.number(name, -1)
		} else if n, err := strconv.ParseInt(value, 10, 64); err == nil && n >= 0 {
			u.number(name, n)
		}
	}
}

// annotated reads the properties that annotations ask for, in the order of their names.
// A time in seconds may be given, and becomes one in microseconds, which is what
// systemd has.
func annotated(annotations map[string]string) ([]string, error) {
	var list []string
	for _, key := range unifiedKeys(annotations) {
		name, ok := strings.CutPrefix(key, "org.systemd.property.")
		if !ok {
			continue
		}
		signature, words, err := parseVariant(annotations[key])
		switch {
		case err != nil:
		case !isPropertyName(name):
			err = fmt.Errorf("%q is no name of a property", name)
		case name == "PIDs" || name == "Slice":
			err = errors.New("the runtime sets this one itself")
		case strings.HasSuffix(name, "Sec") && !strings.HasSuffix(name, "USec"):
			name = strings.TrimSuffix(name, "Sec") + "USec"
			signature, words, err = microseconds(signature, words)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: annotation %s: %w", ErrInvalid, key, err)
		}
		list = append(list, linux.Property(append([]string{name, signature}, words...)...))
	}
	return list, nil
}

func isPropertyName(name string) bool {
	for _, c := range name {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9') {
			return false
		}
	}
	return name != ""
}

func microseconds(signature string, words []string) (string, []string, error) {
	if strings.Contains("nqiuxtd", signature) && len(words) == 1 {
		if n, err := strconv.ParseFloat(words[0], 64); err == nil && n >= 0 && n < 1e12 {
			return "t", []string{strconv.FormatUint(uint64(n*1e6), 10)}, nil
		}
	}
	return "", nil, errors.New("no number of seconds")
}
