package parts

import "testing"

func TestKernel(t *testing.T) {
	k := Kernel{names: map[string]bool{}, config: "#\nCONFIG_BRIDGE=m\nCONFIG_VETH=y\n# CONFIG_TUN is not set\n"}
	k.addModules("kernel/net/netfilter/nf_tables.ko.xz: kernel/net/netfilter/nfnetlink.ko.xz\nkernel/fs/over-lay.ko\n\n")
	for name, c := range map[string]struct {
		option string
		want   Presence
	}{
		"nf_tables": {"CONFIG_NF_TABLES", Present}, "over_lay": {"CONFIG_X", Present}, "veth": {"CONFIG_VETH", Present},
		"bridge": {"CONFIG_BRIDGE", Absent}, "tun": {"CONFIG_TUN", Absent},
	} {
		if got := k.Presence(name, c.option); got != c.want {
			t.Errorf("%s is %q, want %q", name, got, c.want)
		}
	}
	if got := (Kernel{}).Presence("tun", "CONFIG_TUN"); got != Unknown {
		t.Errorf("of a silent kernel tun is %q", got)
	}
}
