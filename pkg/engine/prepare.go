package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/safepath"
	"github.com/containr/containr/pkg/cdi"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/network/usermode"
	"github.com/containr/containr/pkg/registry"
	"github.com/containr/containr/pkg/rootfs"
	"github.com/containr/containr/pkg/runtime"
	"github.com/containr/containr/pkg/seccomp/profile"
	"github.com/containr/containr/pkg/snapshot"
)

// maxUserDatabase bounds the image's /etc/passwd and /etc/group, in bytes.
const maxUserDatabase = 8 << 20

// prepared is a container that has everything but a process.
type prepared struct {
	config container.Config
	image  *image.Image // nil with --rootfs
	// imageConfig is the image's configuration as it is in the store.
	imageConfig []byte
	devices     *cdi.Devices
	chain       snapshot.ChainID
	driver      snapshot.Driver // "" with --rootfs
	home        *home
	place       *container.Reservation
	spec        *specs.Spec
	endpoints   []container.Endpoint
	published   []container.Port
	attachments []container.Attachment
	// resolvConf is what its resolv.conf says, if it has a network of its own.
	resolvConf string
	contents   map[string]container.Content
	held       []*durable.Lock // on the volumes it uses
	volumes    []string        // those that were made for it
}

// prepare does all of a run that comes before the first step of its plan. The
// caller cancels or commits place. On an error nothing is left but images.
func (e *Engine) prepare(ctx context.Context, c container.Config, id string, o prepareOptions) (*prepared, error) {
	machine, err := e.machine()
	if err != nil {
		return nil, err
	}
	if !o.joined {
		if err := e.findJoins(ctx, &c); err != nil {
			return nil, err
		}
	}
	if c.Mounts, err = e.mountsFrom(ctx, c); err != nil {
		return nil, err
	}
	if err := e.findSecrets(&c); err != nil {
		return nil, err
	}
	if c, err = e.preferBackend(c); err != nil {
		return nil, err
	}
	if machine.Network, machine.NoNetwork, err = e.defaultNetwork(c); err != nil {
		return nil, err
	}
	if err := e.remap(&c); err != nil {
		return nil, err
	}
	p := &prepared{config: container.Defaults(c, machine)}
	if err := container.Validate(p.config, machine); err != nil {
		return nil, err
	}
	if err := checkSources(p.config.Mounts); err != nil {
		return nil, err
	}
	if err := checkLogTarget(p.config); err != nil {
		return nil, err
	}
	if p.devices, err = findDevices(p.config); err != nil {
		return nil, err
	}
	if err := e.mapOwners(&p.config); err != nil {
		return nil, err
	}
	if p.home, err = e.homeOf(p.config); err != nil {
		return nil, err
	}
	if p.config.Rootfs == "" {
		if err := e.findAndUnpack(ctx, p, o.progress); err != nil {
			return nil, err
		}
	}
	warnOfNoNetwork(machine.NoNetwork)
	containers, err := e.containers()
	if err != nil {
		return nil, err
	}
	p.place, err = containers.Reserve(ctx, id, p.config.Name, p.config.AutoRemove)
	if errors.Is(err, container.ErrNameInUse) {
		// Perhaps by a container that nobody has taken away.
		if recoverErr := e.recover(ctx); recoverErr != nil {
			return nil, errors.Join(err, recoverErr)
		}
		p.place, err = containers.Reserve(ctx, id, p.config.Name, p.config.AutoRemove)
	}
	if err != nil {
		return nil, err
	}
	if err = e.allocateUsers(ctx, p); err == nil {
		p.home, err = e.homeOf(p.config) // it knows whose they are now
	}
	if err == nil {
		err = e.plug(ctx, p)
	}
	if err == nil {
		err = e.provide(ctx, p, o)
	}
	if err == nil {
		p.spec, err = e.specify(ctx, p, machine, o)
	}
	if err != nil {
		return nil, errors.Join(err, e.discard(ctx, p))
	}
	return p, nil
}

// mountsFrom returns a container's own mounts and those of others that it is to have. If two
// of these are on the same target, the last that is named has it.
func (e *Engine) mountsFrom(ctx context.Context, c container.Config) ([]container.Mount, error) {
	mounts := slices.Clone(c.Mounts)
	for _, v := range slices.Backward(c.VolumesFrom) {
		other, err := e.Get(ctx, v.Container)
		if err != nil {
			return nil, fmt.Errorf("--volumes-from: %w", err)
		}
		mounts = v.Add(mounts, other.Config.Mounts)
	}
	return mounts, nil
}

type prepareOptions struct {
	progress    func(registry.Progress)
	consoleSize *specs.Box
	// mounts and joined: see RunRequest.
	mounts []specs.Mount
	joined bool
	// learn: see RunRequest.
	learn *learner
	// look says that nothing is to be changed for good, as the container will not run.
	look bool
}

