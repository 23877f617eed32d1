package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"

	"github.com/containr/containr/internal/spelling"
	"github.com/containr/containr/internal/tty"
	"github.com/containr/containr/pkg/cdi"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/engine"
)

// runFlags collects the flags of `run`. What they mean for the container goes to
// config as the flags are read; the other fields are about this invocation.
type runFlags struct {
	config container.Config

	fileEnv    []string // of --env-file, which comes before that of --env
	entrypoint string
	detachKeys []byte
	step       bool
	detach     bool
	attach     attachTo
	input      *os.File // standard input of a container in the background; nil if it is as Config.Interactive says
	cidFile    string
	sigProxy   bool
	quiet      bool

	record func(*specs.LinuxSeccomp) // is told which system calls were made; nil unless they are recorded

	first container.Plug // what is said of the first network apart from --network

	set  *pflag.FlagSet
	verb string // run or create
	dir  string // the current directory
}

// newRunFlags binds the flags of `run` to a set.
func newRunFlags(set *pflag.FlagSet) *runFlags { return newContainerFlags(set, "run") }

// newContainerFlags binds the flags of a command that makes a container, run or create.
func newContainerFlags(set *pflag.FlagSet, verb string) *runFlags {
	r := &runFlags{set: set, verb: verb}
	r.config.LogOpts = map[string]string{}
	r.config.Labels, r.config.Annotations, r.config.Sysctls = map[string]string{}, map[string]string{}, map[string]string{}
	r.detachKeys, _ = tty.ParseKeys(tty.DefaultDetachKeys)
	set.SortFlags = false
	set.SetInterspersed(false)
	r.container()
	r.process()
	r.files()
	r.limits()
	r.security()
	r.namespaces()
	r.names()
	r.ports()
	return r
}

// binder adds flags of one group of the help text.
type binder struct {
	set   *pflag.FlagSet
	group string
}

// GroupAnnotation is where a flag notes its group, for the help text and the
// reference.
const GroupAnnotation = "containr_group"

func (b binder) note(name string) {
	if b.group == "" {
		return // it is one of those that need no heading of their own
	}
	notes, ok := groupNotes.Load(b.group)
	if !ok {
		notes, _ = groupNotes.LoadOrStore(b.group, map[string][]string{GroupAnnotation: {b.group}})
	}
	if f := b.set.Lookup(name); f.Annotations == nil {
		f.Annotations = notes.(map[string][]string)
	} else {
		b.set.SetAnnotation(name, GroupAnnotation, []string{b.group})
	}
}

// groupNotes are the annotations of the flags of a group, which share one map: a map for
// each of the hundred flags of run would be a fiftieth of all that it allocates. So nothing
// is to be added to a flag's annotations behind note.
var groupNotes sync.Map

func (b binder) bool(p *bool, name, short, usage string) {
	b.set.BoolVarP(p, name, short, false, usage)
	b.note(name)
}

func (b binder) string(p *string, name, short, usage string) {
	b.set.StringVarP(p, name, short, "", usage)
	b.note(name)
}

// value adds a flag whose values are read by read, each in turn. The first word
// in backquotes in usage is what the value is called.
func (b binder) value(name, short, usage string, read func(string) error) {
	b.set.VarP(&flagValue{read: read}, name, short, usage)
	b.note(name)
}

// alias adds a second name for a flag, which the help text does not show.
func (b binder) alias(name, of string) {
	f := b.set.Lookup(of)
	b.set.VarP(f.Value, name, "", f.Usage)
	second := b.set.Lookup(name)
	second.Hidden, second.Annotations = true, map[string][]string{aliasOf: {of}}
}

// aliasOf is the annotation of a flag that is another name for one.
const aliasOf = "alias of"

// flagValue is a pflag.Value that hands each text to a function.
type flagValue struct {
	read func(string) error
	last string
}

func (v *flagValue) Set(s string) error { v.last = s; return v.read(s) }
func (v *flagValue) String() string     { return v.last }
func (v *flagValue) Type() string       { return "value" }

// add returns a reader that appends what parse makes of each text.
func add[T any](to *[]T, parse func(string) (T, error)) func(string) error {
	return func(s string) error {
		v, err := parse(s)
		if err == nil {
			*to = append(*to, v)
		}
		return err
	}
}

// addAll is add for a text that means several.
func addAll[T any](to *[]T, parse func(string) ([]T, error)) func(string) error {
	return func(s string) error {
		v, err := parse(s)
		*to = append(*to, v...)
		return err
	}
}

