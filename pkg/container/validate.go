package container

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Bounds of what the kernel takes.
const (
	// maxHostname is HOST_NAME_MAX of sethostname(2).
	maxHostname = 64
	// maxOOMScoreAdj is of proc_pid_oom_score_adj(5).
	maxOOMScoreAdj = 1000
)

// Validate refuses a Config, with its defaults filled in, that contradicts itself
// or asks for what the machine cannot give. Everything in it can be decided
// before anything is made.
func Validate(c Config, m Machine) error {
	checks := []func() error{
		func() error { return validateSource(c) },
		func() error { return validateNamespaces(c.Namespaces) },
		func() error { return validateNetwork(c, m) },
		func() error { return validateNames(c) },
		func() error { return validateProcess(c) },
		func() error { return validateResources(c.Resources, m) },
		func() error { return validateUserNamespace(c, m) },
		func() error { return validateSysctls(c.Sysctls, c.Namespaces) },
		func() error { return validateSecurity(c.Security, m) },
		func() error { return validateMounts(c) },
		func() error { return validateSecrets(c) },
		func() error { return validateConfigs(c) },
		func() error { return validateLife(c) },
	}
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func validateSource(c Config) error {
	switch {
	case c.Image == "" && c.Rootfs == "":
		return errors.New("neither an image nor --rootfs is given")
	case c.Image != "" && c.Rootfs != "":
		return errors.New("--rootfs cannot be used with an image")
	case c.Rootfs != "" && !strings.HasPrefix(c.Rootfs, "/"):
		return fmt.Errorf("--rootfs %s: not an absolute path", c.Rootfs)
	}
	return oneOf("--pull", c.Pull, []string{PullMissing, PullAlways, PullNever})
}

func validateNames(c Config) error {
	if c.Name != "" {
		if err := ValidateName(c.Name); err != nil {
			return err
		}
	}
	for flag, name := range map[string]string{"--hostname": c.Hostname, "--domainname": c.Domainname} {
		if name != "" && c.Namespaces.UTS == HostNamespace {
			return fmt.Errorf("%s cannot be used with --uts host: it would rename the host", flag)
		}
		if _, joined := Joined(c.Namespaces.UTS); name != "" && joined {
			return fmt.Errorf("%s cannot be used with --uts %s: it would rename that container", flag, c.Namespaces.UTS)
		}
	}
	for flag, name := range map[string]string{"--hostname": c.Hostname, "--domainname": c.Domainname} {
		if len(name) > maxHostname {
			return fmt.Errorf("%s %s: longer than %d characters", flag, name, maxHostname)
		}
		if strings.ContainsAny(name, " \t\r\n/\x00") {
			return fmt.Errorf("%s %q: contains white space or a slash", flag, name)
		}
	}
	return nil
}

func validateProcess(c Config) error {
	if c.WorkDir != "" && !path.IsAbs(c.WorkDir) {
		return fmt.Errorf("--workdir %s: not an absolute path", c.WorkDir)
	}
	for _, arg := range c.Args {
		if strings.ContainsRune(arg, 0) {
			return fmt.Errorf("argument %q: contains a zero byte", arg)
		}
	}
	if adj := c.OOMScoreAdj; adj != nil && (*adj < -maxOOMScoreAdj || *adj > maxOOMScoreAdj) {
		return fmt.Errorf("--oom-score-adj %d: use %d to %d", *adj, -maxOOMScoreAdj, maxOOMScoreAdj)
	}
	if c.StopSignal != "" {
		if _, err := ParseSignal(c.StopSignal); err != nil {
			return fmt.Errorf("--stop-signal: %w", err)
		}
	}
	return nil
}

var errPrivilegedUsers = errors.New("--privileged cannot be used with a user namespace: add --userns host")

func validateUserNamespace(c Config, m Machine) error {
	if err := validateUsers(c, m); err != nil {
		return err
	}
	own := c.Namespaces.User != HostNamespace
	if c.Namespaces.IsAuto() && len(c.UIDMap)+len(c.GIDMap) == 0 {
		if c.Privileged {
			return errPrivilegedUsers
		}
		return nil // they are found when the container has an id
	}
	switch {
	case !own && (len(c.UIDMap) > 0 || len(c.GIDMap) > 0):
		return errors.New("--uidmap and --gidmap need a user namespace: leave out --userns host")
	case !own && m.Rootless:
		return errors.New("--userns host: needs root")
	case own && (len(c.UIDMap) == 0 || len(c.GIDMap) == 0):
		return errors.New("a user namespace needs both --uidmap and --gidmap")
	case own && c.Privileged && !m.Rootless:
		return errPrivilegedUsers
	}
	if err := validateIDMaps("--uidmap", c.UIDMap); err != nil {
		return err
	}
	return validateIDMaps("--gidmap", c.GIDMap)
}

// emulated are the files of /proc that tell of the machine, in the place of which lxcfs
// and others show what tells of the container. Programs trust the rest of it.
var emulated = []string{
	"/proc/cpuinfo", "/proc/diskstats", "/proc/loadavg", "/proc/meminfo", "/proc/net/dev", "/proc/slabinfo", "/proc/stat", "/proc/swaps", "/proc/uptime",
	"/proc/sys/crypto/fips_enabled", "/proc/sys/kernel/ns_last_pid",
}

func validateMounts(c Config) error {
	for _, m := range c.Mounts {
		if slices.Contains(m.Options, IDMapOption) && c.Namespaces.User == HostNamespace {
			return fmt.Errorf("a mount on %s: idmap is for a container with users of its own: add --userns or --uidmap", m.Target)
		}
		if strings.HasPrefix(m.Target, "/proc/") && !slices.Contains(emulated, m.Target) {
			return fmt.Errorf("a mount on %s: programs trust what /proc says; only these are mounted over, as lxcfs does: %s", m.Target, strings.Join(emulated, ", "))
		}
		if c.Init && (m.Target == "/dev" || m.Target == initTarget) {
			return fmt.Errorf("--init cannot be used with a mount on %s", m.Target)
		}
	}
	if c.StorageSize > 0 && c.Rootfs != "" {
		return errors.New("--storage-opt size: a container of --rootfs has no layer of its own")
	}
	if c.ShmSize < 0 {
		return fmt.Errorf("--shm-size %d: use a positive number", c.ShmSize)
	}
	return nil
}
