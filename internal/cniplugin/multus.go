package cniplugin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/utils"
	"github.com/containernetworking/cni/pkg/version"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/pkg/network/cni"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// multus connects a container with several networks: the first is that of its configuration, and the others are those that its
// configuration or an annotation asks for. There is no Kubernetes to ask: the annotation comes as the capability argument of
// containerd's, and what networks there are is in a directory of files.
//
// What plugins complain of becomes part of our own error, and not the cause of one: of several that print an error only one would be seen.
//
// Before the first network is asked, a note says which there are, with all that their plugins are told. DEL goes by the note alone, in
// reverse, and by all of it: a network that fails keeps none of the others from being left. The note goes when all have succeeded.
//
// Beside the note is a lock, which plugins inherit: whoever comes after one that was killed waits until the plugins that it called have ended.

// Directories, unless the configuration names others: those of the program of that name.
const (
	multusConf = "/etc/cni/multus/net.d"
	multusDir  = "/var/lib/cni/multus"
)

// annotationsCapability is the capability argument in which containerd hands over a pod's annotations.
const annotationsCapability = "io.kubernetes.cri.pod-annotations"

// multusConfig is what it is told beside what all plugins are.
type multusConfig struct {
	// Delegates: the first is the container's first network, and the others are behind it, net1 and so on.
	Delegates []json.RawMessage `json:"delegates"`
	// ClusterNetwork is the name of the first network, if there are no Delegates.
	ClusterNetwork string `json:"clusterNetwork"`
	// Networks are those that every container is in, in one of the annotation's forms.
	Networks json.RawMessage `json:"networks"`
	ConfDir  string          `json:"confDir"`
	CNIDir   string          `json:"cniDir"`
	Runtime  map[string]any  `json:"runtimeConfig"`
	// Isolated keeps pods from asking for networks of other namespaces, but those of GlobalNamespaces, which has commas in it.
	Isolated         bool   `json:"namespaceIsolation"`
	GlobalNamespaces string `json:"globalNamespaces"`
}

// multusPatience is how long a plugin is waited for that was called before.
const multusPatience = 2 * time.Minute

// locked does something while nobody else is at work for the container's interface, nor a plugin of who was killed. A plugin that
// leaves something running for good may leave it the lock as well, so the file goes each time, and the next one is another.
func (r *request) locked(m multusConfig, do func() error) error {
	if err := os.MkdirAll(m.CNIDir, 0o700); err != nil {
		return err
	}
	path := filepath.Join(m.CNIDir, r.attachment().name()+lockSuffix)
	ctx, cancel := context.WithTimeout(context.Background(), multusPatience)
	defer cancel()
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := durable.LockFile(ctx, f, durable.Exclusive); err != nil {
			return fmt.Errorf("container %s, interface %s: a plugin that was called for it before is still at work: %w", r.Container, r.Interface, err)
		}
		ours, err := f.Stat()
		if err != nil {
			return err
		}
		if there, err := os.Lstat(path); err != nil || !os.SameFile(ours, there) {
			continue // whoever had it has taken it away
		}
		r.lock = f
		return errors.Join(do(), os.Remove(path), unix.Flock(int(f.Fd()), unix.LOCK_UN))
	}
}

const lockSuffix = ".lock"

// joined is a network that a container is in, as it is noted.
type joined struct {
	Config       json.RawMessage `json:"config"`
	Interface    string          `json:"interface"`
	Args         [][2]string     `json:"args,omitempty"`
	Capabilities map[string]any  `json:"capabilities,omitempty"`
	Gateways     []netip.Addr    `json:"gateways,omitempty"`

	list *libcni.NetworkConfigList
}

// multus reads the configuration.
func (r *request) multus() (multusConfig, error) {
	m := multusConfig{ConfDir: multusConf, CNIDir: multusDir}
	if err := json.Unmarshal(r.Raw, &m); err != nil {
		return m, types.NewError(types.ErrDecodingFailure, err.Error(), "")
	}
	for key, dir := range map[string]string{"confDir": m.ConfDir, "cniDir": m.CNIDir} {
		if !filepath.IsAbs(dir) {
			return m, invalid("%s %q: it is no absolute path", key, dir)
		}
	}
	m.CNIDir = filepath.Join(m.CNIDir, r.Config.Name)
	if len(m.Delegates) == 0 && m.ClusterNetwork == "" {
		return m, invalid("delegates, clusterNetwork: which is the container's first network?")
	}
	return m, nil
}

func (r *request) bin() []string { return filepath.SplitList(os.Getenv("CNI_PATH")) }

