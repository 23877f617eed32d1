package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/logs"
	"github.com/containr/containr/pkg/monitor"
	"github.com/containr/containr/pkg/volume"
)

// InspectContainerRequest asks for all that is known of a container.
type InspectContainerRequest struct {
	Container string
	// Size counts what it has written.
	Size bool
}

// Inspection is a container in the form of docker's API.
type Inspection struct {
	ID              string `json:"Id"`
	Created         string
	Path            string
	Args            []string
	State           InspectedState
	Image           string
	ResolvConfPath  string
	HostnamePath    string
	HostsPath       string
	LogPath         string
	Name            string
	RestartCount    int
	Driver          string
	Platform        string
	MountLabel      string
	ProcessLabel    string
	AppArmorProfile string
	HostConfig      InspectedHostConfig
	SizeRw          *int64 `json:",omitempty"`
	Mounts          []InspectedMount
	Config          InspectedConfig
	NetworkSettings InspectedNetworks
}

// InspectedNetworks is where it is connected, and which ports of the host lead to it.
type InspectedNetworks struct {
	Ports    map[string][]InspectedPort
	Networks map[string]InspectedEndpoint
	// IPAddress, IPPrefixLen, Gateway and MacAddress are those of the first network.
	IPAddress   string
	IPPrefixLen int
	Gateway     string
	MacAddress  string
}

// InspectedPort is a port of the host.
type InspectedPort struct {
	HostIP   string `json:"HostIp"`
	HostPort string
}

// InspectedEndpoint is a container's place in a network.
type InspectedEndpoint struct {
	NetworkID           string
	EndpointID          string
	MacAddress          string
	IPAddress           string
	IPPrefixLen         int
	Gateway             string
	GlobalIPv6Address   string
	GlobalIPv6PrefixLen int
	IPv6Gateway         string
	// Interface is the name of its device in the container.
	Interface string
	// GwPriority decides which network is the way to everywhere else.
	GwPriority int
	// Aliases are the names that it was given there, and DNSNames all that others find it by.
	Aliases  []string
	DNSNames []string
}

func inspectedNetworks(r container.Record, st container.State) InspectedNetworks {
	n := InspectedNetworks{Ports: map[string][]InspectedPort{}, Networks: map[string]InspectedEndpoint{}}
	for i, endpoint := range r.Endpoints {
		out := InspectedEndpoint{NetworkID: endpoint.NetworkID, EndpointID: endpoint.Link, MacAddress: endpoint.MAC, Interface: endpoint.Interface, GwPriority: endpoint.Priority}
		for k, s := range endpoint.Prefixes {
			a, err := netip.ParsePrefix(s)
			switch {
			case err != nil:
			case a.Addr().Is6():
				out.GlobalIPv6Address, out.GlobalIPv6PrefixLen, out.IPv6Gateway = a.Addr().String(), a.Bits(), endpoint.Gateways[k]
			default:
				out.IPAddress, out.IPPrefixLen, out.Gateway = a.Addr().String(), a.Bits(), endpoint.Gateways[k]
			}
		}
		if i == 0 {
			n.IPAddress, n.IPPrefixLen, n.Gateway, n.MacAddress = out.IPAddress, out.IPPrefixLen, out.Gateway, out.MacAddress
		}
		out.Aliases = endpoint.Aliases
		if endpoint.Resolver != "" && !endpoint.Forwards {
			out.DNSNames = append([]string{r.Name, r.ID[:12]}, endpoint.Aliases...)
		}
		n.Networks[endpoint.Network] = out
	}
	if len(r.Endpoints) == 0 {
		n.Networks[r.Config.Namespaces.Network] = InspectedEndpoint{}
	}
	for _, p := range r.Reached() {
		key := fmt.Sprintf("%d/%s", p.Port, p.Protocol)
		if n.Ports[key] == nil {
			n.Ports[key] = []InspectedPort{}
		}
		if st.PID == 0 {
			continue
		}
		addresses := []string{p.HostIP}
		if p.HostIP == "" {
			addresses = []string{"0.0.0.0", "::"}
		}
		for _, a := range addresses {
			n.Ports[key] = append(n.Ports[key], InspectedPort{a, strconv.Itoa(int(p.HostPort))})
		}
	}
	return n
}