func (e *Engine) findAndUnpack(ctx context.Context, p *prepared, progress func(registry.Progress)) (err error) {
	if p.image, err = e.findImage(ctx, p.config, progress); err != nil {
		return err
	}
	images, err := e.images()
	if err != nil {
		return err
	}
	if p.imageConfig, err = images.ReadDocument(p.image.ConfigDigest); err != nil {
		return err
	}
	p.chain = chainOf(p.image)
	snapshots, err := p.home.snapshots(e)
	if err != nil {
		return err
	}
	if snapshots.Has(p.chain) {
		return nil
	}
	_, err = e.unpackStored(ctx, snapshots, images, p.image)
	return err
}

// ErrNoSource means that what a bind is to show is not there.
var ErrNoSource = errors.New("no such file or directory")

// checkSources looks for the sources of binds, before anything is made. A source
// that the user allowed to be made is made.
func checkSources(mounts []container.Mount) error {
	for _, m := range mounts {
		if m.Type != container.MountBind {
			continue
		}
		if m.CreateSource {
			if err := os.MkdirAll(m.Source, 0o755); err != nil {
				return fmt.Errorf("bind source: %w", err)
			}
		}
		_, err := os.Stat(m.Source)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("bind source for %s: %s: %w", m.Target, m.Source, ErrNoSource)
		}
		if err != nil {
			return fmt.Errorf("bind source for %s: %w", m.Target, err)
		}
	}
	return nil
}

// specify decides what the configuration means, with everything that this needs.
func (e *Engine) specify(ctx context.Context, p *prepared, machine container.Machine, o prepareOptions) (*specs.Spec, error) {
	in := container.Inputs{ID: p.place.ID, Machine: machine, ConsoleSize: o.consoleSize, Contents: p.contents}
	var err error
	if in.Root, err = e.rootFS(ctx, p); err != nil {
		return nil, err
	}
	if in.Passwd, in.Group, err = e.userDatabase(p); err != nil {
		return nil, err
	}
	if in.Devices, err = container.HostDevices(p.config.Devices); err != nil {
		return nil, err
	}
	if in.BlockDevices, err = container.HostBlockDevices(p.config.BlockIO.Paths()); err != nil {
		return nil, err
	}
	if p.config.Privileged {
		if in.AllDevices, err = container.AllHostDevices(); err != nil {
			return nil, err
		}
	}
	if in.Files, err = e.writeFiles(ctx, p, machine); err != nil {
		return nil, err
	}
	if in.Seccomp, err = e.seccomp(p.config.Security.Seccomp); err != nil {
		return nil, err
	}
	in.Seccomp = o.recorded(in.Seccomp)
	if p.config.Init {
		if in.InitPath, err = e.ownInit(p); err != nil {
			return nil, err
		}
	}
	var img v1.ImageConfig
	if p.image != nil {
		img = p.image.Config.Config
	}
	spec, err := container.Spec(p.config, img, in)
	if err != nil {
		return nil, err
	}
	if !o.look {
		if err := e.giveVolumes(ctx, p, spec); err != nil {
			return nil, err
		}
	}
	spec.Mounts = append(spec.Mounts, o.mounts...)
	return spec, p.devices.Add(spec, !machine.NoCgroups && !machine.Rootless)
}

// rootFS says where the root file system comes from: a directory of the user's, or
// the image's layers with a layer of the container's own on top.
func (e *Engine) rootFS(ctx context.Context, p *prepared) (container.Root, error) {
	if p.config.Rootfs != "" {
		info, err := os.Stat(p.config.Rootfs)
		if err != nil {
			return container.Root{}, fmt.Errorf("--rootfs: %w", err)
		}
		if !info.IsDir() {
			return container.Root{}, fmt.Errorf("--rootfs %s: not a directory", p.config.Rootfs)
		}
		return container.Root{Path: p.config.Rootfs}, nil
	}
	snapshots, err := p.home.presented(e)
	if err != nil {
		return container.Root{}, err
	}
	p.driver = snapshots.Driver()
	layer := p.home.layer(p.place.ID)
	root := container.Root{Path: filepath.Join(p.home.files(p.place), "rootfs")}
	for _, d := range []string{filepath.Dir(layer), layer, root.Path} {
		if err := p.home.makeDir(d); err != nil {
			return container.Root{}, err
		}
	}
	var mounts []snapshot.Mount
	if p.config.StorageSize > 0 {
		mounts, err = prepareLimited(ctx, p, snapshots, layer)
	} else {
		mounts, err = e.present(ctx, snapshots, p.chain, filepath.Join(layer, upperDir), filepath.Join(layer, workDir))
	}
	if err != nil {
		return container.Root{}, err
	}
	if len(mounts) == 1 && mounts[0].Type == "bind" {
		if !p.home.idmapped {
			root.Path = mounts[0].Source // a directory of the container's own: the runtime binds it
			return root, nil
		}
		mounts[0].Options = []string{"bind"}
	}
	for _, m := range mounts {
		mount := specMount(m)
		if p.home.idmapped {
			mount.Options = append(mount.Options, "idmap")
		}
		root.Mounts = append(root.Mounts, mount)
	}
	return root, nil
}