// first are the networks that the configuration itself has.
func (r *request) first(m multusConfig) ([]cni.Network, error) {
	if len(m.Delegates) == 0 {
		n, err := (cni.Dirs{Conf: m.ConfDir, Bin: r.bin()}).Find(m.ClusterNetwork)
		if err != nil {
			return nil, invalid("clusterNetwork: %v", err)
		}
		return []cni.Network{n}, nil
	}
	var list []cni.Network
	for i, raw := range m.Delegates {
		n, err := cni.Parse(fmt.Sprintf("delegates[%d]", i), raw)
		if err != nil {
			return nil, invalid("%v", err)
		}
		list = append(list, n)
	}
	return list, nil
}

// find looks for a network that is asked for by name. Those of a namespace are in the directory of its name in confDir. Who names
// none means that of the pod, and what is in confDir itself is for all of them.
func (r *request) find(m multusConfig, s cni.Selection) (cni.Network, error) {
	own := cmp.Or(r.Args["K8S_POD_NAMESPACE"], defaultNamespace)
	namespace := cmp.Or(s.Namespace, own)
	if err := utils.ValidateNetworkName(namespace); err != nil {
		return cni.Network{}, invalid("namespace %q: it is no name: letters, digits, _ . and -, the first a letter or digit", namespace)
	}
	if m.Isolated && namespace != own && !slices.Contains(strings.Split(m.GlobalNamespaces, ","), namespace) {
		return cni.Network{}, invalid("network %s/%s: the pod is in namespace %s, and namespaceIsolation keeps it to that", namespace, s.Name, own)
	}
	n, err := (cni.Dirs{Conf: filepath.Join(m.ConfDir, namespace), Bin: r.bin()}).Find(s.Name)
	if errors.Is(err, cni.ErrNotFound) && !errors.Is(err, cni.ErrInvalid) && (s.Namespace == "" || s.Namespace == defaultNamespace) {
		n, err = cni.Dirs{Conf: m.ConfDir, Bin: r.bin()}.Find(s.Name)
	}
	if err != nil {
		return n, invalid("%v", err)
	}
	return n, nil
}

// defaultNamespace is that of pods that say nothing of theirs.
const defaultNamespace = "default"

// selections are the networks that are asked for by name, when there are some already beside the first.
func (r *request) selections(m multusConfig, place int) ([]cni.Selection, error) {
	var texts []string
	if len(m.Networks) > 0 && string(m.Networks) != "null" {
		text := string(m.Networks)
		if json.Unmarshal(m.Networks, &text) != nil {
			text = string(m.Networks)
		}
		texts = append(texts, text)
	}
	if annotations, ok := m.Runtime[annotationsCapability].(map[string]any); ok {
		if text, ok := annotations[cni.NetworksAnnotation].(string); ok && text != "" {
			texts = append(texts, text)
		}
	}
	var all []cni.Selection
	for _, text := range texts {
		list, err := cni.ParseNetworksAfter(text, place+len(all))
		if err != nil {
			return nil, invalid("%v", err)
		}
		all = append(all, list...)
	}
	return all, nil
}

// joins decides which networks the container is to be in. All of them are found before any is asked.
func (r *request) joins(m multusConfig) ([]joined, error) {
	own, err := r.first(m)
	if err != nil {
		return nil, err
	}
	selected, err := r.selections(m, len(own)-1)
	if err != nil {
		return nil, err
	}
	args := [][2]string{{"IgnoreUnknown", "1"}}
	for _, key := range slices.Sorted(maps.Keys(r.Args)) {
		if key != "" && key != "IgnoreUnknown" {
			args = append(args, [2]string{key, r.Args[key]})
		}
	}
	var list []joined
	for i, n := range own {
		j := joined{Config: n.List.Bytes, Interface: r.Interface, Args: args, list: n.List}
		if i == 0 {
			j.Capabilities = m.Runtime
		} else {
			j.Interface = fmt.Sprintf("net%d", i)
		}
		list = append(list, j)
	}
	for _, s := range selected {
		n, err := r.find(m, s)
		if err != nil {
			return nil, err
		}
		j, err := selectedJoin(n, s, args)
		if err != nil {
			return nil, err
		}
		list = append(list, j)
	}
	seen := map[string]string{}
	for _, j := range list {
		if slices.ContainsFunc(j.list.Plugins, func(p *libcni.PluginConfig) bool { return p.Network.Type == "multus" }) {
			return nil, invalid("network %s: multus in multus", j.list.Name)
		}
		if other := seen[j.Interface]; other != "" {
			return nil, invalid("network %s: interface %s is that of network %s", j.list.Name, j.Interface, other)
		}
		seen[j.Interface] = j.list.Name
	}
	return list, nil
}

