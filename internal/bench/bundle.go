package main

import (
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/seccomp/profile"
)

// The programs in the bundles are made here, so that their own start, which all
// contestants have to wait for, is as short as can be: two or three instructions.
var code = map[string]struct {
	machine    elf.Machine
	exit, hold []byte
}{
	"amd64": {elf.EM_X86_64,
		[]byte{0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05},  // exit(0)
		[]byte{0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7}}, // again: pause(); goto again
	"arm64": {elf.EM_AARCH64,
		instructions(0xd2800000, 0xd2800ba8, 0xd4000001), // exit(0)
		instructions(0xd2800000, 0xd2800001, 0xd2800002, 0xd2800003, 0xd2800928, // again: ppoll(NULL, 0, NULL, NULL)
			0xd4000001, 0x17fffffa)}, // goto again
}

func instructions(list ...uint32) (b []byte) {
	for _, w := range list {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b
}

// program wraps instructions in the smallest ELF executable: header, one program
// header, code.
func program(machine elf.Machine, text []byte) []byte {
	const base, headers = 0x400000, 64 + 56
	size := uint64(headers + len(text))
	head := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
		Entry: base + headers, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1,
	}
	copy(head.Ident[:], elf.ELFMAG)
	head.Ident[elf.EI_CLASS], head.Ident[elf.EI_DATA], head.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	load := elf.Prog64{
		Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X),
		Vaddr: base, Paddr: base, Filesz: size, Memsz: size, Align: 0x1000,
	}
	file, _ := binary.Append(nil, binary.LittleEndian, head) // structures of fixed size always encode
	file, _ = binary.Append(file, binary.LittleEndian, load)
	return append(file, text...)
}

// makeBundle makes a bundle, a directory with a configuration, for a container with this
// id that runs /true or, to stay, /hold. change, if not nil, makes it another one.
func (b *bench) makeBundle(id, run string, change func(*specs.Spec)) (string, error) {
	root, err := b.makeRoot()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(b.dir, "bundles", id)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	spec := fullContainer(root, group+"/"+id, run)
	if change != nil {
		change(spec)
	}
	config, err := json.MarshalIndent(spec, "", "\t")
	if err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "config.json"), config, 0o644)
}

// withoutNetwork leaves a container in the host's network.
func withoutNetwork(s *specs.Spec) {
	s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == specs.NetworkNamespace })
}

// makeRoot makes the root file system of all bundles, if it is not there yet.
func (b *bench) makeRoot() (string, error) {
	root := filepath.Join(b.dir, "rootfs")
	if _, err := os.Stat(root); err == nil {
		return root, nil
	}
	for _, d := range []string{"proc", "dev", "sys", "etc"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return "", err
		}
	}
	own, ok := code[runtime.GOARCH]
	if !ok {
		return "", fmt.Errorf("no program to run in containers on %s", runtime.GOARCH)
	}
	for name, text := range map[string][]byte{"true": own.exit, "hold": own.hold} {
		if err := os.WriteFile(filepath.Join(root, name), program(own.machine, text), 0o755); err != nil {
			return "", err
		}
	}
	return root, nil
}

// fullContainer is what docker asks a runtime for: six namespaces, seven mounts,
// fourteen capabilities, masked and read-only paths, and its default filter.
func fullContainer(root, group, run string) *specs.Spec {
	caps := []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
		"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE"}
	return &specs.Spec{
		Version: "1.0.2", // crun 1.8 takes no newer one
		Process: &specs.Process{
			Args: []string{run}, Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, Cwd: "/",
			Capabilities:    &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
			NoNewPrivileges: true,
		},
		Root: &specs.Root{Path: root}, Hostname: "bench",
		Mounts: mounts(),
		Linux: &specs.Linux{
			CgroupsPath: group,
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace},
				{Type: specs.MountNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.CgroupNamespace},
			},
			MaskedPaths: []string{"/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
				"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
			Seccomp:       profile.Default(profile.Target{Caps: caps}),
		},
	}
}

func mounts() []specs.Mount {
	safe := []string{"nosuid", "noexec", "nodev"}
	with := func(more ...string) []string { return append(safe[:len(safe):len(safe)], more...) }
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: safe},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: with("mode=1777", "size=65536k")},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: safe},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: with("ro")},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: with("ro")},
	}
}
