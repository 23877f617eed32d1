package cni

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/safepath"
	"github.com/containr/containr/internal/timerslack"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// patience is how long the plugins of a network may take together.
const patience = 2 * time.Minute

// Handles reports whether a call is one of this package.
func Handles(call plan.Call) bool {
	switch call.(type) {
	case linux.PinNamespace, linux.UnpinNamespace, linux.CNI, linux.CNIDelete:
		return true
	}
	return false
}

// Do makes a call that Handles knows. regs holds the results of earlier ones.
func Do(call plan.Call, regs map[plan.Reg]int) (int, error) {
	switch c := call.(type) {
	case linux.PinNamespace:
		return 0, pin(regs[c.PID], c.Path)
	case linux.CNI:
		a, err := readAttachment(c.Attachment)
		if err != nil {
			return 0, err
		}
		return 0, a.add()
	}
	return 0, Undo(call)
}

// Undo makes an inverse that Handles knows. It succeeds when there is nothing to undo.
func Undo(call plan.Call) error {
	switch c := call.(type) {
	case linux.UnpinNamespace:
		return unpin(c.Path)
	case linux.CNIDelete:
		a, err := readAttachment(c.Attachment)
		if err != nil {
			return err
		}
		return a.delete()
	}
	return fmt.Errorf("%s: no action of CNI", call.Name())
}

// ReadEntry reads an inverse from a journal; ok is false if it is none of this package.
func ReadEntry(action, operand string) (call plan.Call, ok bool) {
	switch action {
	case linux.UnpinNamespace{}.Name():
		return linux.UnpinNamespace{Path: operand}, true
	case linux.CNIDelete{}.Name():
		return linux.CNIDelete{Attachment: operand}, true
	}
	return nil, false
}

// pin gives the network namespace of a process a name. The directory is the container's own.
func pin(pid int, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	// Of a run whose journal was lost, or that plugins did not undo.
	if err := leftoverAt(filepath.Dir(filepath.Dir(path)), filepath.Base(filepath.Dir(path))).Disconnect(false); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|unix.O_CLOEXEC, 0o400)
	if err != nil {
		return err
	}
	f.Close()
	if err := unix.Mount("/proc/"+strconv.Itoa(pid)+"/ns/net", path, "", unix.MS_BIND, ""); err != nil {
		return &fs.PathError{Op: "mount", Path: path, Err: err}
	}
	return nil
}

// unpin takes it away, unless a plugin may still want to look into it.
func unpin(path string) error {
	entries, _ := os.ReadDir(filepath.Dir(path)) // if it is not there, nothing is
	if slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return strings.HasSuffix(e.Name(), lockSuffix) }) {
		return fmt.Errorf("network namespace %s: it is kept, as the container is not disconnected yet", path)
	}
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return &fs.PathError{Op: "umount", Path: path, Err: err}
	}
	for _, name := range []string{path, filepath.Dir(path)} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// lockOf is the file that is there from before the first plugin adds an interface until the last has deleted it. A plugin
// that is at work holds a lock on it.
func lockOf(netns, ifname string) (string, error) {
	if err := checkInterface(ifname); err != nil {
		return "", err
	}
	return filepath.Join(filepath.Dir(netns), ifname+lockSuffix), nil
}

const lockSuffix = ".lock"

func readAttachment(text string) (Attachment, error) {
	var a Attachment
	err := json.Unmarshal([]byte(text), &a)
	if err == nil {
		a.list, err = libcni.NetworkConfFromBytes(a.Config)
	}
	if err == nil {
		err = a.checkNames()
	}
	if err != nil {
		return a, fmt.Errorf("attachment to a CNI network: %w", err)
	}
	return a, nil
}

// runtimeConf is the attachment in the words of libcni.
func (a Attachment) runtimeConf() *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: a.Container, NetNS: a.Netns, IfName: a.Interface, Args: a.Args, CapabilityArgs: a.Capabilities}
}

// withLock does something while nobody else is at work for the interface. Plugins get the lock from the executor.
func (a Attachment) withLock(f *os.File, do func(context.Context, *libcni.CNIConfig) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), cmp.Or(a.within, patience))
	defer cancel()
	if err := durable.LockFile(ctx, f, durable.Exclusive); err != nil {
		return fmt.Errorf("%s: a plugin is still at work for the container: %w", a.title(), err)
	}
	err := do(ctx, libcni.NewCNIConfigWithCacheDir(a.Bin, a.Cache, &executor{lock: f, added: a.remember}))
	// What a plugin has left running for good is not at work: it may have inherited the descriptor.
	return errors.Join(err, unix.Flock(int(f.Fd()), unix.LOCK_UN))
}