// put returns a reader that keeps what parse makes of the last text.
func put[T any](to *T, parse func(string) (T, error)) func(string) error {
	return func(s string) error {
		v, err := parse(s)
		if err == nil {
			*to = v
		}
		return err
	}
}

// enter returns a reader that puts a pair into a map.
func enter(to map[string]string, parse func(string) (key, value string, err error)) func(string) error {
	return func(s string) error {
		key, value, err := parse(s)
		if err == nil {
			to[key] = value
		}
		return err
	}
}

func text(s string) (string, error) { return s, nil }

// number reads a whole number.
func number(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number", s)
	}
	return n, nil
}

func (r *runFlags) container() {
	b, c := binder{r.set, "Container"}, &r.config
	if r.verb == "run" {
		b.bool(&r.detach, "detach", "d", "run in the background, and print the container's id")
		b.value("attach", "a", "connect only `STREAM` with it: stdin, stdout, stderr; with stdin alone it stays in the background", r.attach.add)
	}
	b.bool(&c.AutoRemove, "rm", "", "remove the container when it ends")
	b.string(&c.Name, "name", "", "call the container `NAME`")
	b.bool(&c.Interactive, "interactive", "i", "keep standard input open")
	b.bool(&c.TTY, "tty", "t", "give the container a terminal")
	if r.verb == "run" {
		b.value("detach-keys", "", "the `KEYS` that leave a terminal (ctrl-p,ctrl-q)", put(&r.detachKeys, tty.ParseKeys))
		r.set.BoolVar(&r.sigProxy, "sig-proxy", true, "pass signals on to the program")
		b.note("sig-proxy")
	}
	b.string(&r.cidFile, "cidfile", "", "write the container's id to `FILE`, which must not be there")
	b.bool(&c.Init, "init", "", "put a small init in front of the program, which reaps orphans and passes signals on")
	b.string(&c.Pull, "pull", "", "fetch the image `WHEN`: always, missing, never")
	b.bool(&r.quiet, "quiet", "q", "say nothing while the image is fetched")
	b.string(&c.Platform, "platform", "", "run the image for `OS/ARCH[/VARIANT]`")
	b.value("label", "l", "note `KEY[=VALUE]` on the container", enter(c.Labels, container.ParseLabel))
	b.value("label-file", "", "read labels from `FILE`", r.readLabels)
	b.value("annotation", "", "put `KEY=VALUE` in the OCI specification", enter(c.Annotations, container.ParseLabel))
	b.string(&c.StopSignal, "stop-signal", "", "the `SIGNAL` that asks the program to end")
	b.value("stop-timeout", "", "kill it `SECONDS` after that (10); -1 for never", func(s string) error {
		n, err := number(s)
		timeout := int(n)
		c.StopTimeout = &timeout
		return err
	})
	b.value("restart", "", "start it again when it ends: `POLICY` no, always, on-failure[:MAX], on-unhealthy[:MAX], unless-stopped", put(&c.Restart, container.ParseRestart))
	r.health(b)
	b.string(&c.LogDriver, "log-driver", "", "keep what it writes with `DRIVER`: json-file, local, syslog, journald, gelf, fluentd, none")
	b.value("log-opt", "", "an `OPTION` of the log driver: max-size=SIZE, max-file=N, labels=..., syslog-address=..., gelf-address=..., fluentd-address=... and others", enter(c.LogOpts, container.ParseLogOption))
	if r.verb == "run" {
		b.bool(&r.step, "step", "", "wait for Enter before every step")
	}
}