// InspectedState is what it is doing.
type InspectedState struct {
	Status     string
	Running    bool
	Paused     bool
	Restarting bool
	OOMKilled  bool
	Dead       bool
	Pid        int
	ExitCode   int
	Error      string
	StartedAt  string
	FinishedAt string
	Health     *InspectedHealth `json:",omitempty"`
}

// InspectedHealth is what its health checks have found.
type InspectedHealth struct {
	Status        string
	FailingStreak int
	Log           []InspectedCheck
}

// InspectedCheck is how one check went.
type InspectedCheck struct {
	Start, End string
	ExitCode   int
	Output     string
}

// InspectedDevices are devices that were asked for by name.
type InspectedDevices struct {
	Driver    string
	DeviceIDs []string
}

// InspectedIDMappings are ranges, CONTAINER:HOST:SIZE.
type InspectedIDMappings struct {
	UIDMap []string `json:"UidMap"`
	GIDMap []string `json:"GidMap"`
}

// InspectedHostConfig is what was asked for that depends on the host.
type InspectedHostConfig struct {
	Binds     []string
	LogConfig struct {
		Type   string
		Config map[string]string
	}
	NetworkMode   string
	RestartPolicy struct {
		Name              string
		MaximumRetryCount int
	}
	AutoRemove      bool
	CapAdd, CapDrop []string
	CgroupnsMode    string
	DNS             []string `json:"Dns"`
	DNSOptions      []string `json:"DnsOptions"`
	DNSSearch       []string `json:"DnsSearch"`
	Devices         []InspectedDevice
	// DeviceRequests are devices by name.
	DeviceRequests []InspectedDevices `json:",omitempty"`
	ExtraHosts     []string
	GroupAdd       []string
	IpcMode        string
	OomScoreAdj    int
	PidMode        string
	// PortBindings are the ports that were asked for; NetworkSettings.Ports has those that came of it.
	PortBindings    map[string][]InspectedPort
	PublishAllPorts bool
	Privileged      bool
	ReadonlyRootfs  bool
	SecurityOpt     []string
	// StorageOpt has the size of the container's own layer, if it was given one.
	StorageOpt  map[string]string `json:",omitempty"`
	Ulimits     []InspectedUlimit
	VolumesFrom []string
	UTSMode     string
	UsernsMode  string
	// IDMappings are, of a container with users of its own, which they are on the host, as podman tells it.
	IDMappings *InspectedIDMappings `json:",omitempty"`
	ShmSize    int64
	Sysctls    map[string]string
	// Annotations are those that were given, and what came of the networks that they ask for.
	Annotations       map[string]string `json:",omitempty"`
	Init              bool
	CPUShares         int64 `json:"CpuShares"`
	Memory            int64
	NanoCPUs          int64 `json:"NanoCpus"`
	CgroupParent      string
	CPUPeriod         int64 `json:"CpuPeriod"`
	CPUQuota          int64 `json:"CpuQuota"`
	CpusetCpus        string
	CpusetMems        string
	MemoryReservation int64
	MemorySwap        int64
	PidsLimit         int64
	MemorySwappiness  *int64
	OomKillDisable    bool

	BlkioWeight          uint16
	BlkioWeightDevice    []InspectedWeight
	BlkioDeviceReadBps   []InspectedRate
	BlkioDeviceWriteBps  []InspectedRate
	BlkioDeviceReadIOps  []InspectedRate
	BlkioDeviceWriteIOps []InspectedRate
}

// InspectedDevice is a device of the host.
type InspectedDevice struct {
	PathOnHost, PathInContainer, CgroupPermissions string
}

// InspectedUlimit is a limit of setrlimit(2).
type InspectedUlimit struct {
	Name       string
	Hard, Soft int64
}

// InspectedMount is a mount that was asked for.
type InspectedMount struct {
	Type                string
	Name                string `json:",omitempty"`
	Source, Destination string
	Driver              string `json:",omitempty"`
	Mode                string
	RW                  bool
	Propagation         string
}

