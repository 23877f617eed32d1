package apply

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/nft"
	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/host/parts"
	"github.com/containr/containr/pkg/network/bridge"
)

// Unable says why no container can be connected by a bridge here, in words; empty if nothing forbids it. link is the
// bridge: where it is there already, nothing else is asked. Modules that can be loaded count as there; the filter is
// asked, and loaded by that, as the first network would have it loaded.
func Unable(f *host.Facts, link string) string {
	if !f.Root() || f.Capabilities&(1<<unix.CAP_NET_ADMIN) == 0 {
		return "it takes root with CAP_NET_ADMIN"
	}
	if here(func(r *sys.Route) error { _, err := r.LinkIndex(link); return err }) == nil {
		return ""
	}
	if _, err := nft.Exists(bridge.Table); err != nil {
		return fmt.Sprintf("the kernel's packet filter nf_tables cannot be used: %v", err)
	}
	const forward = "/proc/sys/net/ipv4/ip_forward"
	if err := unix.Access(forward, unix.W_OK); errors.Is(err, unix.EROFS) || errors.Is(err, unix.ENOENT) {
		return fmt.Sprintf("%s cannot be written: %v", forward, err)
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return fmt.Sprintf("uname: %v", err)
	}
	kernel := parts.Read(unix.ByteSliceToString(u.Release[:]))
	for _, p := range []struct{ name, option string }{{"bridge", "CONFIG_BRIDGE"}, {"veth", "CONFIG_VETH"}} {
		if kernel.Presence(p.name, p.option) == parts.Absent {
			return fmt.Sprintf("the kernel has no %s", p.name)
		}
	}
	return ""
}
