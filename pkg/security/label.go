package security

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// unconfined is the AppArmor profile that forbids nothing. Every kernel has it, in a
// manner of speaking, also those without AppArmor.
const unconfined = "unconfined"

// NeedsProc reports whether Labels has something to write through the register Proc.
func NeedsProc(p *specs.Process, f *host.Facts) bool {
	return p.SelinuxLabel != "" || p.ApparmorProfile != "" && !(p.ApparmorProfile == unconfined && !f.AppArmor)
}

// Labels plans what the kernel's security modules are to take the program for. Both
// modules are told in advance and act at the next execve, which is that of the user's
// program; so the steps may come early, while nothing of the container can be in the
// way, and they come before no_new_privs, after which AppArmor takes no order.
//
// The files are looked up below the register Proc, a procfs that is one for certain,
// without a link or another mount on the way: were the name a file of the image, the
// program would run unconfined and nobody would know (CVE-2019-16884,
// CVE-2025-52881).
//
// What is asked for and cannot be had is an error, here where the kernel lacks the
// module, and of the step where it lacks the profile.
func Labels(in Input) ([]plan.Step, error) {
	b := plan.Build(plan.Child, plan.PrivilegeChapter)
	p := in.Process
	if profile := p.ApparmorProfile; profile != "" && NeedsProc(&specs.Process{ApparmorProfile: profile}, in.Facts) {
		const pointer = "/process/apparmorProfile"
		if !in.Facts.AppArmor {
			return nil, fmt.Errorf("%s: profile %q is asked for, but AppArmor is not active on this kernel", pointer, profile)
		}
		why := "the AppArmor profile " + profile + " confines the program from its first instruction on"
		attribute(b, why, "apparmor/exec", "exec "+profile, pointer)
	}
	if label := p.SelinuxLabel; label != "" {
		const pointer = "/process/selinuxLabel"
		if !in.Facts.SELinux {
			return nil, fmt.Errorf("%s: label %q is asked for, but SELinux is not active on this kernel", pointer, label)
		}
		attribute(b, "the SELinux label of the program, from its first instruction on", "exec", label, pointer)
	}
	return b.Steps, nil
}

// KeyLabel plans the SELinux label of keys that the process makes from here on, so
// that the program may use its own session keyring. The register Proc must be set;
// the kernel forgets the label with the next execve.
func KeyLabel(in Input) []plan.Step {
	b := plan.Build(plan.Child, plan.NamespaceChapter)
	if label := in.Process.SelinuxLabel; label != "" && in.Facts.SELinux {
		attribute(b, "the program may use the keyring that is made next", "keycreate", label, "/process/selinuxLabel")
	}
	return b.Steps
}

// attribute writes one of the files of /proc/self/attr, see proc_pid_attr(5). The
// kernel takes the text in one write, from the process itself alone.
func attribute(b *plan.Builder, why, file, text, pointer string) {
	b.Do(why, linux.Openat2{Dir: linux.FD(Proc), Path: "self/attr/" + file, Flags: linux.OWronly | linux.OCloexec,
		Resolve: linux.ResolveBeneath | linux.ResolveNoXdev | linux.ResolveNoMagiclinks}).As("attr").For(pointer)
	b.Do(why, linux.Write{FD: "attr", Data: text}).For(pointer)
	b.Do(why, linux.Close{FD: "attr"}).For(pointer)
}