// health has the flags of health checks.
func (r *runFlags) health(b binder) {
	h := &r.config.Health
	b.string(&h.Command, "health-cmd", "", "check it with the shell's `COMMAND`: it does its work if that ends with 0")
	probe := func(read func(string) (string, error)) func(string) error {
		return func(s string) error {
			url, err := read(s)
			if err == nil && h.Probe != "" && strings.SplitN(h.Probe, ":", 2)[0] != strings.SplitN(url, ":", 2)[0] {
				return fmt.Errorf("%s: it is to be checked by %s already: a container has one health check", s, h.Probe)
			}
			h.Probe = url
			return err
		}
	}
	b.value("health-http", "", "check it by HTTP at `[http[s]://][HOST][:PORT][/PATH]` of its network: it answers 200 to 399", probe(container.ParseHealthHTTP))
	b.value("health-tcp", "", "check that it takes a connection at `[HOST:]PORT` of its network", probe(container.ParseHealthTCP))
	b.value("health-grpc", "", "check it by gRPC's health checking protocol at `[HOST:]PORT[/SERVICE]` of its network: it answers SERVING", probe(container.ParseHealthGRPC))
	b.value("health-interval", "", "check it every `TIME` (30s)", put(&h.Interval, container.ParseHealthDuration))
	b.value("health-timeout", "", "a check that takes longer than `TIME` (30s) has failed", put(&h.Timeout, container.ParseHealthDuration))
	b.value("health-start-period", "", "do not count failures for `TIME` (0s) after its start", put(&h.StartPeriod, container.ParseHealthDuration))
	b.value("health-start-interval", "", "check it every `TIME` (5s) until then", put(&h.StartInterval, container.ParseHealthDuration))
	b.value("health-retries", "", "it is unhealthy after `NUMBER` failures in a row (3)", func(s string) error {
		n, err := number(s)
		if h.Retries = int(n); err == nil && n < 1 {
			return fmt.Errorf("%s: use a number from 1 on", s)
		}
		return err
	})
	b.string(&h.OnFailure, "health-on-failure", "", "do `ACTION` when it becomes unhealthy: none, kill, restart, stop")
	b.bool(&h.Off, "no-healthcheck", "", "leave out the check that the image asks for")
}

func (r *runFlags) process() {
	b, c := binder{r.set, "Program"}, &r.config
	b.value("env", "e", "set a variable: `KEY=VALUE`, or KEY to pass on ours", add(&c.Env, r.parseEnv))
	b.value("env-file", "", "read variables from `FILE`", r.readEnv)
	b.string(&c.WorkDir, "workdir", "w", "start in the directory `DIR`")
	b.string(&c.User, "user", "u", "run as `USER[:GROUP]`, names or numbers")
	b.value("group-add", "", "add `GROUP` to the user's groups", add(&c.GroupAdd, text))
	b.string(&r.entrypoint, "entrypoint", "", "run `PROGRAM` instead of the image's entrypoint; empty for none")
	b.value("umask", "", "the `UMASK` of the program, in octal", func(s string) error {
		n, err := container.ParseUmask(s)
		c.Umask = &n
		return err
	})
}

func (r *runFlags) files() {
	b, c := binder{r.set, "Files"}, &r.config
	volume := func(s string) (container.Mount, error) { return container.ParseVolume(s, r.workingDir()) }
	mount := func(s string) (container.Mount, error) { return container.ParseMount(s, r.workingDir()) }
	b.value("volume", "v", "show `SOURCE:TARGET[:ro]`, a volume or a path of the host, in the container; TARGET alone is a volume without a name", add(&c.Mounts, volume))
	b.value("mount", "", "mount what `SPEC` says: type=volume|bind|tmpfs|image|devpts,target=DIR,...", add(&c.Mounts, mount))
	b.value("volume-driver", "", "have volumes that are made for it kept by `DRIVER`: local, or the name of a volume plugin", put(&c.VolumeDriver, container.ParseVolumeDriver))
	b.value("volumes-from", "", "mount what `CONTAINER[:ro|rw]` has mounted too", add(&c.VolumesFrom, container.ParseVolumesFrom))
	b.value("config", "", "show a config: `NAME[,target=/FILE][,mode=0444][,uid=0][,gid=0]`", add(&c.Configs, container.ParseConfig))
	b.value("secret", "", "show a secret in /run/secrets: `NAME[,target=FILE][,mode=0444][,uid=0][,gid=0]`, or in the environment: NAME,type=env[,target=VARIABLE]", add(&c.Secrets, container.ParseSecret))
	b.value("tmpfs", "", "mount an empty file system in memory: `DIR[:OPTIONS]`", add(&c.Mounts, container.ParseTmpfs))
	b.bool(&c.ReadOnly, "read-only", "", "make the root file system read-only")
	b.string(&c.Rootfs, "rootfs", "", "use the directory `DIR` as root file system, without an image")
	b.value("storage-opt", "", "bound what the container's own layer takes: `size=BYTES`, as root with the snapshotters overlay and erofs", put(&c.StorageSize, container.ParseStorageOption))
	b.value("shm-size", "", "the `SIZE` of /dev/shm (64m)", put(&c.ShmSize, container.ParseSize))
	b.value("device", "", "show the device `HOST[:CONTAINER][:rwm]`, or one by its name, VENDOR/CLASS=NAME", r.readDevice)
	b.value("gpus", "", "show graphics processors: `WHICH` is all, a number, or device=NAME,...", add(&c.GPUs, container.ParseGPUs))
	b.value("cdi-spec-dir", "", "look for descriptions of devices with names in `DIR` (/etc/cdi, /var/run/cdi)", add(&c.CDISpecDirs, absolute))
	b.value("device-cgroup-rule", "", "allow devices by `RULE`, such as 'c 13:* rw'", add(&c.DeviceRules, container.ParseDeviceRule))
}

