package container

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/rootfs"
)

// Secret is one that a container is to have: in a file, or in its environment.
type Secret struct {
	// Name is the secret's.
	Name string `json:"name"`
	// Target is the file, absolute.
	Target string `json:"target,omitempty"`
	// Env is the variable that it is in, instead of a file.
	Env string `json:"env,omitempty"`
	// Mode is the file's, and UID and GID are whose it is.
	Mode uint32 `json:"mode,omitempty"`
	UID  uint32 `json:"uid,omitempty"`
	GID  uint32 `json:"gid,omitempty"`
}

// secretsDir is where secrets are.
const secretsDir = "/run/secrets"

const (
	secretMode = 0o444
	maxMode    = 0o777
	maxID      = 1<<32 - 2 // 1<<32 - 1 means that an id is not to change
)

var envRule = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// ParseSecret reads NAME[,type=mount|env][,target=...][,mode=0444][,uid=0][,gid=0], as podman has it; docker's source=NAME is
// understood, too.
func ParseSecret(s string) (Secret, error) { return parseKept(s, "secret", secretsDir) }

// ParseConfig reads NAME[,target=...][,mode=0444][,uid=0][,gid=0], as docker has it for services: without a target it is a
// file at the root.
func ParseConfig(s string) (Secret, error) {
	v, err := parseKept(s, "config", "/")
	if err == nil && v.Target == "" {
		err = fmt.Errorf("%q: type=env is for secrets", s)
	}
	return v, err
}

// parseKept reads what a container is to have; dir is where files are whose target is no absolute path.
func parseKept(s, what, dir string) (Secret, error) {
	v := Secret{Mode: secretMode}
	kind, target := "mount", ""
	var file []string // words that are for a file only
	for i, word := range strings.Split(s, ",") {
		key, value, ok := strings.Cut(word, "=")
		if i == 0 && !ok {
			key, value = "source", word
		}
		var err error
		switch key {
		case "source", "src":
			v.Name = value
		case "type":
			kind = value
		case "target", "dst", "destination":
			target = value
		case "mode":
			v.Mode, err = secretNumber(value, 8, maxMode)
			file = append(file, key)
		case "uid":
			v.UID, err = secretNumber(value, 10, maxID)
			file = append(file, key)
		case "gid":
			v.GID, err = secretNumber(value, 10, maxID)
			file = append(file, key)
		default:
			err = fmt.Errorf("unknown: use type, target, mode, uid and gid")
		}
		if err != nil {
			return v, fmt.Errorf("%q: %s: %w", s, word, err)
		}
	}
	if v.Name == "" || strings.ContainsAny(v.Name, "/:") {
		return v, fmt.Errorf("%q: begin with the name of a %s: NAME,target=FILE", s, what)
	}
	if strings.Contains(target, ":") {
		return v, fmt.Errorf("%q: no target has a colon in its name", s)
	}
	switch kind {
	case "env":
		if len(file) > 0 {
			return v, fmt.Errorf("%q: %s is for a file, not for type=env", s, file[0])
		}
		v.Env, v.Mode = orElse(target, v.Name), 0
		if !envRule.MatchString(v.Env) || v.Env == "PATH" {
			return v, fmt.Errorf("%q: %s is no name for a variable that a secret is in: add target=VARIABLE", s, v.Env)
		}
	case "mount":
		v.Target = path.Clean(path.Join(dir, orElse(target, v.Name)))
		if path.IsAbs(target) {
			v.Target = path.Clean(target)
		}
		if v.Target == "/" || v.Target == dir || strings.HasSuffix(target, "/") || path.Dir(v.Target) != dir && !path.IsAbs(target) {
			return v, fmt.Errorf("%q: target is the name of a file in %s, or an absolute path", s, dir)
		}
	default:
		return v, fmt.Errorf("%q: type is mount or env", s)
	}
	return v, nil
}

func secretNumber(s string, base int, most uint64) (uint32, error) {
	n, err := strconv.ParseUint(s, base, 32)
	if err != nil || n > most {
		return 0, fmt.Errorf("no number of this kind")
	}
	return uint32(n), nil
}

func validateSecrets(c Config) error {
	for i, s := range c.Secrets {
		for _, other := range c.Secrets[:i] {
			if s.Env != "" && s.Env == other.Env || s.Target != "" && s.Target == other.Target {
				return fmt.Errorf("--secret %s: %s is there twice", s.Name, s.Env+s.Target)
			}
		}
		for _, m := range c.Mounts {
			if s.Target != "" && (m.Target == secretsDir || m.Target == s.Target || strings.HasPrefix(m.Target, secretsDir+"/")) {
				return fmt.Errorf("--secret %s cannot be used with a mount on %s", s.Name, m.Target)
			}
			// In memory a file to mount it on may be made, but not in what is the host's, or outlives the container.
			if m.Type != MountTmpfs && m.Type != MountDevpts && strings.HasPrefix(s.Target, m.Target+"/") {
				return fmt.Errorf("--secret %s: %s is on the mount on %s, in which a file would have to be made for it: name another target=", s.Name, s.Target, m.Target)
			}
		}
		if strings.HasPrefix(s.Target+"/", "/proc/") || strings.HasPrefix(s.Target+"/", "/sys/") {
			return fmt.Errorf("--secret %s: %s: what is there is the kernel's", s.Name, s.Target)
		}
	}
	return nil
}

func validateConfigs(c Config) error {
	for i, s := range c.Configs {
		for _, other := range c.Configs[:i] {
			if s.Target == other.Target {
				return fmt.Errorf("--config %s: %s is there twice", s.Name, s.Target)
			}
		}
		for _, m := range c.Mounts {
			if m.Target == s.Target || strings.HasPrefix(s.Target, m.Target+"/") {
				return fmt.Errorf("--config %s cannot be used with a mount on %s", s.Name, m.Target)
			}
		}
		for _, dir := range []string{"/proc/", "/sys/", "/dev/"} {
			if strings.HasPrefix(s.Target+"/", dir) {
				return fmt.Errorf("--config %s: %s: what is there is the kernel's", s.Name, s.Target)
			}
		}
	}
	return nil
}

// secretMounts are the file system of the secrets that are files, and those of them that are at other
// places, too. There a file has a number for a name in the file system: its own may be another's there.
func secretMounts(c Config) (dir []specs.Mount, apart []specs.Mount) {
	options := []string{"mode=755"}
	for i, s := range c.Secrets {
		if s.Target == "" {
			continue
		}
		file := path.Base(s.Target)
		if path.Dir(s.Target) != secretsDir {
			file = "." + strconv.Itoa(i) + "." + s.Name
			apart = append(apart, specs.Mount{Destination: s.Target, Type: rootfs.SecretType, Source: file})
		}
		options = append(options, fmt.Sprintf("%s%s:%04o:%d:%d:%s", rootfs.SecretOption, s.Name, s.Mode, s.UID, s.GID, file))
	}
	if len(options) == 1 {
		return nil, nil
	}
	return []specs.Mount{{Destination: secretsDir, Type: rootfs.SecretsType, Source: "tmpfs", Options: options}}, apart
}

// SecretVariable is what is written in the place of a variable that holds a secret.
func (s Secret) SecretVariable() string { return s.Env + "=(secret " + s.Name + ")" }

// secretEnv adds them to an environment.
func secretEnv(env []string, c Config) []string {
	for _, s := range c.Secrets {
		if s.Env != "" {
			env = slices.DeleteFunc(env, func(v string) bool { return strings.HasPrefix(v, s.Env+"=") })
			env = append(env, s.SecretVariable())
		}
	}
	return env
}
