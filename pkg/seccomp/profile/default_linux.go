package profile

import (
	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Default returns docker's default policy for a target. The caller owns it.
//
// It is there on Linux only, as the module that has docker's profile is.
func Default(t Target) *specs.LinuxSeccomp {
	docker := seccomp.DefaultProfile()
	d := document{
		DefaultAction:   docker.DefaultAction,
		DefaultErrnoRet: docker.DefaultErrnoRet,
		Flags:           docker.Flags,
		Syscalls:        make([]group, 0, len(docker.Syscalls)),
	}
	for _, a := range docker.ArchMap {
		d.ArchMap = append(d.ArchMap, archGroup{Arch: a.Arch, SubArchs: a.SubArches})
	}
	for _, s := range docker.Syscalls {
		d.Syscalls = append(d.Syscalls, group{
			Names:    s.Names,
			Action:   s.Action,
			ErrnoRet: s.ErrnoRet,
			Args:     s.Args,
			Includes: fromDocker(s.Includes),
			Excludes: fromDocker(s.Excludes),
		})
	}
	return d.policy(t)
}

func fromDocker(f *seccomp.Filter) condition {
	if f == nil {
		return condition{}
	}
	c := condition{Caps: f.Caps, Arches: f.Arches}
	if f.MinKernel != nil {
		c.MinKernel = f.MinKernel.String()
	}
	return c
}