// selectedJoin puts what a selection asks for into the words of the interface.
func selectedJoin(n cni.Network, s cni.Selection, args [][2]string) (joined, error) {
	j := joined{Config: n.List.Bytes, Interface: s.Interface, Args: slices.Clone(args), Capabilities: map[string]any{}, Gateways: s.Gateways, list: n.List}
	need := func(asked bool, capability string, value any) error {
		if asked && !n.Has(capability) {
			return invalid("network %s: none of its plugins has the capability %s", s.Name, capability)
		}
		if asked {
			j.Capabilities[capability] = value
		}
		return nil
	}
	// The older way is an argument, for plugins that do not say that they know the newer one.
	if len(s.Addresses) == 1 && !n.Has("ips") {
		address, _, _ := strings.Cut(s.Addresses[0], "/")
		j.Args = append(j.Args, [2]string{"IP", address})
	} else if err := need(len(s.Addresses) > 0, "ips", s.Addresses); err != nil {
		return j, err
	}
	if s.MAC != "" && !n.Has("mac") {
		j.Args = append(j.Args, [2]string{"MAC", s.MAC})
	} else if err := need(s.MAC != "", "mac", s.MAC); err != nil {
		return j, err
	}
	if err := errors.Join(need(len(s.Ports) > 0, "portMappings", s.Ports), need(s.Bandwidth != (cni.Bandwidth{}), "bandwidth", s.Bandwidth)); err != nil {
		return j, err
	}
	for _, key := range slices.Sorted(maps.Keys(s.Args)) {
		// What the caller says of a container, such as whose it is, is not for its annotation to change.
		if slices.ContainsFunc(args, func(a [2]string) bool { return a[0] == key }) {
			return j, invalid("network %s: cni-args: %s is the caller's to say", s.Name, key)
		}
		j.Args = append(j.Args, [2]string{key, fmt.Sprint(s.Args[key])})
	}
	return j, nil
}

// note is the file about a container, and status the one with what came of its networks, in the annotation's words.
func (r *request) note(m multusConfig) string {
	return filepath.Join(m.CNIDir, r.attachment().name()+".json")
}

func (r *request) statusFile(m multusConfig) string {
	return filepath.Join(m.CNIDir, r.attachment().name()+".status")
}

// caller calls the plugins of networks.
func (r *request) caller(m multusConfig) *libcni.CNIConfig {
	return libcni.NewCNIConfigWithCacheDir(r.bin(), m.CNIDir, &delegate{lock: r.lock})
}

func (r *request) runtimeConf(j joined) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: r.Container, NetNS: r.Netns, IfName: j.Interface, Args: j.Args, CapabilityArgs: j.Capabilities}
}

// addMultus connects the container with all of its networks, or with none.
func addMultus(r *request) (*types100.Result, error) {
	m, err := r.multus()
	if err != nil {
		return nil, err
	}
	list, err := r.joins(m)
	if err != nil {
		return nil, err
	}
	var first *types100.Result
	err = r.locked(m, func() error {
		first, err = r.join(m, list)
		return err
	})
	return first, err
}

// join connects it with the networks of a list, the first one first, and notes that before.
func (r *request) join(m multusConfig, list []joined) (*types100.Result, error) {
	if _, err := os.Lstat(r.note(m)); err == nil {
		return nil, fmt.Errorf("%s: the container is connected already, or was not disconnected: DEL does that", r.note(m))
	}
	text, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	if err := durable.WriteFile(r.note(m), text, durable.Options{}); err != nil {
		return nil, err
	}
	var first *types100.Result
	var status []cni.Status
	for i, j := range list {
		got, err := r.joinOne(m, j)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("network %s, interface %s: ADD: %v", j.list.Name, j.Interface, err), r.leave(m, list[:i+1]))
		}
		if first == nil {
			first = got
		}
		status = append(status, cni.Connected{Network: j.list.Name, Interface: j.Interface, Result: got}.Status(i == 0))
	}
	text, err = json.Marshal(status)
	if err == nil {
		err = durable.WriteFile(r.statusFile(m), text, durable.Options{})
	}
	if err != nil {
		return nil, errors.Join(err, r.leave(m, list))
	}
	return first, nil
}

// joinOne connects it with one network, and leads what is for elsewhere there if that was asked for.
func (r *request) joinOne(m multusConfig, j joined) (*types100.Result, error) {
	result, err := r.caller(m).AddNetworkList(context.Background(), j.list, r.runtimeConf(j))
	if err != nil {
		return nil, err
	}
	b := plan.Build(plan.Host, plan.NetworkChapter)
	for i, gateway := range j.Gateways {
		if i == 0 {
			b.Do("the network that leads to everywhere else", linux.FindLink{PID: thread, Link: j.Interface}).As("link")
		}
		b.Do("what is for elsewhere leaves there", linux.AddRoute{PID: thread, Link: "link", Gateway: string(gateway.AsSlice()), Replace: true})
	}
	if len(b.Steps) > 0 {
		if err := perform(r.Netns, b.Steps); err != nil {
			return nil, err
		}
	}
	return types100.NewResultFromResult(result)
}

