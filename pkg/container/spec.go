package container

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/security"
)

// ErrNoCommand means that neither the user nor the image names a program.
var ErrNoCommand = errors.New("no command specified")

// ErrNoInit means that the init program of --init was not found.
var ErrNoInit = errors.New("the program containr-init is not installed")

// shortID is how many digits of an id stand for it where people read it.
const shortID = 12

// Spec says in the words of the OCI runtime specification what c means for this
// image on this machine. It is pure: the same input gives the same output, and
// nothing is read or made. c is completed by Defaults and checked by Validate
// first, so that a Config straight from the flags is enough.
func Spec(c Config, img v1.ImageConfig, in Inputs) (*specs.Spec, error) {
	c = Defaults(c, in.Machine)
	if err := Validate(c, in.Machine); err != nil {
		return nil, err
	}
	hostname := Hostname(c, in.ID, in.Machine)
	process, err := specProcess(c, img, in, hostname)
	if err != nil {
		return nil, err
	}
	mounts, err := specMounts(c, in)
	if err != nil {
		return nil, err
	}
	linux, err := specLinux(c, in, process.Capabilities.Bounding)
	if err != nil {
		return nil, err
	}
	spec := &specs.Spec{
		Version:     specs.Version,
		Process:     process,
		Root:        &specs.Root{Path: in.Root.Path, Readonly: c.ReadOnly},
		Mounts:      mounts,
		Annotations: annotations(c),
		Linux:       linux,
	}
	if c.Namespaces.UTS == Private {
		spec.Hostname, spec.Domainname = hostname, c.Domainname
	}
	if err := inUserNamespace(spec, c, in.Machine); err != nil {
		return nil, err
	}
	return spec, nil
}

// Hostname is what the program finds as its host's name: what was asked for, else
// the host's own if it shares the host's name or network, else the short id. c has
// its defaults filled in.
func Hostname(c Config, id string, m Machine) string {
	switch {
	case c.Hostname != "":
		return c.Hostname
	case c.Namespaces.UTS == HostNamespace || c.Namespaces.Network == HostNamespace:
		return m.Hostname
	}
	return id[:min(shortID, len(id))]
}

func specProcess(c Config, img v1.ImageConfig, in Inputs, hostname string) (*specs.Process, error) {
	args, err := arguments(c, img)
	if err != nil {
		return nil, err
	}
	user, home, err := ResolveUser(orElse(c.User, img.User), in.Passwd, in.Group, c.GroupAdd)
	if err != nil {
		return nil, err
	}
	user.Umask = c.Umask
	capabilities, err := Capabilities(c, in.Machine.Capabilities)
	if err != nil {
		return nil, err
	}
	process := &specs.Process{
		Terminal:        c.TTY,
		User:            user,
		Args:            args,
		Env:             secretEnv(environment(hostname, home, c.TTY, img.Env, c.Env), c),
		Cwd:             workingDirectory(c, img),
		Capabilities:    specCapabilities(capabilities, user.UID),
		Rlimits:         specRlimits(c.Ulimits),
		NoNewPrivileges: c.Security.NoNewPrivileges || len(c.Security.Landlock) > 0,
		ApparmorProfile: apparmorProfile(c, in.Machine),
		SelinuxLabel:    selinuxLabel(c.Security),
		OOMScoreAdj:     oomScoreAdj(c, in.Machine),
	}
	if c.TTY {
		process.ConsoleSize = in.ConsoleSize
	}
	return process, nil
}

// arguments joins ENTRYPOINT and CMD. The image's CMD are arguments for the
// image's ENTRYPOINT, so replacing either the entrypoint or the arguments drops
// it.
func arguments(c Config, img v1.ImageConfig) ([]string, error) {
	entrypoint, args := c.Entrypoint, c.Args
	if entrypoint == nil {
		entrypoint = img.Entrypoint
		if len(args) == 0 {
			args = img.Cmd
		}
	}
	all := slices.Concat(entrypoint, args)
	switch {
	case len(all) == 0:
		return nil, ErrNoCommand
	case all[0] == "":
		return nil, fmt.Errorf("the command's name is empty: %w", ErrNoCommand)
	}
	if c.Init {
		all = slices.Concat([]string{initTarget, "--"}, all)
	}
	return all, nil
}

// WithoutInit returns the command line without the init that --init has put in front.
func WithoutInit(c Config, args []string) []string {
	if c.Init && len(args) > 2 {
		return args[2:]
	}
	return args
}

func orElse(s, other string) string {
	if s != "" {
		return s
	}
	return other
}

// workingDirectory is always absolute: an image's relative WorkingDir is below /.
func workingDirectory(c Config, img v1.ImageConfig) string {
	return path.Clean("/" + orElse(c.WorkDir, img.WorkingDir))
}

// oomScoreAdj is 0 unless told: a container does not inherit the protection that
// its launcher may have. Without root it cannot be lowered, and is left alone.
func oomScoreAdj(c Config, m Machine) *int {
	if c.OOMScoreAdj == nil && !m.Rootless {
		return new(int)
	}
	return c.OOMScoreAdj
}

func specLinux(c Config, in Inputs, capabilities []string) (*specs.Linux, error) {
	devices, rules, err := specDevices(c, in)
	if err != nil {
		return nil, err
	}
	seccomp, err := seccompFilter(c, in, capabilities)
	if err != nil {
		return nil, err
	}
	if c.Init && in.InitPath == "" {
		return nil, fmt.Errorf("--init: %w", ErrNoInit)
	}
	resources := specResources(c.Resources, rules)
	resources.BlockIO = specBlockIO(c.Resources.BlockIOWeight, c.BlockIO, in.BlockDevices)
	linux := &specs.Linux{
		Namespaces:  specNamespaces(c, in.Machine),
		UIDMappings: c.UIDMap,
		GIDMappings: c.GIDMap,
		Sysctl:      c.Sysctls,
		CgroupsPath: cgroupPath(c, in.ID),
		Resources:   resources,
		Devices:     devices,
		Seccomp:     seccomp,
		MountLabel:  mountLabel(selinuxLabel(c.Security)),
	}
	setPaths(linux, c, in.Machine)
	linux.RootfsPropagation = rootPropagation(c.Mounts)
	return linux, nil
}

// cgroupPath is the container's place in the cgroup tree. Without a parent it is
// left to the runtime, which makes a group that nothing has to stay behind for.
func cgroupPath(c Config, id string) string {
	if c.CgroupParent == "" {
		return ""
	}
	return path.Join("/", c.CgroupParent, id)
}

// rootPropagation: a bind that is to be shared with the host, or to follow it,
// only can if the container's root is not cut off from it.
func rootPropagation(mounts []Mount) string {
	out := ""
	for _, m := range mounts {
		switch strings.TrimPrefix(m.Propagation, "r") {
		case "shared":
			return "shared"
		case "slave":
			out = "rslave"
		}
	}
	return out
}

// StopSignal is the signal that asks the container to end: the user's, the
// image's, or SIGTERM.
func StopSignal(c Config, img v1.ImageConfig) (int, error) {
	return ParseSignal(orElse(orElse(c.StopSignal, img.StopSignal), "SIGTERM"))
}

// annotations are those that were asked for, and the one by which the runtime learns what OCI has no field for.
func annotations(c Config) map[string]string {
	if len(c.Security.Landlock) == 0 {
		return c.Annotations
	}
	all := maps.Clone(c.Annotations)
	if all == nil {
		all = make(map[string]string, 1)
	}
	all[security.WritableAnnotation] = strings.Join(c.Security.Landlock, ":")
	return all
}
