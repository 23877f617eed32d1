package guest

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containr/containr/internal/testkit/guest/wire"
)

// bootModules are loaded before the program runs: the way to the host, and what most tests use.
var bootModules = []string{"virtio_pci", "virtio_console", "virtio_rng", "overlay", "veth", "bridge"}

// diskModules are loaded before them where the root is on a disk.
var diskModules = []string{"virtio_pci", "virtio_blk", "squashfs", "overlay"}

// carriedModules are patterns (path.Match) of the modules that the guest has on board for the kernel to ask for.
// A module that a kernel does not have, or has built in, is not missed.
var carriedModules = []string{
	// file systems and their devices
	"overlay", "loop", "squashfs", "erofs", "ext4", "fuse", "binfmt_misc", "virtio_blk", "autofs4", "configfs",
	// links
	"veth", "bridge", "br_netfilter", "dummy", "tun", "macvlan", "ipvlan", "vxlan", "8021q", "ifb", "wireguard",
	// packet filters, old and new
	"nf_tables", "nft_*", "nf_nat*", "nf_conntrack*", "nf_reject*", "nf_log*", "nfnetlink*", "x_tables", "xt_*",
	"ip_tables", "iptable_*", "ipt_*", "ip6_tables", "ip6table_*", "ip6t_*", "ip_set*",
	// traffic control and sockets
	"sch_*", "cls_*", "act_mirred", "act_police", "vsock",
	// what CRIU asks about sockets with
	"unix_diag", "inet_diag", "tcp_diag", "udp_diag", "raw_diag", "netlink_diag", "af_packet_diag",
}

// moduleFiles finds the module files of a kernel below dir, by name with underscores.
func moduleFiles(dir string) (map[string]string, error) {
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := moduleName(p); name != "" && d.Type().IsRegular() {
			files[name] = p
		}
		return nil
	})
	return files, err
}

// moduleName returns "nf_nat" for "net/netfilter/nf-nat.ko.xz", and nothing for a file that is no module.
func moduleName(p string) string {
	base, _, ok := strings.Cut(path.Base(p), ".ko")
	if !ok {
		return ""
	}
	return strings.ReplaceAll(base, "-", "_")
}

// packModules copies the carried modules of the tree at dir and all that they need to the directory out,
// decompressed, and returns their index.
func packModules(dir, out string) (wire.Modules, error) {
	m := wire.Modules{Needs: map[string][]string{}, Aliases: map[string][]string{}}
	files, err := moduleFiles(dir)
	if err != nil {
		return m, err
	}
	todo := slices.Concat(bootModules, diskModules)
	for name := range files {
		if slices.ContainsFunc(carriedModules, func(p string) bool { ok, _ := path.Match(p, name); return ok }) {
			todo = append(todo, name)
		}
	}
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		if _, done := m.Needs[name]; done || files[name] == "" {
			continue // there already, or built in
		}
		content, err := readModule(files[name])
		if err != nil {
			return m, err
		}
		info, err := modinfo(content)
		if err != nil {
			return m, fmt.Errorf("module %s: %w", name, err)
		}
		m.Needs[name] = needs(info)
		for _, alias := range info["alias"] {
			if !strings.ContainsAny(alias, "*?[") {
				m.Aliases[alias] = append(m.Aliases[alias], name)
			}
		}
		todo = append(todo, m.Needs[name]...)
		if err := os.WriteFile(filepath.Join(out, name+".ko"), content, 0o644); err != nil {
			return m, err
		}
	}
	return m, nil
}

// readModule reads a module file, plain or compressed with xz.
func readModule(p string) ([]byte, error) {
	b, err := os.ReadFile(p)
	if err != nil || !strings.HasSuffix(p, ".xz") {
		return b, err
	}
	return unxz(b)
}

// modinfo reads the .modinfo section of a module: strings "key=value" that end with a zero byte.
func modinfo(module []byte) (map[string][]string, error) {
	f, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return nil, err
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, fmt.Errorf("no .modinfo section")
	}
	data, err := s.Data()
	if err != nil {
		return nil, err
	}
	info := map[string][]string{}
	for kv := range bytes.SplitSeq(data, []byte{0}) {
		if k, v, ok := strings.Cut(string(kv), "="); ok {
			info[k] = append(info[k], v)
		}
	}
	return info, nil
}

// needs lists the modules that must be loaded before: "depends=a,b" and "softdep=pre: c d".
func needs(info map[string][]string) []string {
	out := []string{}
	for _, list := range info["depends"] {
		for name := range strings.SplitSeq(list, ",") {
			if name != "" {
				out = append(out, strings.ReplaceAll(name, "-", "_"))
			}
		}
	}
	for _, soft := range info["softdep"] {
		pre, _, _ := strings.Cut(strings.TrimPrefix(soft, "pre:"), "post:")
		if strings.HasPrefix(soft, "pre:") {
			for _, name := range strings.Fields(pre) {
				out = append(out, strings.ReplaceAll(name, "-", "_"))
			}
		}
	}
	return out
}
