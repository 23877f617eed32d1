package main

import (
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit/guest/wire"
)

// selinuxDir is where every program looks for SELinux.
const selinuxDir = "/sys/fs/selinux"

// enforcePolicy compiles the SELinux policy, if there is one, hands it to the kernel, and has it enforced from here on.
// This process is what the policy says of the kernel itself.
func enforcePolicy() error {
	if _, err := os.Stat(wire.PolicyPath); os.IsNotExist(err) {
		return nil
	}
	const binary = "/run/policy"
	out, err := exec.Command("/usr/bin/secilc", "--output", binary, "--filecontext", os.DevNull, wire.PolicyPath).CombinedOutput()
	if err != nil {
		return fmt.Errorf("compile the SELinux policy: %w: %s", err, out)
	}
	if err := unix.Mount("selinuxfs", selinuxDir, "selinuxfs", unix.MS_NOSUID|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount selinuxfs: %w", err)
	}
	b, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name    string
		content []byte
	}{{"load", b}, {"enforce", []byte("1")}} {
		if err := os.WriteFile(selinuxDir+"/"+f.name, f.content, 0); err != nil {
			return fmt.Errorf("SELinux policy: %w", err)
		}
	}
	return os.Remove(binary)
}
