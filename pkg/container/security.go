package container

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/containr/containr/internal/spelling"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Set reads one value of --security-opt into s:
//
//	no-new-privileges[=true|false]
//	seccomp=default | strict | unconfined | FILE
//	systempaths=unconfined
//	apparmor=unconfined | PROFILE
//	landlock=DIR[:DIR...]
//	label=disable | user:U | role:R | type:T | level:L
//
// Other names of the default filter are builtin, as docker has it, and docker-default. A file that is called as
// a filter is reached with a slash: ./strict. A colon may stand for the first equals sign, as in older docker.
func (s *Security) Set(option string) error {
	key, value, hasValue := cutOption(option)
	if key == "no-new-privileges" {
		on, err := boolValue(key, value, hasValue)
		s.NoNewPrivileges = on
		return err
	}
	if !slices.Contains(securityKeys, key) {
		return errUnknownSecurityOption(key)
	}
	if !hasValue || value == "" {
		return fmt.Errorf("security option %q: not KEY=VALUE: use %s", option, securityForms[key])
	}
	switch key {
	case "seccomp":
		if value == "none" || value == "off" || value == "disabled" {
			return fmt.Errorf("security option %q: did you mean seccomp=unconfined? A file that is called so is seccomp=./%s", option, value)
		}
		s.Seccomp = value
		if slices.Contains(seccompDefaults, value) {
			s.Seccomp = SeccompDefault
		}
	case "systempaths":
		if value != SystemPathsUnconfined {
			return fmt.Errorf("security option %q: use systempaths=unconfined", option)
		}
		s.SystemPaths = value
	case "apparmor":
		s.AppArmor = value
	case "landlock":
		for dir := range strings.SplitSeq(value, ":") {
			if !path.IsAbs(dir) || path.Clean(dir) != dir {
				return fmt.Errorf("security option %q: %q is not the absolute path of a directory, in its shortest form", option, dir)
			}
			if !slices.Contains(s.Landlock, dir) {
				s.Landlock = append(s.Landlock, dir)
			}
		}
	case "label":
		if err := validateLabelOption(value); err != nil {
			return fmt.Errorf("security option %q: %w", option, err)
		}
		s.Labels = append(s.Labels, value)
	}
	return nil
}

// Options are the values of --security-opt that make s, in the order of their names.
func (s Security) Options() []string {
	var options []string
	add := func(key, value string) {
		if value != "" {
			options = append(options, key+"="+value)
		}
	}
	add("apparmor", s.AppArmor)
	for _, l := range s.Labels {
		add("label", l)
	}
	add("landlock", strings.Join(s.Landlock, ":"))
	if s.NoNewPrivileges {
		options = append(options, "no-new-privileges")
	}
	add("seccomp", s.Seccomp)
	add("systempaths", s.SystemPaths)
	return options
}

var securityKeys = []string{"apparmor", "label", "landlock", "no-new-privileges", "seccomp", "systempaths"}

// securityForms says what the options with a value look like.
var securityForms = map[string]string{
	"apparmor": "apparmor=PROFILE or apparmor=unconfined", "label": "label=disable or label=type:TYPE", "systempaths": "systempaths=unconfined",
	"landlock": "landlock=DIRECTORY[:DIRECTORY...], of the container, below which it may write",
	"seccomp":  "seccomp=default, seccomp=strict, seccomp=unconfined or seccomp=FILE",
}

// seccompDefaults are names of the filter that containers have by themselves, which is docker's.
var seccompDefaults = []string{SeccompDefault, "builtin", "docker-default"}

// SeccompNames are the filters that are no files, as they can be asked for.
func SeccompNames() []string {
	return append(slices.Clone(seccompDefaults), SeccompStrict, SeccompUnconfined)
}

// SeccompFile reports whether what Security.Seccomp holds is the path of a file.
func SeccompFile(s string) bool {
	return s != "" && s != SeccompDefault && s != SeccompStrict && s != SeccompUnconfined
}

func cutOption(option string) (key, value string, hasValue bool) {
	if at := strings.IndexAny(option, "=:"); at >= 0 {
		return option[:at], option[at+1:], true
	}
	return option, "", false
}

func errUnknownSecurityOption(key string) error {
	if near := spelling.Nearest(key, securityKeys); near != "" {
		return fmt.Errorf("unknown security option %q: did you mean %s?", key, near)
	}
	return fmt.Errorf("unknown security option %q: use one of %s", key, strings.Join(securityKeys, " "))
}