// bindResources makes the flags of limits that can change while a container runs.
func bindResources(b binder, l *container.Resources) {
	b.value("memory", "m", "at most `SIZE` of memory", put(&l.Memory, container.ParseSize))
	b.value("memory-swap", "", "at most `SIZE` of memory and swap together; -1 for no limit", put(&l.MemorySwap, container.ParseMemorySwap))
	b.value("memory-reservation", "", "keep `SIZE` of memory when it gets scarce", put(&l.MemoryReservation, container.ParseSize))
	b.value("cpus", "", "at most the time of `NUMBER` CPUs, such as 1.5", put(&l.NanoCPUs, container.ParseCPUs))
	b.value("cpu-shares", "c", "a `WEIGHT` against other containers (1024)", put(&l.CPUShares, number))
	b.value("cpu-period", "", "measure CPU time in periods of `MICROSECONDS`", put(&l.CPUPeriod, number))
	b.value("cpu-quota", "", "`MICROSECONDS` of CPU time in each period", put(&l.CPUQuota, number))
	b.string(&l.CPUs, "cpuset-cpus", "", "run on the CPUs in `LIST`, such as 0-3,6")
	b.string(&l.MemoryNodes, "cpuset-mems", "", "use the memory nodes in `LIST`")
	b.value("pids-limit", "", "at most `NUMBER` processes; -1 for no limit", put(&l.Pids, number))
	b.value("blkio-weight", "", "a `WEIGHT` against other containers at disks, from 10 to 1000", put(&l.BlockIOWeight, container.ParseIOWeight))
}

func (r *runFlags) limits() {
	b, l := binder{r.set, "Limits"}, &r.config.Resources
	bindResources(b, l)
	io := &r.config.BlockIO
	b.value("blkio-weight-device", "", "the same for one disk: `DEVICE:WEIGHT`", add(&io.Weights, container.ParseDeviceWeight))
	b.value("device-read-bps", "", "read at most `DEVICE:SIZE` from a disk in a second, such as /dev/sda:10m", add(&io.ReadBytes, container.ParseDeviceRate))
	b.value("device-write-bps", "", "write at most `DEVICE:SIZE` in a second", add(&io.WriteBytes, container.ParseDeviceRate))
	b.value("device-read-iops", "", "read at most `DEVICE:NUMBER` times in a second", add(&io.ReadOps, container.ParseDeviceOps))
	b.value("device-write-iops", "", "write at most `DEVICE:NUMBER` times in a second", add(&io.WriteOps, container.ParseDeviceOps))
	b.value("memory-swappiness", "", "how eagerly its memory is swapped out: `NUMBER` from 0 to 100, -1 for as the host does", func(s string) error {
		n, err := number(s)
		if l.Swappiness = &n; n == -1 {
			l.Swappiness = nil
		}
		return err
	})
	b.bool(&l.OOMKillDisable, "oom-kill-disable", "", "have its programs wait for memory, instead of killing one")
	b.value("ulimit", "", "a limit of setrlimit(2): `NAME=SOFT[:HARD]`", add(&r.config.Ulimits, container.ParseUlimit))
	b.value("oom-score-adj", "", "kill it later or earlier when memory runs out: `NUMBER` from -1000 to 1000", func(s string) error {
		n, err := number(s)
		adj := int(n)
		r.config.OOMScoreAdj = &adj
		return err
	})
	b.string(&r.config.CgroupParent, "cgroup-parent", "", "make the container's cgroup below `PATH`")
}

func (r *runFlags) security() {
	b, c := binder{r.set, "Security"}, &r.config
	b.value("cap-add", "", "give the program `CAPABILITY`, or ALL", add(&c.CapAdd, container.ParseCapability))
	b.value("cap-drop", "", "take `CAPABILITY`, or ALL, from the program", add(&c.CapDrop, container.ParseCapability))
	b.value("security-opt", "", "`OPTION`: no-new-privileges, seccomp=default|strict|unconfined|FILE, systempaths=unconfined, landlock=DIR[:DIR...], apparmor=PROFILE, label=...", c.Security.Set)
	b.bool(&c.Privileged, "privileged", "", "give the container all that the host has to give")
}