// add connects.
func (a Attachment) add() error {
	path, err := lockOf(a.Netns, a.Interface)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := json.Marshal(a) // for who finds it when the container is gone: see Leftover
	if err == nil {
		_, err = f.WriteAt(text, 0)
	}
	if err != nil {
		return err
	}
	return a.withLock(f, func(ctx context.Context, c *libcni.CNIConfig) error {
		if a.Netavark != nil {
			return a.setup(ctx, f)
		}
		result, err := c.AddNetworkList(ctx, a.list, a.runtimeConf())
		if err != nil {
			return a.failure("ADD", err)
		}
		got, err := types100.NewResultFromResult(result)
		if err != nil {
			return a.failure("ADD", err)
		}
		return errors.Join(a.compare(got), a.writeHosts(got), a.writeResolvConf(got.DNS))
	})
}

// writeHosts gives the container's addresses its name. The file stays the same one, as it is mounted.
func (a Attachment) writeHosts(result *types100.Result) error {
	if a.Hosts == "" {
		return nil
	}
	text, err := os.ReadFile(a.Hosts)
	if err != nil {
		return err
	}
	var out strings.Builder
	for line := range strings.Lines(string(text)) {
		if !a.First || !strings.HasSuffix(line, "\t"+a.Hostname+"\n") {
			out.WriteString(line)
		}
	}
	for _, ip := range result.IPs {
		out.WriteString(ip.Address.IP.String() + "\t" + a.Hostname + "\n")
	}
	return os.WriteFile(a.Hosts, []byte(out.String()), 0o644)
}

// maxResolvConf bounds a file of name servers, in bytes.
const maxResolvConf = 1 << 16

// fromPlugins is how a file begins whose name servers are those of a network.
const fromPlugins = "# Plugins of CNI have named these.\n"

// writeResolvConf has the container ask whom the plugins of the network have named. What the container has written itself stays.
func (a Attachment) writeResolvConf(d types.DNS) error {
	if a.ResolvConf == "" {
		return nil
	}
	text, err := safepath.ReadOwn(a.ResolvConf, maxResolvConf)
	if errors.Is(err, safepath.ErrTooLarge) || errors.Is(err, safepath.ErrNotRegular) { // the container has made it its own
		return nil
	}
	if err != nil {
		return err
	}
	now := string(text)
	if a.First && strings.HasPrefix(now, fromPlugins) { // of the last start
		now = a.ResolvText
	}
	if now == a.ResolvText && len(d.Nameservers)+len(d.Search)+len(d.Options)+len(d.Domain) > 0 {
		now = resolvConf(a.ResolvText, d)
	}
	if now == string(text) {
		return nil
	}
	_, err = safepath.Rewrite(a.ResolvConf, text, []byte(now))
	return err
}

// resolvConf is a file of name servers, resolv.conf(5), with what d has in place of that of text.
func resolvConf(text string, d types.DNS) string {
	out := fromPlugins
	search := d.Search
	if len(search) == 0 && d.Domain != "" {
		search = []string{d.Domain}
	}
	for _, s := range d.Nameservers {
		out += "nameserver " + s + "\n"
	}
	if len(search) > 0 {
		out += "search " + strings.Join(search, " ") + "\n"
	}
	if len(d.Options) > 0 {
		out += "options " + strings.Join(d.Options, " ") + "\n"
	}
	replaced := map[string]bool{"nameserver": len(d.Nameservers) > 0, "search": len(search) > 0, "domain": len(search) > 0, "options": len(d.Options) > 0}
	for line := range strings.Lines(text) {
		if word, _, _ := strings.Cut(strings.TrimSpace(line), " "); !replaced[word] {
			out += line
		}
	}
	return out
}

// remember keeps what a plugin has printed, before the next one is executed: libcni does that at the end only, and
// there are plugins that can undo what they did only if they are told which addresses it was about. The form is libcni's.
func (a Attachment) remember(result []byte) error {
	if !json.Valid(result) {
		return nil // which libcni says
	}
	text, err := json.Marshal(struct {
		Kind         string          `json:"kind"`
		Container    string          `json:"containerId"`
		Config       []byte          `json:"config"`
		Interface    string          `json:"ifName"`
		Network      string          `json:"networkName"`
		Netns        string          `json:"netns"`
		Args         [][2]string     `json:"cniArgs,omitempty"`
		Capabilities map[string]any  `json:"capabilityArgs,omitempty"`
		Result       json.RawMessage `json:"result"`
	}{libcni.CNICacheV1, a.Container, a.Config, a.Interface, a.list.Name, a.Netns, a.Args, a.Capabilities, result})
	if err != nil {
		return err
	}
	dir := filepath.Join(a.Cache, "results")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, a.list.Name+"-"+a.Container+"-"+a.Interface), text, durable.Options{Volatile: true})
}