func validateLabelOption(value string) error {
	key, rest, ok := strings.Cut(value, ":")
	if value == LabelDisable || ok && rest != "" && slices.Contains([]string{"user", "role", "type", "level"}, key) {
		return nil
	}
	return fmt.Errorf("use label=disable or label=user:, role:, type: or level: and a value")
}

// ErrNoLandlock means that the kernel cannot confine a container with Landlock.
var ErrNoLandlock = errors.New("no Landlock for containers here")

// validateSecurity refuses a confinement that was asked for and that the host
// cannot give: silently running without it would be the worst answer.
func validateSecurity(s Security, m Machine) error {
	if s.AppArmor != "" && s.AppArmor != AppArmorUnconfined && !m.AppArmor {
		return fmt.Errorf("--security-opt apparmor=%s: this host does not enforce AppArmor", s.AppArmor)
	}
	for _, l := range s.Labels {
		if l != LabelDisable && !m.SELinux {
			return fmt.Errorf("--security-opt label=%s: this host does not enforce SELinux", l)
		}
	}
	if len(s.Landlock) > 0 && m.NoLandlock != "" {
		return fmt.Errorf("--security-opt landlock=%s: %s: %w", strings.Join(s.Landlock, ":"), m.NoLandlock, ErrNoLandlock)
	}
	return nil
}

// maskedPaths hold what tells a container about other users of the machine, or
// lets it disturb them.
var maskedPaths = []string{
	"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
	"/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
	"/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
}

// readonlyPaths are settings of the whole kernel.
var readonlyPaths = []string{
	"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
}

// setPaths masks system paths in a container that is neither privileged nor asked
// for them.
func setPaths(l *specs.Linux, c Config, m Machine) {
	if c.Privileged || c.Security.SystemPaths == SystemPathsUnconfined {
		return
	}
	l.MaskedPaths = slices.Concat(maskedPaths, m.MaskedPaths)
	l.ReadonlyPaths = slices.Clone(readonlyPaths)
}

// seccompFilter is the filter of a container with these capabilities; nil for
// none.
func seccompFilter(c Config, in Inputs, capabilities []string) (*specs.LinuxSeccomp, error) {
	// A privileged container has none unless one is named, as with docker.
	if in.Seccomp == nil || c.Security.Seccomp == SeccompUnconfined || c.Privileged && c.Security.Seccomp == "" {
		return nil, nil
	}
	filter, err := in.Seccomp(capabilities)
	if err != nil {
		return nil, fmt.Errorf("seccomp profile: %w", err)
	}
	return filter, nil
}

// apparmorProfile names the profile the program starts under; "" for none.
func apparmorProfile(c Config, m Machine) string {
	switch {
	case c.Security.AppArmor == AppArmorUnconfined || !m.AppArmor:
		return ""
	case c.Security.AppArmor != "":
		return c.Security.AppArmor
	case c.Privileged:
		return ""
	}
	return m.AppArmorDefault
}

// specCapabilities fills the sets. Inheritable and ambient stay empty
// (CVE-2022-24769). A program that does not start as root has no effective
// ones, as if it had been started by execve(2) from root, but may gain those of
// the bounding set through a set-user-id program.
func specCapabilities(names []string, uid uint32) *specs.LinuxCapabilities {
	out := &specs.LinuxCapabilities{Bounding: names}
	if uid == 0 {
		out.Effective, out.Permitted = slices.Clone(names), slices.Clone(names)
	}
	return out
}

// mountLabel is the label of files that a process with that label may use: those of
// its own level.
func mountLabel(process string) string {
	parts := strings.SplitN(process, ":", 4)
	if len(parts) < 4 {
		return ""
	}
	return parts[0] + ":object_r:container_file_t:" + parts[3]
}

// selinuxLabel puts the four parts of a security context together from the
// --security-opt label options; "" without options, when the policy decides.
func selinuxLabel(s Security) string {
	parts := map[string]string{"user": "system_u", "role": "system_r", "type": "container_t", "level": "s0"}
	for _, l := range s.Labels {
		if l == LabelDisable {
			return ""
		}
		key, value, _ := strings.Cut(l, ":")
		parts[key] = value
	}
	if len(s.Labels) == 0 {
		return ""
	}
	return strings.Join([]string{parts["user"], parts["role"], parts["type"], parts["level"]}, ":")
}
