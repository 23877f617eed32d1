package container

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Exec is a further program of a container: what was asked for, and what is known of the
// container and the machine.
type Exec struct {
	Args []string
	// Env is added to the container's environment: KEY=VALUE, or KEY to remove one.
	Env []string
	// User is as ResolveUser reads it, WorkDir an absolute path; empty is the container's.
	User, WorkDir string
	// Privileged gives the program all capabilities that can be given.
	Privileged  bool
	TTY         bool
	ConsoleSize *specs.Box

	// Passwd and Group are the container's; they are needed with User.
	Passwd, Group []byte
	Machine       Machine
}

// Change makes the container's own process the further one. c is the container's.
func (x Exec) Change(p *specs.Process, c Config) error {
	if len(x.Args) == 0 || x.Args[0] == "" {
		return ErrNoCommand
	}
	if x.WorkDir != "" && !path.IsAbs(x.WorkDir) {
		return fmt.Errorf("--workdir %s: not an absolute path", x.WorkDir)
	}
	p.Args, p.Terminal, p.ConsoleSize = x.Args, x.TTY, x.ConsoleSize
	if x.WorkDir != "" {
		p.Cwd = path.Clean(x.WorkDir)
	}
	home := ""
	if x.User != "" {
		umask := p.User.Umask
		var err error
		if p.User, home, err = ResolveUser(x.User, x.Passwd, x.Group, c.GroupAdd); err != nil {
			return err
		}
		p.User.Umask = umask
	}
	p.Env = x.environment(p.Env, c, home)
	if x.Privileged {
		c.Privileged = true
		p.ApparmorProfile, p.SelinuxLabel, p.NoNewPrivileges = "", "", false
	}
	capabilities, err := Capabilities(c, x.Machine.Capabilities)
	if err != nil {
		return err
	}
	p.Capabilities = specCapabilities(capabilities, p.User.UID)
	return nil
}

// environment is the container's with what was asked for. HOME is the user's, unless
// somebody has set it.
func (x Exec) environment(env []string, c Config, home string) []string {
	env = slices.Clone(env)
	set := func(v string) {
		key, _, hasValue := strings.Cut(v, "=")
		env = slices.DeleteFunc(env, func(old string) bool { return strings.HasPrefix(old, key+"=") })
		if hasValue {
			env = append(env, v)
		}
	}
	isHome := func(v string) bool { return strings.HasPrefix(v, "HOME=") }
	if home != "" && !slices.ContainsFunc(c.Env, isHome) {
		set("HOME=" + home)
	}
	if x.TTY && !slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, "TERM=") }) {
		set("TERM=xterm")
	}
	for _, v := range x.Env {
		set(v)
	}
	return env
}