// delete disconnects, if anybody has begun to connect.
func (a Attachment) delete() error {
	path, err := lockOf(a.Netns, a.Interface)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	err = a.withLock(f, func(ctx context.Context, c *libcni.CNIConfig) error {
		if a.Netavark != nil {
			return a.teardown(ctx, f)
		}
		if err := c.DelNetworkList(ctx, a.list, a.runtimeConf()); err != nil {
			return a.failure("DEL", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return remove(path)
}

// failure says which network it is about, and what versions there are if that is the reason.
func (a Attachment) failure(verb string, err error) error {
	var said *types.Error
	if errors.As(err, &said) && said.Code == types.ErrIncompatibleCNIVersion {
		return fmt.Errorf("%s: %s: %v: %w", a.title(), verb, err, ErrVersion)
	}
	return fmt.Errorf("%s: %s: %v: %w", a.title(), verb, err, ErrPlugin) // and no error number: it is not that of a call of ours
}

// compare looks whether the container has what was asked for: a plugin may not know of that.
func (a Attachment) compare(got *types100.Result) error {
	for _, want := range a.Addresses {
		if !slices.ContainsFunc(got.IPs, func(ip *types100.IPConfig) bool { return ip.Address.IP.String() == want }) {
			return fmt.Errorf("%s: address %s: the plugins have given another: %w", a.title(), want, ErrNoCapability)
		}
	}
	if a.MAC != "" && !slices.ContainsFunc(got.Interfaces, func(i *types100.Interface) bool { return strings.EqualFold(i.Mac, a.MAC) && i.Sandbox != "" }) {
		return fmt.Errorf("%s: MAC address %s: the plugins have given another: %w", a.title(), a.MAC, ErrNoCapability)
	}
	return nil
}

// Connected is what a network's plugins have said that a container has.
type Connected struct {
	Network   string
	Interface string
	Container string
	Netns     string
	Result    *types100.Result
	// Config is the network's list of plugins as it was then.
	Config []byte
}

// Results are what was said for a container, or for all if it is empty, in no certain order.
func Results(cache, container string) ([]Connected, error) {
	c := libcni.NewCNIConfigWithCacheDir(nil, cache, &executor{})
	attachments, err := c.GetCachedAttachments(container)
	if err != nil {
		return nil, err
	}
	var list []Connected
	for _, a := range attachments {
		conf, err := libcni.NetworkConfFromBytes(a.Config)
		if err != nil {
			return nil, err
		}
		result, err := c.GetNetworkListCachedResult(conf, &libcni.RuntimeConf{ContainerID: a.ContainerID, IfName: a.IfName})
		if err != nil || result == nil {
			return nil, err
		}
		r, err := types100.NewResultFromResult(result)
		if err != nil {
			return nil, err
		}
		list = append(list, Connected{Network: a.Network, Interface: a.IfName, Container: a.ContainerID, Netns: a.NetNS, Result: r, Config: a.Config})
	}
	return list, nil
}

// Ready asks a network's plugins whether they could connect a container now. Before version 1.1.0 of the specification
// nobody can ask, and asked is false.
func Ready(n Network, at Place) (asked bool, err error) {
	if ok, err := version.GreaterThanOrEqualTo(n.List.CNIVersion, "1.1.0"); !ok {
		return false, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	a := Attachment{list: n.List}
	if err := libcni.NewCNIConfigWithCacheDir(at.Bin, at.Cache, &executor{}).GetStatusNetworkList(ctx, n.List); err != nil {
		return true, a.failure("STATUS", err)
	}
	return true, nil
}

// Check asks the plugins whether a container still has what they gave it. Before version 0.4.0 nobody can ask.
func Check(n Network, at Place, c Connected) (asked bool, err error) {
	list, err := libcni.NetworkConfFromBytes(c.Config)
	if err != nil {
		return false, err
	}
	if ok, err := version.GreaterThanOrEqualTo(list.CNIVersion, "0.4.0"); !ok || list.DisableCheck {
		return false, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	rt := &libcni.RuntimeConf{ContainerID: c.Container, IfName: c.Interface}
	api := libcni.NewCNIConfigWithCacheDir(at.Bin, at.Cache, &executor{})
	if _, rt, err = api.GetNetworkListCachedConfig(list, rt); err != nil {
		return true, err
	}
	rt.NetNS = c.Netns
	if err := api.CheckNetworkList(ctx, list, rt); err != nil {
		return true, (Attachment{list: list}).failure("CHECK", err)
	}
	return true, nil
}

// Collect has a network's plugins forget all but what those in valid have: everybody else's too, such as an address of a
// container of another engine that uses the same network.
func Collect(n Network, at Place, valid []Connected) error {
	if ok, err := version.GreaterThanOrEqualTo(n.List.CNIVersion, "1.1.0"); !ok {
		return errors.Join(err, fmt.Errorf("network %s%s (%s): GC is known from cniVersion 1.1.0 on, and it has %q: %w", Prefix, n.List.Name, n.File, n.List.CNIVersion, ErrVersion))
	}
	args := &libcni.GCArgs{ValidAttachments: []types.GCAttachment{}}
	for _, c := range valid {
		args.ValidAttachments = append(args.ValidAttachments, types.GCAttachment{ContainerID: c.Container, IfName: c.Interface})
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := libcni.NewCNIConfigWithCacheDir(at.Bin, at.Cache, &executor{}).GCNetworkList(ctx, n.List, args); err != nil {
		return (Attachment{list: n.List}).failure("GC", err)
	}
	return nil
}

// executor executes plugins for libcni.
type executor struct {
	version.PluginDecoder
	// lock, if there is one, is held by a plugin and all that it executes.
	lock *os.File
	// added, if it is set, is told what a plugin prints that has connected.
	added func(result []byte) error
}

// FindInPath finds a plugin.
func (x *executor) FindInPath(plugin string, paths []string) (string, error) {
	return Dirs{Bin: paths}.plugin(plugin)
}

// maxOutput bounds what a plugin may print, in bytes, on each of its two outputs.
const maxOutput = 1 << 20

// ExecPlugin executes a plugin. One that prints too much is ended, with its process group.
func (x *executor) ExecPlugin(ctx context.Context, path string, stdin []byte, environment []string) ([]byte, error) {
	running, end := context.WithCancel(ctx)
	defer end()
	cmd := exec.CommandContext(running, path)
	out, complaints := &bounded{name: "standard output", full: end}, &bounded{name: "standard error", full: end}
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = environment, bytes.NewReader(stdin), out, complaints
	// An interrupt from the terminal is for containr, which has the plugin undo what it did.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	if x.lock != nil {
		cmd.ExtraFiles = []*os.File{x.lock}
	}
	err := timerslack.Do(cmd.Run)
	if errors.Is(err, exec.ErrWaitDelay) { // it has left something running that holds its output
		err = nil
	}
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s: it did not end within %s", path, patience)
	case out.over || complaints.over:
		return nil, fmt.Errorf("%s: %w", path, errors.Join(out.err(), complaints.err()))
	case err == nil && x.added != nil && slices.Contains(environment, "CNI_COMMAND=ADD"):
		return out.text, x.added(out.text)
	case err == nil:
		return out.text, nil
	}
	said := &types.Error{}
	if json.Unmarshal(out.text, said) == nil && said.Code == types.ErrIncompatibleCNIVersion && slices.Contains(environment, "CNI_COMMAND=DEL") {
		return nil, nil // it does not know the version, and so has added nothing: those before it in the chain have
	}
	if said.Msg == "" {
		text := strings.TrimSpace(string(complaints.text) + " " + string(out.text))
		return nil, fmt.Errorf("%s: %w: %s", path, err, text)
	}
	return nil, said
}

// bounded keeps what is written to it, up to maxOutput bytes. The text is a field, and not a buffer that is embedded: io.Copy
// prefers a method ReadFrom to Write, and that of a buffer knows no bound.
type bounded struct {
	name string
	text []byte
	over bool
	// full is called when more is written than fits.
	full func()
}

// Write fails when it is too much, which has package exec close the pipe: what the plugin has left running is ended by that.
func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), maxOutput-len(b.text))
	b.text = append(b.text, p[:n]...)
	if n == len(p) {
		return n, nil
	}
	b.over = true
	b.full()
	return n, b.err()
}

// err says that it was too much.
func (b *bounded) err() error {
	if !b.over {
		return nil
	}
	return fmt.Errorf("it printed more than %d MiB to its %s", maxOutput>>20, b.name)
}