func (r *runFlags) namespaces() {
	b, c := binder{r.set, "Namespaces"}, &r.config
	n := &c.Namespaces
	b.value("network", "", "connect it with `NETWORK` (bridge; for an ordinary user builtin): its name, bridge, builtin, pasta, slirp4netns, none, host, container:NAME, ns:PATH; or name=NAME,ip=IP,alias=NAME,...", add(&c.Networks, container.ParsePlug))
	b.alias("net", "network")
	b.string(&n.PID, "pid", "", "`WHOSE` processes it sees: private, host or container:NAME")
	b.string(&n.IPC, "ipc", "", "`WHOSE` shared memory it sees: private, host, shareable, none or container:NAME")
	b.string(&n.UTS, "uts", "", "`WHOSE` host name it has: private, host or container:NAME")
	b.string(&n.Cgroup, "cgroupns", "", "`WHOSE` cgroup names it sees: private, host or container:NAME")
	b.string(&n.User, "userns", "", "`WHOSE` users it has: auto, keep-id, nomap, private, host or container:NAME; options as in auto:size=N or keep-id:uid=N,gid=N")
	b.string(&c.UsersRemap, "userns-remap", "", "have its users be the subordinate ids of `USER[:GROUP]`, or of containr by the word default, if it asks for no others")
	b.value("uidmap", "", "map user ids: `CONTAINER:HOST[:SIZE]`", add(&c.UIDMap, container.ParseIDMap))
	b.value("gidmap", "", "map group ids: `CONTAINER:HOST[:SIZE]`", add(&c.GIDMap, container.ParseIDMap))
	b.value("sysctl", "", "set a kernel parameter of its namespaces: `NAME=VALUE`", enter(c.Sysctls, container.ParseSysctl))
}

func (r *runFlags) names() {
	b, c := binder{r.set, "Names"}, &r.config
	b.string(&c.Hostname, "hostname", "h", "the container's host `NAME`")
	b.string(&c.Domainname, "domainname", "", "the container's NIS domain `NAME`")
	b.value("add-host", "", "put `NAME:IP` in /etc/hosts", add(&c.ExtraHosts, container.ParseHost))
	b.value("dns", "", "ask the name server `IP`", add(&c.DNS.Servers, container.ParseDNSServer))
	b.value("dns-search", "", "search names in `DOMAIN`; . for none", add(&c.DNS.Search, container.ParseDNSSearch))
	b.value("dns-option", "", "put `OPTION` in /etc/resolv.conf", add(&c.DNS.Options, container.ParseDNSOption))
	b.alias("dns-opt", "dns-option")
}

// readDevice reads a device: a path, or a name of the Container Device Interface.
func (r *runFlags) readDevice(s string) error {
	if !strings.HasPrefix(s, "/") && strings.Contains(s, "=") {
		if err := cdi.CheckName(s); err != nil {
			return err
		}
		r.config.CDIDevices = append(r.config.CDIDevices, s)
		return nil
	}
	d, err := container.ParseDevice(s)
	if err == nil {
		r.config.Devices = append(r.config.Devices, d)
	}
	return err
}

// ports has the flags of networks, but for --network itself.
func (r *runFlags) ports() {
	b, c, f := binder{r.set, "Network"}, &r.config, &r.first
	b.value("publish", "p", "lead a port of the host to it: `[[IP:][PORT]:]PORT[/PROTOCOL]`; ports may be ranges", addAll(&c.Ports, container.ParsePorts))
	b.value("publish-policy", "", "who decides about what comes for published ports, `POLICY`: "+container.PublishNAT+", rules lead it to the container past the host's rules for what comes in; "+
		container.PublishFirewall+", those decide, as a program of the host listens", put(&c.PublishPolicy, container.ParsePublishPolicy))
	b.bool(&c.PublishAll, "publish-all", "P", "do so with all ports that the image and --expose name")
	b.value("expose", "", "say that the program listens at `PORT[/PROTOCOL]`", addAll(&c.Expose, container.ParseExposed))
	b.value("ip", "", "its `ADDRESS` in the first network", put(&f.IPv4, container.ParseIPv4))
	b.value("ip6", "", "its IPv6 `ADDRESS` there", put(&f.IPv6, container.ParseIPv6))
	b.value("mac-address", "", "the `ADDRESS` of its network card there", put(&f.MAC, container.ParseMAC))
	b.value("policy", "", "let it talk to those alone, and they to it, that the policy in `FILE` names", r.readPolicy)
	b.value("ingress", "", "let in only what a `RULE` names, such as name=client,port=80; or deny, for nothing", r.direction(false))
	b.value("egress", "", "let out only what a `RULE` names, such as cidr=192.0.2.0/24,port=443/tcp or dns=example.org; or deny, for nothing", r.direction(true))
	b.value("network-alias", "", "let others in the first network find it by `NAME`, too", add(&f.Aliases, container.ParseAlias))
}