// InspectedConfig is what was asked for that does not depend on the host.
type InspectedConfig struct {
	Hostname                                string
	Domainname                              string
	User                                    string
	AttachStdin, AttachStdout, AttachStderr bool
	Tty                                     bool
	OpenStdin                               bool
	StdinOnce                               bool
	Env                                     []string
	Cmd                                     []string
	Image                                   string
	WorkingDir                              string
	Entrypoint                              []string
	Labels                                  map[string]string
	StopSignal                              string
	StopTimeout                             *int `json:",omitempty"`
}

// InspectContainer finds all that is known of a container.
func (e *Engine) InspectContainer(ctx context.Context, r InspectContainerRequest) (*Inspection, error) {
	record, err := e.Get(ctx, r.Container)
	if err != nil {
		return nil, err
	}
	st, err := e.State(record)
	if err != nil {
		return nil, err
	}
	containers, err := e.containers()
	if err != nil {
		return nil, err
	}
	dir, err := containers.Dir(record.ID)
	if err != nil {
		return nil, err
	}
	home, err := e.homeOf(record.Config)
	if err != nil {
		return nil, err
	}
	if home.mapped {
		dir = home.layer(record.ID)
	}
	i := inspection(record, st)
	if err := errors.Join(e.inspectAttachments(i, record, st), e.inspectDrivers(i)); err != nil {
		return nil, err
	}
	i.ResolvConfPath, i.HostnamePath, i.HostsPath = filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "hostname"), filepath.Join(dir, "hosts")
	if i.HostConfig.LogConfig.Type != logs.None {
		i.LogPath = filepath.Join(monitor.LogDir(e.root, record.ID), logs.FileName)
	}
	if r.Size {
		size, err := e.LayerSize(record)
		if err != nil {
			return nil, err
		}
		i.SizeRw = &size
	}
	return i, nil
}

// inspectDrivers names the plugins whose volumes a container has. Where these are is known to them alone.
func (e *Engine) inspectDrivers(i *Inspection) error {
	store, err := e.volumes()
	if err != nil {
		return err
	}
	for n := range i.Mounts {
		m := &i.Mounts[n]
		if m.Type != container.MountVolume {
			continue
		}
		v, err := store.Get(m.Name)
		if err != nil && !errors.Is(err, volume.ErrNotFound) {
			return err
		}
		if v.OfPlugin() {
			m.Driver, m.Source = v.Driver, ""
		}
	}
	return nil
}