// specMount says a snapshot's mount in the words of the specification. Names that
// count from a directory, as those of long chains do, are completed: what to do about
// too many is the plan's business.
func specMount(m snapshot.Mount) specs.Mount {
	out := specs.Mount{Destination: "/", Type: m.Type, Source: m.Source, Options: slices.Clone(m.Options)}
	if m.Type == "overlay" && !slices.ContainsFunc(m.Options, func(o string) bool { return strings.HasPrefix(o, "lowerdir=") }) {
		out.Options = append([]string{"lowerdir=" + strings.Join(m.Lower, ":")}, out.Options...)
	}
	for i, o := range out.Options {
		lower, ok := strings.CutPrefix(o, "lowerdir=")
		if ok && m.Dir != "" {
			names := strings.Split(lower, ":")
			for j := range names {
				names[j] = filepath.Join(m.Dir, names[j])
			}
			out.Options[i] = "lowerdir=" + strings.Join(names, ":")
		}
	}
	for _, i := range m.Images {
		out.Options = append(out.Options, rootfs.ImageOption+i.File+":"+i.Dir)
	}
	return out
}

// userDatabase reads who the image's users are.
func (e *Engine) userDatabase(p *prepared) (passwd, group []byte, err error) {
	read := func(name string) ([]byte, error) {
		snapshots, err := p.home.snapshots(e)
		if err != nil {
			return nil, err
		}
		return snapshots.ReadFile(p.chain, name, maxUserDatabase)
	}
	if p.config.Rootfs != "" {
		root, err := safepath.OpenRoot(p.config.Rootfs)
		if err != nil {
			return nil, nil, err
		}
		defer root.Close()
		read = func(name string) ([]byte, error) { return root.ReadFile(name, maxUserDatabase) }
	}
	if passwd, err = read("etc/passwd"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	if group, err = read("etc/group"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	return passwd, group, nil
}

// writeFiles makes the files of /etc that tell a container about its network.
func (e *Engine) writeFiles(ctx context.Context, p *prepared, machine container.Machine) (container.Files, error) {
	c := p.config
	ownNetwork := c.Namespaces.Network != container.HostNamespace
	addresses := addressesOf(p.endpoints)
	user, carried := c.Namespaces.UserNetwork()
	if carried {
		addresses = userAddresses(user)
	}
	extra, err := hostsWithGateway(c.ExtraHosts, p.endpoints, user)
	if err != nil {
		return container.Files{}, err
	}
	dir := p.home.files(p.place)
	if err := p.home.open(e); err != nil {
		return container.Files{}, err
	}
	if err := p.home.makeDir(dir); err != nil {
		return container.Files{}, err
	}
	files := container.Files{
		Hosts:      filepath.Join(dir, "hosts"),
		Hostname:   filepath.Join(dir, "hostname"),
		ResolvConf: filepath.Join(dir, "resolv.conf"),
	}
	var base []byte
	if !ownNetwork {
		base = readIfThere("/etc/hosts")
	}
	resolv := hostResolvConf(ownNetwork)
	if carried {
		resolv = userResolvConf(resolv, user)
	}
	if owner, joined := container.Joined(c.Namespaces.Network); joined {
		// Who has the network has the names in it.
		var err error
		if base, resolv, err = e.namesOf(ctx, owner); err != nil {
			return container.Files{}, err
		}
		ownNetwork = false
	}
	hostname := container.Hostname(c, p.place.ID, machine)
	server, neighbours := resolverOf(p.endpoints)
	resolv = container.ResolvConf(resolv, c.DNS, ownNetwork, server, neighbours)
	if c.Namespaces.OwnNetwork() && !carried {
		p.resolvConf = string(resolv)
		warnOfNoServer(p)
	}
	for path, data := range map[string][]byte{
		files.Hosts:      container.HostsFile(base, []string{hostname}, addresses, extra),
		files.Hostname:   container.HostnameFile(hostname),
		files.ResolvConf: resolv,
	} {
		if err := errors.Join(os.WriteFile(path, data, 0o644), p.home.own(path)); err != nil {
			return container.Files{}, err
		}
	}
	files.Configs, err = e.writeConfigs(ctx, p, dir)
	return files, err
}

// hostsWithGateway puts the host's address in the container's network in the place of the word
// for it.
func hostsWithGateway(hosts []container.Host, endpoints []container.Endpoint, user container.UserNetwork) ([]container.Host, error) {
	var out []container.Host
	for _, h := range hosts {
		if h.IP == container.HostGateway {
			if user.HostLoopback && user.Backend != usermode.Pasta {
				h.IP = user.Net.Gateway().String()
				out = append(out, h)
				continue
			}
			if user.Backend != "" {
				return nil, fmt.Errorf("--add-host %s:%s: the host is closed to the container: --network %s:host-loopback opens it", h.Name, h.IP, usermode.Builtin)
			}
			if len(endpoints) == 0 {
				return nil, fmt.Errorf("--add-host %s:%s: the container is in no network with the host", h.Name, h.IP)
			}
			h.IP = endpoints[0].Gateways[0]
		}
		out = append(out, h)
	}
	return out, nil
}

// ownInit copies the init program into the container's directory and returns the copy's
// name, "" if there is no such program. A mount of the host's own could be made
// writable again by a container that may mount, for all containers and the host.
func (e *Engine) ownInit(p *prepared) (string, error) {
	program := e.findInit()
	if program == "" {
		return "", nil
	}
	data, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	path := filepath.Join(p.home.files(p.place), filepath.Base(program))
	return path, errors.Join(os.WriteFile(path, data, 0o755), os.Chmod(path, 0o755), p.home.own(path))
}

// readIfThere reads a file of the host's that a container can do without.
func readIfThere(path string) []byte {
	data, err := os.ReadFile(path)
	if err != nil {
		return []byte{}
	}
	return data
}

// ErrNoProfile means that the file with the seccomp profile is not there.
var ErrNoProfile = errors.New("no such profile")

// seccomp returns the function that makes the container's filter: docker's
// default, the strict one, or the profile in the file.
func (e *Engine) seccomp(file string) (func([]string) (*specs.LinuxSeccomp, error), error) {
	facts, err := e.facts()
	if err != nil {
		return nil, err
	}
	target := func(caps []string) profile.Target {
		return profile.Target{Caps: caps, Kernel: profile.Kernel(facts.Kernel)}
	}
	switch file {
	case "", container.SeccompDefault:
		return func(caps []string) (*specs.LinuxSeccomp, error) { return profile.Default(target(caps)), nil }, nil
	case container.SeccompStrict:
		return func(caps []string) (*specs.LinuxSeccomp, error) { return profile.Strict(target(caps)), nil }, nil
	case container.SeccompUnconfined:
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s: %w", file, ErrNoProfile)
	}
	if err != nil {
		return nil, fmt.Errorf("seccomp profile: %w", err)
	}
	return func(caps []string) (*specs.LinuxSeccomp, error) {
		filter, err := profile.Load(bytes.NewReader(data), target(caps))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		return filter, nil
	}, nil
}

// record is what is kept about the container.
func (p *prepared) record() (container.Record, error) {
	r := container.Record{Created: time.Now().UTC(), Config: p.config, Chain: string(p.chain), Snapshotter: string(p.driver), Spec: p.spec,
		Endpoints: p.endpoints, Published: p.published, Attachments: p.attachments, ResolvConf: p.resolvConf}
	var img v1.ImageConfig
	if p.image != nil {
		img, r.ConfigDigest = p.image.Config.Config, p.image.ConfigDigest.String()
	}
	if p.spec.Process != nil {
		r.Command = container.WithoutInit(p.config, p.spec.Process.Args)
	}
	var err error
	if r.StopSignal, err = container.StopSignal(p.config, img); err != nil {
		return r, err
	}
	if r.Check, err = container.HealthCheck(p.config.Health, p.imageConfig); err != nil {
		return r, err
	}
	return r, errors.Join(r.CheckRestart(), checkProbe(r))
}

// request is what the runtime is asked for.
func (p *prepared) request(f *host.Facts) *runtime.CreateRequest {
	return createRequest(p.place.ID, p.place.Dir, p.spec, f)
}

// createRequest asks the runtime for the container whose directory is dir.
func createRequest(id, dir string, spec *specs.Spec, f *host.Facts) *runtime.CreateRequest {
	return &runtime.CreateRequest{ID: id, OwnHome: true, Bundle: dir, Spec: spec, SpecFile: container.SpecFile(dir), ExitFile: container.ExitFile(dir),
		Systemd: groupFromSystemd(spec, f)}
}

// discard takes away what prepare made and the container's own layer with it.
func (e *Engine) discard(ctx context.Context, p *prepared) error {
	ctx = context.WithoutCancel(ctx)
	p.release()
	// The place last: whoever is killed over the rest leaves it to be swept.
	return errors.Join(e.unplug(p.place.ID, p.endpoints), p.home.removeLayer(p.place.ID), e.releaseUsersOf(p.config, p.place.ID), p.place.Cancel(ctx), e.unprovide(ctx, p))
}