// leave disconnects it from networks, the last one first. The note goes if all have succeeded.
func (r *request) leave(m multusConfig, list []joined) error {
	var failures []error
	for _, j := range slices.Backward(list) {
		if err := r.caller(m).DelNetworkList(context.Background(), j.list, r.runtimeConf(j)); err != nil {
			failures = append(failures, fmt.Errorf("network %s, interface %s: DEL: %v", j.list.Name, j.Interface, err))
		}
	}
	if len(failures) > 0 {
		return errors.Join(failures...)
	}
	for _, path := range []string{r.statusFile(m), r.note(m)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// noted reads a note; one that is not there is about no network.
func noted(path string) ([]joined, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var list []joined
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	for i := range list {
		if err == nil {
			list[i].list, err = libcni.NetworkConfFromBytes(list[i].Config)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}

func delMultus(r *request) error {
	m, err := r.multus()
	if err != nil {
		return err
	}
	return r.locked(m, func() error { return r.leaveNoted(m) })
}

// leaveNoted disconnects it from the networks of its note.
func (r *request) leaveNoted(m multusConfig) error {
	list, err := noted(r.note(m))
	if err != nil {
		return err
	}
	return r.leave(m, list)
}

// checkMultus asks all networks, and says all that they complain of.
func checkMultus(r *request) error {
	m, err := r.multus()
	if err != nil {
		return err
	}
	return r.locked(m, func() error { return r.check(m) })
}

func (r *request) check(m multusConfig) error {
	list, err := noted(r.note(m))
	if err != nil {
		return err
	}
	if list == nil {
		return fmt.Errorf("%s: it is not there: the container is in no network", r.note(m))
	}
	var failures []error
	for _, j := range list {
		if ok, err := version.GreaterThanOrEqualTo(j.list.CNIVersion, "0.4.0"); !ok || err != nil || j.list.DisableCheck {
			continue // nobody can ask
		}
		if err := r.caller(m).CheckNetworkList(context.Background(), j.list, r.runtimeConf(j)); err != nil {
			failures = append(failures, fmt.Errorf("network %s, interface %s: CHECK: %v", j.list.Name, j.Interface, err))
		}
	}
	return errors.Join(failures...)
}

// collectMultus disconnects containers that are no more.
func collectMultus(r *request) error {
	m, err := r.multus()
	if err != nil {
		return err
	}
	if err := r.checkValid(); err != nil {
		return err
	}
	for _, a := range r.Config.Valid {
		if utils.ValidateContainerID(a.Container) != nil || utils.ValidateInterfaceName(a.Interface) != nil {
			return invalid("cni.dev/valid-attachments: containerID %q, ifname %q: it is no name", a.Container, a.Interface)
		}
	}
	// One that was killed before it noted anything has left its lock.
	notes, err := filepath.Glob(filepath.Join(m.CNIDir, "*.json"))
	locks, lockErr := filepath.Glob(filepath.Join(m.CNIDir, "*"+lockSuffix))
	err = errors.Join(err, lockErr)
	names := map[string]bool{}
	for _, path := range append(notes, locks...) {
		names[strings.TrimSuffix(strings.TrimSuffix(filepath.Base(path), ".json"), lockSuffix)] = true
	}
	for _, a := range r.Config.Valid {
		delete(names, a.name())
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		gone := *r
		var whole bool
		if gone.Container, gone.Interface, whole = strings.Cut(name, ":"); !whole {
			err = errors.Join(err, fmt.Errorf("%s: it is no note of ours: which container is it about?", filepath.Join(m.CNIDir, name)))
			continue
		}
		gone.Netns = ""
		if goneErr := gone.locked(m, func() error { return gone.leaveNoted(m) }); goneErr != nil {
			err = errors.Join(err, fmt.Errorf("container %s: %w", gone.Container, goneErr))
		}
	}
	return err
}

// statusMultus asks whether the first networks could connect a container now.
func statusMultus(r *request) error {
	m, err := r.multus()
	if err != nil {
		return err
	}
	own, err := r.first(m)
	if err != nil {
		return types.NewError(codeUnavailable, err.Error(), "")
	}
	for _, n := range own {
		if ok, err := version.GreaterThanOrEqualTo(n.List.CNIVersion, "1.1.0"); !ok || err != nil {
			continue
		}
		if err := r.caller(m).GetStatusNetworkList(context.Background(), n.List); err != nil {
			return types.NewError(codeUnavailable, "network "+n.List.Name+": "+err.Error(), "")
		}
	}
	return nil
}