// plugs puts --network, and what is said of the first of them, together.
func (r *runFlags) plugs(c *container.Config) error {
	f := r.first
	asked := f.IPv4 != "" || f.IPv6 != "" || f.MAC != "" || len(f.Aliases) > 0
	word := len(c.Networks) > 0 && container.IsNetworkWord(c.Networks[0].Network)
	switch {
	case len(c.Networks) == 0 && asked:
		c.Networks = []container.Plug{{Network: container.NetworkBridge}}
	case word && len(c.Networks) == 1 && !asked:
		c.Namespaces.Network, c.Networks = c.Networks[0].Network, nil
		return nil
	case word && asked:
		return usageErrorf("--ip, --ip6, --mac-address and --network-alias cannot be used with --network %s", c.Networks[0].Network)
	}
	if asked {
		p := &c.Networks[0]
		p.IPv4, p.IPv6, p.MAC = cmp.Or(f.IPv4, p.IPv4), cmp.Or(f.IPv6, p.IPv6), cmp.Or(f.MAC, p.MAC)
		p.Aliases = append(p.Aliases, f.Aliases...)
	}
	return nil
}

func (r *runFlags) workingDir() string {
	if r.dir == "" {
		r.dir, _ = os.Getwd() // a relative path then counts from /, and is not found
	}
	return r.dir
}

func (r *runFlags) parseEnv(s string) (string, error) { return container.ParseEnv(s, os.LookupEnv) }

func (r *runFlags) readEnv(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	env, err := container.ParseEnvFile(name, f, os.LookupEnv)
	r.fileEnv = append(r.fileEnv, env...)
	return err
}

func (r *runFlags) readLabels(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	labels, err := container.ParseLabelFile(name, f)
	for key, value := range labels {
		if _, said := r.config.Labels[key]; !said {
			r.config.Labels[key] = value
		}
	}
	return err
}

// finish returns the configuration that the flags and the arguments after them
// describe: IMAGE [COMMAND] [ARG...], without IMAGE if --rootfs is given.
func (r *runFlags) finish(args []string) (container.Config, error) {
	c := r.config
	if c.Rootfs == "" {
		if len(args) == 0 {
			return c, &usageError{text: r.verb + ": no image is named", hint: "usage: containr " + r.verb + " [FLAGS] IMAGE [COMMAND] [ARG...]"}
		}
		c.Image, args = args[0], args[1:]
	}
	c.Args = args
	c.Env = append(r.fileEnv, c.Env...)
	if r.set.Changed("entrypoint") {
		c.Entrypoint = []string{}
		if r.entrypoint != "" {
			c.Entrypoint = []string{r.entrypoint}
		}
	}
	c.Interactive = c.Interactive || r.attach.in
	if err := r.attach.check(c, r.detach); err != nil {
		return c, err
	}
	err := r.plugs(&c)
	if err != nil {
		return c, err
	}
	if c.Rootfs, err = absolute(c.Rootfs); err != nil {
		return c, err
	}
	c.Security.Seccomp, err = seccompFile(c.Security.Seccomp)
	return c, err
}

// seccompFile makes what a filter was called a path, if it is one. A word that is neither the name of a filter nor that
// of a file here may be a misspelt one of the former.
func seccompFile(s string) (string, error) {
	if !container.SeccompFile(s) {
		return s, nil
	}
	if !strings.Contains(s, "/") {
		if _, err := os.Lstat(s); errors.Is(err, fs.ErrNotExist) {
			if near := spelling.Nearest(s, container.SeccompNames()); near != "" {
				err := fmt.Errorf("seccomp profile: %s: %w", s, engine.ErrNoProfile)
				return s, &statusError{engine.ExitStatus(err), &usageError{text: err.Error(), hint: "did you mean seccomp=" + near + "?", err: err}}
			}
		}
	}
	return absolute(s)
}
