package container

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// ParseLabel reads one value of --label or --annotation: KEY=VALUE or KEY, whose
// value is empty.
func ParseLabel(s string) (key, value string, err error) {
	key, value, _ = strings.Cut(s, "=")
	if key == "" {
		return "", "", fmt.Errorf("label %q: no name before the equals sign", s)
	}
	return key, value, nil
}

// ParseLabelFile reads a file of labels: one ParseLabel a line, comments and
// empty lines as in ParseEnvFile.
func ParseLabelFile(name string, r io.Reader) (map[string]string, error) {
	labels := map[string]string{}
	err := eachLine(name, r, func(line string) error {
		key, value, err := ParseLabel(line)
		labels[key] = value
		return err
	})
	return labels, err
}

// sysctlNames and sysctlPrefixes are the kernel parameters that belong to a
// namespace, so that a container may have its own: sysctl(8) names with the
// namespace they live in.
var (
	sysctlNames = []string{
		"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
		"kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
	}
	sysctlNetPrefix   = "net."
	sysctlQueuePrefix = "fs.mqueue."
	sysctlDomainname  = "kernel.domainname"
)

// ParseSysctl reads one value of --sysctl: NAME=VALUE. Only parameters that a
// namespace of the container's own holds are taken; all others would change the
// host.
func ParseSysctl(s string) (name, value string, err error) {
	name, value, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return "", "", fmt.Errorf("sysctl %q: not NAME=VALUE", s)
	}
	if strings.ContainsAny(name, "/ \x00") || strings.Contains(name, "..") {
		return "", "", fmt.Errorf("sysctl %q: a name is words with dots between them", name)
	}
	if sysctlNamespace(name) == "" {
		return "", "", fmt.Errorf("sysctl %s: not allowed: it belongs to the host, not to a namespace", name)
	}
	return name, value, nil
}

// sysctlNamespace returns the flag of the namespace that holds the parameter, or
// "" if none does.
func sysctlNamespace(name string) string {
	switch {
	case strings.HasPrefix(name, sysctlNetPrefix):
		return "--network"
	case strings.HasPrefix(name, sysctlQueuePrefix), slices.Contains(sysctlNames, name):
		return "--ipc"
	case name == sysctlDomainname:
		return "--uts"
	}
	return ""
}

// validateSysctls refuses parameters of a namespace that the container shares
// with the host.
func validateSysctls(sysctls map[string]string, n Namespaces) error {
	words := map[string]string{"--network": n.Network, "--ipc": n.IPC, "--uts": n.UTS}
	for name := range sysctls {
		flag := sysctlNamespace(name)
		if flag == "" || words[flag] == HostNamespace {
			return fmt.Errorf("--sysctl %s: not allowed with %s host: it would change the host", name, flag)
		}
		if strings.HasPrefix(words[flag], networkAt) {
			return fmt.Errorf("--sysctl %s: not allowed with %s %s: it would change what others have there", name, flag, words[flag])
		}
		if _, joined := Joined(words[flag]); joined {
			return fmt.Errorf("--sysctl %s: not allowed with %s %s: it would change that container", name, flag, words[flag])
		}
	}
	return nil
}