// timeText is a time as docker prints it: one that has not been is the first of year 1.
func timeText(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func inspection(r container.Record, st container.State) *Inspection {
	i := &Inspection{ID: r.ID, Created: timeText(r.Created), Image: r.ConfigDigest, Name: "/" + r.Name, RestartCount: st.Restarts,
		Driver: cmp.Or(r.Snapshotter, host.OverlaySnapshotter), Platform: "linux", Mounts: []InspectedMount{}, Args: []string{}}
	if len(r.Command) > 0 {
		i.Path, i.Args = r.Command[0], r.Command[1:]
	}
	i.State = InspectedState{Status: string(st.Status), Running: st.PID != 0, Paused: st.Status == container.Paused,
		Restarting: st.Status == container.Restarting, OOMKilled: st.OOMKilled, Pid: st.PID, ExitCode: st.ExitCode, Error: st.Error,
		StartedAt: timeText(st.Started), FinishedAt: timeText(st.Finished)}
	if h := st.Health; h != nil {
		i.State.Health = &InspectedHealth{Status: h.Status, FailingStreak: h.Failing, Log: []InspectedCheck{}}
		for _, c := range h.Log {
			i.State.Health.Log = append(i.State.Health.Log, InspectedCheck{timeText(c.Start), timeText(c.End), c.ExitCode, c.Output})
		}
	}
	i.HostConfig, i.Config = inspectedHost(r.Config), inspectedConfig(r)
	i.NetworkSettings = inspectedNetworks(r, st)
	if r.Spec != nil && r.Spec.Process != nil {
		i.AppArmorProfile, i.ProcessLabel = r.Spec.Process.ApparmorProfile, r.Spec.Process.SelinuxLabel
	}
	for _, m := range r.Config.Mounts {
		if m.Type == container.MountVolume {
			i.Mounts = append(i.Mounts, InspectedMount{Type: m.Type, Name: m.Source, Source: sourceIn(r.Spec, m.Target), Destination: m.Target,
				Driver: volume.DriverLocal, RW: !m.ReadOnly})
			continue
		}
		i.Mounts = append(i.Mounts, InspectedMount{Type: string(m.Type), Source: m.Source, Destination: m.Target, RW: !m.ReadOnly, Propagation: m.Propagation})
	}
	return i
}

// sourceIn is where on the host what is mounted on target lies.
func sourceIn(spec *specs.Spec, target string) string {
	if spec == nil {
		return ""
	}
	for _, m := range spec.Mounts {
		if m.Destination == target {
			return m.Source
		}
	}
	return ""
}

// InspectedWeight and InspectedRate are bounds of a block device.
type (
	InspectedWeight struct {
		Path   string
		Weight uint64
	}
	InspectedRate struct {
		Path string
		Rate uint64
	}
)

func (h *InspectedHostConfig) setBlockIO(weight uint16, b container.BlockIO) {
	h.BlkioWeight = weight
	for _, d := range b.Weights {
		h.BlkioWeightDevice = append(h.BlkioWeightDevice, InspectedWeight{d.Path, d.Limit})
	}
	rates := func(limits []container.DeviceLimit) (out []InspectedRate) {
		for _, d := range limits {
			out = append(out, InspectedRate{d.Path, d.Limit})
		}
		return out
	}
	h.BlkioDeviceReadBps, h.BlkioDeviceWriteBps = rates(b.ReadBytes), rates(b.WriteBytes)
	h.BlkioDeviceReadIOps, h.BlkioDeviceWriteIOps = rates(b.ReadOps), rates(b.WriteOps)
}

// inspectedBindings are published ports by those of the container; a port of the host that is to be chosen is "".
func inspectedBindings(ports []container.Port) map[string][]InspectedPort {
	m := map[string][]InspectedPort{}
	for _, p := range ports {
		key, host := fmt.Sprint(p.Port, "/", p.Protocol), ""
		switch {
		case p.HostEnd > p.HostPort:
			host = fmt.Sprint(p.HostPort, "-", p.HostEnd)
		case p.HostPort != 0:
			host = strconv.Itoa(int(p.HostPort))
		}
		m[key] = append(m[key], InspectedPort{p.HostIP, host})
	}
	return m
}

func inspectedHost(c container.Config) InspectedHostConfig {
	h := InspectedHostConfig{NetworkMode: c.Namespaces.Network, AutoRemove: c.AutoRemove, CapAdd: c.CapAdd, CapDrop: c.CapDrop,
		CgroupnsMode: c.Namespaces.Cgroup, DNS: c.DNS.Servers, GroupAdd: c.GroupAdd, IpcMode: c.Namespaces.IPC, PidMode: c.Namespaces.PID,
		Privileged: c.Privileged, ReadonlyRootfs: c.ReadOnly, UTSMode: c.Namespaces.UTS, UsernsMode: c.Namespaces.User, ShmSize: c.ShmSize, StorageOpt: c.StorageOptions(),
		Sysctls: c.Sysctls, Annotations: maps.Clone(c.Annotations), Init: c.Init, CgroupParent: c.CgroupParent}
	if len(c.UIDMap) > 0 {
		h.IDMappings = &InspectedIDMappings{container.FormatIDMaps(c.UIDMap), container.FormatIDMaps(c.GIDMap)}
	}
	l := c.Resources
	h.CPUShares, h.Memory, h.NanoCPUs, h.CPUPeriod, h.CPUQuota = l.CPUShares, l.Memory, l.NanoCPUs, l.CPUPeriod, l.CPUQuota
	h.CpusetCpus, h.CpusetMems, h.MemoryReservation, h.MemorySwap, h.PidsLimit = l.CPUs, l.MemoryNodes, l.MemoryReservation, l.MemorySwap, l.Pids
	h.MemorySwappiness, h.OomKillDisable = l.Swappiness, l.OOMKillDisable
	h.setBlockIO(l.BlockIOWeight, c.BlockIO)
	if c.OOMScoreAdj != nil {
		h.OomScoreAdj = *c.OOMScoreAdj
	}
	h.DNSOptions, h.DNSSearch = c.DNS.Options, c.DNS.Search
	h.PortBindings, h.PublishAllPorts = inspectedBindings(c.Ports), c.PublishAll
	h.SecurityOpt = c.Security.Options()
	for _, d := range c.Devices {
		h.Devices = append(h.Devices, InspectedDevice{d.Host, d.Container, d.Access})
	}
	for _, u := range c.Ulimits {
		h.Ulimits = append(h.Ulimits, InspectedUlimit{u.Name, u.Hard, u.Soft})
	}
	for _, from := range c.VolumesFrom {
		mode := ""
		if from.ReadOnly {
			mode = ":ro"
		}
		h.VolumesFrom = append(h.VolumesFrom, from.Container+mode)
	}
	h.RestartPolicy.Name, h.RestartPolicy.MaximumRetryCount = c.Restart.Policy, c.Restart.Max
	if h.RestartPolicy.Name == "" {
		h.RestartPolicy.Name = container.RestartNo
	}
	h.LogConfig.Type, h.LogConfig.Config = c.LogDriver, c.LogOpts
	if h.LogConfig.Type == "" {
		h.LogConfig.Type = logs.JSONFile
	}
	if len(c.CDIDevices) > 0 {
		h.DeviceRequests = []InspectedDevices{{Driver: "cdi", DeviceIDs: c.CDIDevices}}
	}
	for _, g := range c.GPUs {
		h.DeviceRequests = append(h.DeviceRequests, InspectedDevices{Driver: "cdi", DeviceIDs: g.Names})
	}
	for _, x := range c.ExtraHosts {
		h.ExtraHosts = append(h.ExtraHosts, x.Name+":"+x.IP)
	}
	for _, m := range c.Mounts {
		if m.Type == container.MountBind {
			h.Binds = append(h.Binds, m.Source+":"+m.Target)
		}
		if m.Type == container.MountVolume && !m.Anonymous {
			h.Binds = append(h.Binds, m.Source+":"+m.Target)
		}
	}
	return h
}

func inspectedConfig(r container.Record) InspectedConfig {
	c := r.Config
	out := InspectedConfig{Domainname: c.Domainname, User: c.User, Tty: c.TTY, OpenStdin: c.Interactive, Cmd: c.Args, Image: c.Image,
		WorkingDir: c.WorkDir, Entrypoint: c.Entrypoint, Labels: c.Labels, StopTimeout: c.StopTimeout, StopSignal: c.StopSignal}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	if r.Spec != nil {
		out.Hostname = r.Spec.Hostname
		if p := r.Spec.Process; p != nil {
			out.Env, out.WorkingDir = p.Env, p.Cwd
		}
	}
	return out
}

// LayerSize counts the bytes that a container has written to files of its own layer.
func (e *Engine) LayerSize(r container.Record) (int64, error) {
	home, err := e.homeOf(r.Config)
	if err != nil {
		return 0, err
	}
	upper, closeUpper, err := openUpper(home, r)
	if err != nil {
		return 0, err
	}
	defer closeUpper()
	var size int64
	err = filepath.WalkDir(upper, func(_ string, d os.DirEntry, err error) error {
		if err != nil {
			if os.IsNotExist(err) {
				return nil // it comes and goes while we look
			}
			return err
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return nil
	})
	return size, err
}

// TopRequest asks for the processes of a container.
type TopRequest struct {
	Container string
	// Options are ps's; empty for those that docker gives it, -ef.
	Options []string
}

// Top lists the processes of a container as rows of cells, the first of them titles.
func (e *Engine) Top(ctx context.Context, r TopRequest) ([][]string, error) {
	record, rt, err := e.running(ctx, r.Container)
	if err != nil {
		return nil, err
	}
	pids, err := rt.Processes(record.ID)
	if err != nil {
		return nil, err
	}
	if len(r.Options) == 0 {
		return processTable(pids), nil
	}
	out, err := askPs(ctx, r.Options)
	if err != nil {
		return nil, err
	}
	return choosePIDs(out, pids)
}

// askPs runs ps(1) of the host. If it fails, the first line of what it says is in the error.
func askPs(ctx context.Context, options []string) (string, error) {
	out, err := exec.CommandContext(ctx, "ps", options...).Output()
	if err == nil {
		return string(out), nil
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if said, _, _ := strings.Cut(strings.TrimSpace(string(exit.Stderr)), "\n"); said != "" {
			return "", fmt.Errorf("ps %s: %s: %w", strings.Join(options, " "), said, err)
		}
	}
	return "", fmt.Errorf("ps %s: %w", strings.Join(options, " "), err)
}

// choosePIDs leaves the lines of ps that are about some processes.
func choosePIDs(out string, pids []int) ([][]string, error) {
	lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
	titles := strings.Fields(lines[0])
	column := slices.Index(titles, "PID")
	if column < 0 {
		return nil, fmt.Errorf("ps printed no column PID: %s", lines[0])
	}
	rows := [][]string{titles}
	for _, line := range lines[1:] {
		cells := strings.Fields(line)
		if len(cells) < len(titles) {
			continue
		}
		if pid, err := strconv.Atoi(cells[column]); err != nil || !slices.Contains(pids, pid) {
			continue
		}
		n := len(titles) - 1
		rows = append(rows, append(cells[:n:n], strings.Join(cells[n:], " ")))
	}
	return rows, nil
}

// processTable is what ps -ef prints of some processes.
func processTable(pids []int) [][]string {
	rows := [][]string{{"UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"}}
	boot := bootTime()
	for _, pid := range pids {
		if row := processRow(pid, boot, time.Now()); row != nil {
			rows = append(rows, row)
		}
	}
	return rows
}

// ticks is how many a second the kernel counts for processes on every architecture that
// containr runs on, see sysconf(_SC_CLK_TCK).
const ticks = 100

func processRow(pid int, boot, now time.Time) []string {
	dir := "/proc/" + strconv.Itoa(pid)
	text, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return nil // it has ended
	}
	end := strings.LastIndexByte(string(text), ')') // the process chooses its name
	_, name, ok := strings.Cut(string(text[:max(end, 0)]), "(")
	fields := strings.Fields(string(text[end+1:]))
	if !ok || len(fields) < 20 {
		return nil
	}
	number := func(i int) int64 { n, _ := strconv.ParseInt(fields[i], 10, 64); return n }
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return nil
	}
	used := time.Duration(number(11)+number(12)) * time.Second / ticks
	begun := boot.Add(time.Duration(number(19)) * time.Second / ticks)
	share := int64(0)
	if lived := now.Sub(begun); lived > 0 {
		share = int64(100 * used / lived)
	}
	began := begun.Local().Format("15:04")
	if now.Sub(begun) > 24*time.Hour {
		began = begun.Local().Format("Jan02")
	}
	command, _ := os.ReadFile(dir + "/cmdline")
	line := strings.TrimRight(strings.ReplaceAll(string(command), "\x00", " "), " ")
	if line == "" {
		line = "[" + name + "]"
	}
	return []string{strconv.Itoa(int(st.Uid)), strconv.Itoa(pid), fields[1], strconv.FormatInt(share, 10), began, terminalName(number(4)),
		fmt.Sprintf("%02d:%02d:%02d", int(used.Hours()), int(used.Minutes())%60, int(used.Seconds())%60), line}
}

// terminalName is the name of a terminal by its device number.
func terminalName(dev int64) string {
	if dev == 0 {
		return "?"
	}
	major, minor := unix.Major(uint64(dev)), unix.Minor(uint64(dev))
	if major >= 136 && major <= 143 {
		return fmt.Sprintf("pts/%d", (major-136)*256+minor)
	}
	return "?"
}

func bootTime() time.Time {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return time.Now()
	}
	return time.Now().Add(-time.Duration(now.Nano()))
}
