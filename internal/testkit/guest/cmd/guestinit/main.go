// Command guestinit is PID 1 of a test guest, its modprobe, and the agent that runs programs for the host.
//
// # Theory of operation
//
// As /init it makes the machine what a kernel test expects of a host (root.go, mounts.go, selinux.go), loads modules, and goes on as
// the agent. Or, if there is a disk with a whole Debian, it mounts that (debian.go), puts a copy of itself there as a
// service, and lets systemd take its place as PID 1; the service is the agent.
//
// The agent (agent.go) opens the serial port to the host (package wire), says Hello, and waits. When a job comes, often in
// a copy of the machine that was saved at this moment, it unpacks the job's files, runs the program as root, sends what it
// prints and how it ends. As PID 1 it reaps orphans meanwhile, as a real init does.
//
// As /sbin/modprobe the kernel runs it to have a module loaded on demand: the first "mount -t overlay" or
// "ip link add type veth" works as on a real machine.
//
// Everything that goes wrong before the port is open is printed to the console; the host shows the console when a
// guest dies without a word.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit/guest/wire"
)

func main() {
	var err error
	switch {
	case filepath.Base(os.Args[0]) == "modprobe":
		os.Exit(modprobe(os.Args[1:]))
	case filepath.Base(os.Args[0]) == agentName:
		err = agent()
	case os.Getpid() == 1:
		err = boot()
	default:
		fmt.Fprintln(os.Stderr, "guestinit: not PID 1")
		os.Exit(2)
	}
	fmt.Fprintln(os.Stderr, "guestinit:", err)
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// boot is all that the guest does, in order. It returns only when it cannot go on.
func boot() error {
	config, err := readConfig()
	if err != nil {
		return err
	}
	if config.Disk {
		return startDebian(config)
	}
	if err := switchRoot(); err != nil {
		return err
	}
	if err := mountAll(); err != nil {
		return err
	}
	if err := openConsole(); err != nil {
		return err
	}
	if err := enforcePolicy(); err != nil {
		return err
	}
	return serve(append(load(config), settle()...))
}

func readConfig() (wire.Boot, error) {
	var c wire.Boot
	b, err := os.ReadFile(wire.BootPath)
	if err != nil {
		return c, err
	}
	return c, json.Unmarshal(b, &c)
}
