package container

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"pgregory.net/rapid"
)

// row is one line of a grammar's table: a text, and either what it means or a
// part of the error it gives.
type row[T any] struct {
	in   string
	want T
	err  string
}

func table[T any](t *testing.T, parse func(string) (T, error), rows []row[T]) {
	t.Helper()
	for _, r := range rows {
		got, err := parse(r.in)
		switch {
		case r.err != "" && (err == nil || !strings.Contains(err.Error(), r.err)):
			t.Errorf("%q: got %v, error %v; want an error with %q", r.in, got, err, r.err)
		case r.err == "" && err != nil:
			t.Errorf("%q: %v", r.in, err)
		case r.err == "" && !reflect.DeepEqual(got, r.want):
			t.Errorf("%q: %s", r.in, cmp.Diff(r.want, got))
		}
	}
}

func lookup(key string) (string, bool) {
	v, ok := map[string]string{"HOME": "/home/me", "EMPTY": ""}[key]
	return v, ok
}

func TestParseEnv(t *testing.T) {
	table(t, func(s string) (string, error) { return ParseEnv(s, lookup) }, []row[string]{
		{in: "A=1", want: "A=1"},
		{in: "A=", want: "A="},
		{in: "A=b=c", want: "A=b=c"},
		{in: "HOME", want: "HOME=/home/me"},
		{in: "EMPTY", want: "EMPTY="},
		{in: "UNKNOWN", want: "UNKNOWN"},
		{in: "some var=x", want: "some var=x"}, // docker only looks at the name in a file
		{in: "=x", err: "no name"},
		{in: "", err: "no name"},
		{in: "A=\x00", err: "zero byte"},
	})
}

func TestParseEnvFile(t *testing.T) {
	parse := func(s string) ([]string, error) { return ParseEnvFile("vars", strings.NewReader(s), lookup) }
	table(t, parse, []row[[]string]{
		{in: ""},
		{in: "A=1\nB=2\n", want: []string{"A=1", "B=2"}},
		{in: "A=1\r\nB=2", want: []string{"A=1", "B=2"}},
		{in: "\ufeffA=1", want: []string{"A=1"}},
		{in: "# comment\n\n  \t\n  A=1", want: []string{"A=1"}},
		{in: "A='quoted' # kept ", want: []string{"A='quoted' # kept "}},
		{in: "A=\"x\"", want: []string{`A="x"`}},
		{in: "HOME\nUNKNOWN", want: []string{"HOME=/home/me"}},
		{in: "A=1\n=2", err: "vars:2: no variable name"},
		{in: "A B=1", err: `vars:1: variable name "A B" contains white space`},
		{in: "A =1", err: "vars:1:"},
		{in: "export A=1", err: "white space"},
		{in: "A=1\n\xff", err: "vars:2: not valid UTF-8"},
		{in: "A=" + strings.Repeat("x", maxFileLine), err: "vars:1:"},
	})
}

func TestEnvironment(t *testing.T) {
	tests := []struct {
		name        string
		tty         bool
		image, user []string
		want        string
	}{
		{"defaults", false, nil, nil, "PATH=" + defaultPath + " HOSTNAME=h HOME=/root"},
		{"terminal", true, nil, nil, "PATH=" + defaultPath + " HOSTNAME=h TERM=xterm HOME=/root"},
		{"image in place", false, []string{"PATH=/bin", "A=1"}, nil, "PATH=/bin HOSTNAME=h A=1 HOME=/root"},
		{"user over image", false, []string{"A=1"}, []string{"A=2", "A=3"}, "PATH=" + defaultPath + " HOSTNAME=h A=3 HOME=/root"},
		{"user removes", false, []string{"A=1"}, []string{"A", "PATH", "HOME"}, "HOSTNAME=h"},
		{"user says home", false, nil, []string{"HOME=/x", "PATH"}, "HOSTNAME=h HOME=/x"},
		{"image says home", false, []string{"HOME=/y"}, []string{"PATH"}, "HOSTNAME=h HOME=/y"},
		{"removed and set again", false, nil, []string{"PATH", "PATH=/b"}, "HOSTNAME=h PATH=/b HOME=/root"},
	}
	for _, tt := range tests {
		if got := strings.Join(environment("h", "/root", tt.tty, tt.image, tt.user), " "); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestParseSize(t *testing.T) {
	table(t, ParseSize, []row[int64]{
		{in: "0", want: 0}, {in: "64", want: 64}, {in: "64b", want: 64}, {in: "1k", want: 1024},
		{in: "1KiB", want: 1024}, {in: "1.5m", want: 3 << 19}, {in: "2 GB", want: 2 << 30}, {in: "1t", want: 1 << 40},
		{in: "", err: "not a number"}, {in: "m", err: "not a number"}, {in: "-1", err: "not a number"},
		{in: "1x", err: "not a number"}, {in: "1mm", err: "not a number"}, {in: "99999999999999g", err: "out of range"},
	})
	table(t, ParseMemorySwap, []row[int64]{{in: "-1", want: -1}, {in: "1g", want: 1 << 30}, {in: "-2", err: "not a number"}})
}

func TestParseCPUs(t *testing.T) {
	table(t, ParseCPUs, []row[int64]{
		{in: "1", want: 1e9}, {in: "1.5", want: 15e8}, {in: ".5", want: 5e8}, {in: "0.000000001", want: 1},
		{in: "0.0000000001", err: "nine digits"}, {in: "-1", err: "out of range"}, {in: "1e3", err: "not a number"},
		{in: "1/2", err: "not a number"}, {in: "", err: "not a number"}, {in: "99999999999999999999", err: "out of range"},
	})
}

func TestParseUlimit(t *testing.T) {
	table(t, ParseUlimit, []row[Ulimit]{
		{in: "nofile=1024", want: Ulimit{"nofile", 1024, 1024}},
		{in: "nofile=1024:2048", want: Ulimit{"nofile", 1024, 2048}},
		{in: "core=-1", want: Ulimit{"core", -1, -1}},
		{in: "core=0:unlimited", want: Ulimit{"core", 0, -1}},
		{in: "nofile", err: "not name=soft"},
		{in: "nofil=1", err: "did you mean nofile?"},
		{in: "zzzzzz=1", err: "use one of as core"},
		{in: "nofile=2048:1024", err: "above the hard one"},
		{in: "nofile=-1:1024", err: "above the hard one"},
		{in: "nofile=x", err: "-1 or unlimited"},
		{in: "nofile=1:2:3", err: "-1 or unlimited"},
		{in: "nofile=-2", err: "-1 or unlimited"},
	})
}

func TestParseUmask(t *testing.T) {
	table(t, ParseUmask, []row[uint32]{
		{in: "0022", want: 0o22}, {in: "77", want: 0o77}, {in: "0", want: 0},
		{in: "1000", err: "octal"}, {in: "8", err: "octal"}, {in: "", err: "octal"},
	})
}

func TestParseCPUList(t *testing.T) {
	table(t, ParseCPUList, []row[[]int]{
		{in: "0", want: []int{0}}, {in: "0-2,1,5", want: []int{0, 1, 2, 5}},
		{in: "2-1", err: "not numbers"}, {in: "", err: "not numbers"}, {in: "0,", err: "not numbers"},
		{in: "-1", err: "not numbers"}, {in: "0-99999999", err: "not numbers"},
	})
}

func TestParseVolume(t *testing.T) {
	bind := func(source, target string) Mount { return Mount{Type: MountBind, Source: source, Target: target} }
	ro := bind("/a", "/b")
	ro.ReadOnly = true
	shared := bind("/a", "/b")
	shared.ReadOnly, shared.Propagation = true, "rshared"
	table(t, func(s string) (Mount, error) { return ParseVolume(s, "/here/dir") }, []row[Mount]{
		{in: "/a:/b", want: bind("/a", "/b")},
		{in: "/a/../c/:/b//d/", want: bind("/c", "/b/d")},
		{in: ".:/b", want: bind("/here/dir", "/b")},
		{in: "./x:/b", want: bind("/here/dir/x", "/b")},
		{in: "../x:/b", want: bind("/here/x", "/b")},
		{in: "/a:/b:ro", want: ro},
		{in: "/a:/b:ro,rshared", want: shared},
		{in: "/a:/b:z,cached", want: bind("/a", "/b")},
		{in: "data:/b", want: Mount{Type: MountVolume, Source: "data", Target: "/b"}},
		{in: "data:/b:ro,nocopy,U", want: Mount{Type: MountVolume, Source: "data", Target: "/b", ReadOnly: true, NoCopy: true, Own: true}},
		{in: "data@before:/b", want: Mount{Type: MountVolume, Source: "data@before", Target: "/b"}},
		{in: "data:/b:rshared", err: "a propagation belongs to a path of the host"},
		{in: "/a:/b:U", err: "those of the host are not changed"},
		{in: "/a:/b:nocopy", want: bind("/a", "/b")},
		{in: "~/x:/b", err: "not a path that begins with / or ., nor a name for a volume"},
		{in: "/b", want: Mount{Type: MountVolume, Target: "/b", Anonymous: true}},
		{in: "/", err: "cannot be /"},
		{in: ":/b", err: "source is empty"},
		{in: "/a:b", err: `target "b" is not an absolute path`},
		{in: "/a:", err: "not an absolute path"},
		{in: "/a:/", err: "cannot be /"},
		{in: "/a:/x/..", err: "cannot be /"},
		{in: "/a:/b:ro,rw", err: "given twice"},
		{in: "/a:/b:shared,slave", err: "propagation is given twice"},
		{in: "/a:/b:nope", err: `unknown option "nope"`},
		{in: "/a:/b:ro:rw", err: "not SOURCE:TARGET"},
		{in: "/a\x00:/b", err: "zero byte"},
	})
}

func TestParseTmpfs(t *testing.T) {
	table(t, ParseTmpfs, []row[Mount]{
		{in: "/run", want: Mount{Type: MountTmpfs, Target: "/run"}},
		{in: "/run:size=64m,exec,mode=1777", want: Mount{Type: MountTmpfs, Target: "/run", Options: []string{"size=64m", "exec", "mode=1777"}}},
		{in: "run", err: "not an absolute path"},
		{in: "/run:size", err: `unknown option "size"`},
		{in: "/run:exec=1", err: "unknown option"},
		{in: "/run:upperdir=/x", err: "unknown option"},
		{in: "/run:size=", err: "unknown option"},
	})
}

func TestTmpfsOptions(t *testing.T) {
	tests := []struct {
		mount Mount
		want  string
	}{
		{Mount{}, "noexec,nosuid,nodev,rprivate"},
		{Mount{Options: []string{"exec", "suid"}}, "nodev,rprivate,exec,suid"},
		{Mount{Options: []string{"size=1k", "size=2k"}}, "noexec,nosuid,nodev,rprivate,size=2k"},
		{Mount{Options: []string{"rw"}, ReadOnly: true, Mode: 0o700, Size: 5}, "noexec,nosuid,nodev,rprivate,ro,mode=700,size=5"},
	}
	for _, tt := range tests {
		if got := strings.Join(tmpfsOptions(tt.mount), ","); got != tt.want {
			t.Errorf("%+v: got %s, want %s", tt.mount, got, tt.want)
		}
	}
}

func TestParseMount(t *testing.T) {
	table(t, func(s string) (Mount, error) { return ParseMount(s, "/here") }, []row[Mount]{
		{in: "type=bind,src=/a,dst=/b", want: Mount{Type: MountBind, Source: "/a", Target: "/b"}},
		{in: "Type=BIND,source=./a,target=/b,readonly", want: Mount{Type: MountBind, Source: "/here/a", Target: "/b", ReadOnly: true}},
		{in: "type=bind,src=/a,destination=/b,ro=false", want: Mount{Type: MountBind, Source: "/a", Target: "/b"}},
		{in: `type=bind,"src=/a,b",dst=/b`, want: Mount{Type: MountBind, Source: "/a,b", Target: "/b"}},
		{in: "dst=/b,src=/a,type=bind,bind-propagation=rslave,bind-recursive=disabled,bind-create-src",
			want: Mount{Type: MountBind, Source: "/a", Target: "/b", Propagation: "rslave", Recursion: RecursionDisabled, CreateSource: true}},
		{in: "type=bind,src=/a,dst=/b,ro,bind-propagation=rprivate,bind-recursive=readonly",
			want: Mount{Type: MountBind, Source: "/a", Target: "/b", ReadOnly: true, Propagation: "rprivate", Recursion: RecursionReadOnly}},
		{in: "type=bind,src=/a,dst=/b,bind-nonrecursive", want: Mount{Type: MountBind, Source: "/a", Target: "/b", Recursion: RecursionDisabled}},
		{in: "type=bind,src=/a,dst=/b,consistency=cached", want: Mount{Type: MountBind, Source: "/a", Target: "/b"}},
		{in: "type=tmpfs,dst=/b,tmpfs-size=1m,tmpfs-mode=1777", want: Mount{Type: MountTmpfs, Target: "/b", Size: 1 << 20, Mode: 0o1777}},
		{in: "type=tmpfs,dst=/b,readonly=true", want: Mount{Type: MountTmpfs, Target: "/b", ReadOnly: true}},
		{in: "", err: "not KEY=VALUE pairs"},
		{in: "type=bind,src=/a", err: "target"},
		{in: "type=bind,dst=/b", err: "source is empty"},
		{in: "type=bind,src=a,dst=/b", err: "not a path that begins with / or ."},
		{in: "type=bind,src=/a,dst=b", err: "not an absolute path"},
		{in: "type=bind,src=/a,dst=/b,tmpfs-size=1", err: "belong to type=tmpfs"},
		{in: "type=bind,src,dst=/b", err: "src needs a value"},
		{in: "type=bind,src=/a,dst=/b,ro=maybe", err: "not true or false"},
		{in: "type=bind,src=/a,dst=/b,bind-propagation=up", err: "use one of private"},
		{in: "type=bind,src=/a,dst=/b,bind-recursive=writable", err: "needs readonly"},
		{in: "type=bind,src=/a,dst=/b,bind-recursive=readonly,ro", err: "needs bind-propagation=rprivate"},
		{in: "type=bind,source=/a,targt=/b", err: `unknown key "targt": did you mean target?`},
		{in: "type=bind,src=/a,dst=/b,volume-nocopy=true", err: "volume-nocopy belongs to type=volume"},
		{in: "type=tmpfs,src=/a,dst=/b", err: "has no source"},
		{in: "type=tmpfs,dst=/b,bind-propagation=private", err: "belong to type=bind"},
		{in: "type=tmpfs,dst=/b,tmpfs-mode=9", err: "octal"},
		{in: "type=tmpfs,dst=/b,tmpfs-size=x", err: "not a number"},
		{in: "type=volume,src=data,dst=/b", want: Mount{Type: MountVolume, Source: "data", Target: "/b"}},
		{in: "type=volume,src=data,dst=/b,volume-nocopy,volume-subpath=x/y,volume-label=a=b,volume-driver=local,ro", want: Mount{Type: MountVolume,
			Source: "data", Target: "/b", NoCopy: true, Subpath: "x/y", VolumeDriver: "local", Labels: map[string]string{"a": "b"}, ReadOnly: true}},
		{in: "type=volume,src=../data,dst=/b", err: "volume name"},
		{in: "type=volume,src=data,dst=/b,volume-subpath=../x", err: "not a path below its top"},
		{in: "type=volume,src=data,dst=/b,volume-subpath=/x", err: "not a path below its top"},
		{in: "type=volume,src=data,dst=/b,volume-driver=/nfs", err: "is not local, and no name of a volume plugin"},
		{in: "type=volume,src=data,dst=/b,volume-opt=o=size", err: "option type is missing"},
		{in: "type=volume,src=data,dst=/b,volume-opt=type=tmpfs,volume-opt=o=size=1m", want: Mount{Type: MountVolume,
			Source: "data", Target: "/b", VolumeOptions: map[string]string{"type": "tmpfs", "o": "size=1m"}}},
		{in: "type=volume,src=data,dst=/b,bind-recursive=disabled", err: "belongs to type=bind"},
		{in: "type=volume,src=data,dst=/b,tmpfs-size=1k", err: "belong to type=tmpfs"},
		{in: "type=bind,src=/a,dst=/b,u", err: "those of the host are not changed"},
		{in: "type=image,src=debian,dst=/b,image-subpath=etc", want: Mount{Type: MountImage, Source: "debian", Target: "/b", Subpath: "etc", ReadOnly: true}},
		{in: "type=image,dst=/b", err: "source=IMAGE is missing"},
		{in: "src=/data,dst=/b", err: "a source that is a path needs type=bind"},
		{in: "dst=/b", want: Mount{Type: MountVolume, Target: "/b", Anonymous: true}},
		{in: "type=npipe,dst=/b", err: "type npipe is not available"},
	})
}

func TestParseGPUs(t *testing.T) {
	both := []string{"nvidia.com/gpu", "amd.com/gpu"}
	table(t, ParseGPUs, []row[GPURequest]{
		{in: "all", want: GPURequest{both, []string{"all"}}},
		{in: "2", want: GPURequest{both, []string{"0", "1"}}},
		{in: "count=-1", want: GPURequest{both, []string{"all"}}},
		{in: `"device=0,GPU-abc"`, want: GPURequest{both, []string{"0", "GPU-abc"}}},
		{in: "driver=amd,count=1", want: GPURequest{both[1:], []string{"0"}}},
		{in: "capabilities=gpu", want: GPURequest{both, []string{"all"}}},
		{in: "0", err: "use all, or a number from 1"},
		{in: "many", err: "use all, or a number from 1"},
		{in: "device=", err: "empty"},
		{in: "device=0,count=1", err: "not both"},
		{in: "driver=other", err: "use nvidia or amd"},
		{in: "capabilities=video", err: "only gpu can be asked for"},
		{in: "options=x", err: "use count, device, driver or capabilities"},
		{in: `"`, err: "gpus"},
	})
}

func TestParseDevice(t *testing.T) {
	table(t, ParseDevice, []row[Device]{
		{in: "/dev/fuse", want: Device{"/dev/fuse", "/dev/fuse", "rwm"}},
		{in: "/dev/fuse:r", want: Device{"/dev/fuse", "/dev/fuse", "r"}},
		{in: "/dev/fuse:/dev/x", want: Device{"/dev/fuse", "/dev/x", "rwm"}},
		{in: "/dev/fuse:/dev/x/:rw", want: Device{"/dev/fuse", "/dev/x", "rw"}},
		{in: "/dev/fuse:/dev/x:rr", err: "letters of rwm"},
		{in: "/dev/fuse:/dev/x:", err: "letters of rwm"},
		{in: "/dev/fuse:x", err: "must be absolute"},
		{in: "fuse", err: "must be absolute"},
		{in: "", err: "must be absolute"},
		{in: "vendor.com/gpu=0", err: "paths must be absolute"}, // a name, which the command line has taken out before
		{in: "/a:/b:r:w", err: "not HOST"},
	})
}

func TestParseDeviceRule(t *testing.T) {
	number := func(n int64) *int64 { return &n }
	table(t, ParseDeviceRule, []row[specs.LinuxDeviceCgroup]{
		{in: "c 13:* rw", want: specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: number(13), Access: "rw"}},
		{in: "b *:0 m", want: specs.LinuxDeviceCgroup{Allow: true, Type: "b", Minor: number(0), Access: "m"}},
		{in: "a *:* rwm", want: specs.LinuxDeviceCgroup{Allow: true, Type: "a", Access: "rwm"}},
		{in: "x 1:1 r", err: "not TYPE"}, {in: "c 1 r", err: "not TYPE"}, {in: "c 1:-1 r", err: "not TYPE"},
		{in: "c 1:1 rx", err: "not TYPE"}, {in: "c 1:1", err: "not TYPE"}, {in: "", err: "not TYPE"},
	})
}

func TestParseIDMap(t *testing.T) {
	table(t, ParseIDMap, []row[specs.LinuxIDMapping]{
		{in: "0:100000:65536", want: specs.LinuxIDMapping{HostID: 100000, Size: 65536}},
		{in: "5:6", want: specs.LinuxIDMapping{ContainerID: 5, HostID: 6, Size: 1}},
		{in: "0:0:4294967295", want: specs.LinuxIDMapping{Size: 4294967295}},
		{in: "0", err: "not CONTAINER:HOST"}, {in: "0:1:2:3", err: "not CONTAINER:HOST"},
		{in: "0:0:0", err: "empty"}, {in: "1:0:4294967295", err: "beyond"},
		{in: "@0:1:1", err: `"@0" is not a number`}, {in: "0:-1:1", err: "not a number"}, {in: "0:4294967296:1", err: "not a number"},
	})
}

func TestParseHost(t *testing.T) {
	table(t, ParseHost, []row[Host]{
		{in: "db:10.0.0.1", want: Host{"db", "10.0.0.1"}},
		{in: "db=10.0.0.1", want: Host{"db", "10.0.0.1"}},
		{in: "db:::1", want: Host{"db", "::1"}},
		{in: "db:[2001:db8::0001]", want: Host{"db", "2001:db8::1"}},
		{in: "db=[::1]", want: Host{"db", "::1"}},
		{in: "db", err: "not NAME:IP"}, {in: ":1.2.3.4", err: "not NAME:IP"},
		{in: "db:10.0.0", err: "not an IP address"}, {in: "db:host-gateway", want: Host{"db", "host-gateway"}},
		{in: "a b:1.2.3.4", err: "white space"}, {in: "a\nb:1.2.3.4", err: "white space"},
	})
}

func TestParseDNS(t *testing.T) {
	table(t, ParseDNSServer, []row[string]{
		{in: "8.8.8.8", want: "8.8.8.8"}, {in: "::1", want: "::1"}, {in: "fe80::1%eth0", want: "fe80::1%eth0"},
		{in: "dns.example", err: "not an IP"}, {in: "", err: "not an IP"}, {in: "1.1.1.1\nx", err: "not an IP"},
	})
	table(t, ParseDNSSearch, []row[string]{
		{in: ".", want: "."}, {in: "example.org", want: "example.org"}, {in: "example.org.", want: "example.org"},
		{in: "_tcp.example", want: "_tcp.example"}, {in: "", err: "not a domain"}, {in: "-a.org", err: "not a domain"},
		{in: "a..b", err: "not a domain"}, {in: "a b", err: "not a domain"}, {in: strings.Repeat("a", 64), err: "not a domain"},
		{in: strings.Repeat("a.", 127) + "a", err: "longer than 253"},
	})
	table(t, ParseDNSOption, []row[string]{
		{in: "ndots:2", want: "ndots:2"}, {in: "", err: "one word"}, {in: "a b", err: "one word"}, {in: "a\nnameserver", err: "one word"},
	})
}

func TestParseSysctl(t *testing.T) {
	parse := func(s string) (string, error) {
		name, value, err := ParseSysctl(s)
		return name + " is " + value, err
	}
	table(t, parse, []row[string]{
		{in: "net.core.somaxconn=1024", want: "net.core.somaxconn is 1024"},
		{in: "kernel.sem=250 32000 100 128", want: "kernel.sem is 250 32000 100 128"},
		{in: "fs.mqueue.msg_max=5", want: "fs.mqueue.msg_max is 5"},
		{in: "kernel.domainname=x", want: "kernel.domainname is x"},
		{in: "kernel.core_pattern=|/x", err: "not allowed"},
		{in: "kernel.hostname=x", err: "not allowed"},
		{in: "net.core.somaxconn", err: "not NAME=VALUE"},
		{in: "net./../../kernel.x=1", err: "words with dots"},
		{in: "net...kernel=1", err: "words with dots"},
		{in: "=1", err: "not NAME=VALUE"},
	})
}

func TestSecuritySet(t *testing.T) {
	parse := func(s string) (Security, error) {
		var out Security
		for o := range strings.SplitSeq(s, " ") {
			if err := out.Set(o); err != nil {
				return out, err
			}
		}
		return out, nil
	}
	table(t, parse, []row[Security]{
		{in: "no-new-privileges", want: Security{NoNewPrivileges: true}},
		{in: "no-new-privileges:true", want: Security{NoNewPrivileges: true}},
		{in: "no-new-privileges no-new-privileges=false", want: Security{}},
		{in: "seccomp=unconfined", want: Security{Seccomp: SeccompUnconfined}},
		{in: "seccomp:/p.json", want: Security{Seccomp: "/p.json"}},
		{in: "seccomp=x seccomp=builtin", want: Security{Seccomp: SeccompDefault}},
		{in: "systempaths=unconfined", want: Security{SystemPaths: SystemPathsUnconfined}},
		{in: "apparmor=web", want: Security{AppArmor: "web"}},
		{in: "label=disable", want: Security{Labels: []string{"disable"}}},
		{in: "label=type:web_t label=level:s0:c1", want: Security{Labels: []string{"type:web_t", "level:s0:c1"}}},
		{in: "no-new-privileges=maybe", err: "not true or false"},
		{in: "seccomp", err: "not KEY=VALUE"}, {in: "seccomp=", err: "not KEY=VALUE"},
		{in: "systempaths=masked", err: "systempaths=unconfined"},
		{in: "label=color:red", err: "use label=disable"},
		{in: "secomp=unconfined", err: "did you mean seccomp?"}, {in: "x=y", err: "use one of"},
	})
}

func TestSELinuxLabel(t *testing.T) {
	if got := selinuxLabel(Security{Labels: []string{"type:web_t", "level:s0:c1,c2"}}); got != "system_u:system_r:web_t:s0:c1,c2" {
		t.Errorf("got %q", got)
	}
	if got := mountLabel("system_u:system_r:web_t:s0:c1,c2"); got != "system_u:object_r:container_file_t:s0:c1,c2" {
		t.Errorf("files: %q", got)
	}
	if got := mountLabel(""); got != "" {
		t.Errorf("files without a label: %q", got)
	}
}

func TestParseSignal(t *testing.T) {
	table(t, ParseSignal, []row[int]{
		{in: "TERM", want: 15}, {in: "sigterm", want: 15}, {in: "9", want: 9}, {in: "SIGRTMIN", want: 34},
		{in: "RTMIN+3", want: 37}, {in: "SIGRTMAX-1", want: 63}, {in: "IOT", want: 6}, {in: "64", want: 64},
		{in: "0", err: "out of range"}, {in: "65", err: "out of range"}, {in: "-1", err: "out of range"},
		{in: "RTMIN+31", err: "unknown"}, {in: "RTMIN3", err: "unknown"}, {in: "RTMIN+", err: "unknown"},
		{in: "SIGQUT", err: "did you mean SIGQUIT?"}, {in: "", err: "unknown"},
	})
}

func TestParseCapability(t *testing.T) {
	table(t, ParseCapability, []row[string]{
		{in: "sys_admin", want: "CAP_SYS_ADMIN"}, {in: "CAP_CHOWN", want: "CAP_CHOWN"}, {in: "all", want: "ALL"},
		{in: "CAP_ALL", want: "ALL"}, {in: "CHWON", err: "did you mean CAP_CHOWN?"}, {in: "xyzzyplugh", err: "see capabilities(7)"}, {in: "", err: "unknown"},
	})
}

func TestCapabilities(t *testing.T) {
	all := CapabilitySet(1<<41 - 1)
	short := func(c []string) string {
		return strings.ReplaceAll(strings.Join(c, " "), "CAP_", "")
	}
	tests := []struct {
		name      string
		config    Config
		available []string
		count     int
		has, not  string
	}{
		{"default", Config{}, all, 14, "CHOWN", "SYS_ADMIN"},
		{"drop one", Config{CapDrop: []string{"chown"}}, all, 13, "FOWNER", "CAP_CHOWN"},
		{"add one", Config{CapAdd: []string{"sys_time"}}, all, 15, "SYS_TIME", "SYS_ADMIN"},
		{"dropped and added stays", Config{CapDrop: []string{"CHOWN"}, CapAdd: []string{"CHOWN"}}, all, 14, "CHOWN", "SYS_ADMIN"},
		{"drop all", Config{CapDrop: []string{"ALL"}}, all, 0, "", "CHOWN"},
		{"drop all add one", Config{CapDrop: []string{"ALL"}, CapAdd: []string{"KILL", "cap_kill"}}, all, 1, "KILL", "CHOWN"},
		{"add all", Config{CapAdd: []string{"ALL"}}, all, 41, "SYS_ADMIN", "nothing"},
		{"add all drop one", Config{CapAdd: []string{"ALL"}, CapDrop: []string{"SYS_ADMIN"}}, all, 40, "BPF", "SYS_ADMIN"},
		{"privileged", Config{Privileged: true, CapDrop: []string{"ALL"}}, all, 41, "SYS_ADMIN", "nothing"},
		{"privileged gets what there is", Config{Privileged: true}, CapabilitySet(0xff), 8, "KILL", "SYS_ADMIN"},
		{"a default one is missing", Config{}, CapabilitySet(0xff), 7, "KILL", "NET_RAW"},
	}
	for _, tt := range tests {
		got, err := Capabilities(tt.config, tt.available)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if s := short(got); len(got) != tt.count || !strings.Contains(s, tt.has) || strings.Contains(" "+s+" ", " "+tt.not+" ") {
			t.Errorf("%s: %d capabilities: %s", tt.name, len(got), s)
		}
	}
	if _, err := Capabilities(Config{CapAdd: []string{"SYS_RESOURCE"}}, CapabilitySet(0xff)); err == nil {
		t.Error("a capability that cannot be given was accepted")
	}
}

func TestResolveUser(t *testing.T) {
	ids := func(n ...uint32) []uint32 { return n }
	tests := []struct {
		user     string
		add      []string
		uid, gid uint32
		groups   []uint32
		home     string
		err      string
	}{
		{user: "", groups: ids(0, 4), home: "/root"},
		{user: "root", groups: ids(0, 4), home: "/root"},
		{user: "0", groups: ids(0, 4), home: "/root"},
		{user: "app", uid: 1000, gid: 1001, groups: ids(1001, 4, 29, 46), home: "/home/app"},
		{user: "1000", uid: 1000, gid: 1001, groups: ids(1001, 4, 29, 46), home: "/home/app"},
		{user: "app:audio", uid: 1000, gid: 29, groups: ids(29), home: "/home/app"},
		{user: "app:5", uid: 1000, gid: 5, groups: ids(5), home: "/home/app"},
		{user: ":33", gid: 33, groups: ids(33), home: "/root"},
		{user: "1:", uid: 1, gid: 1, groups: ids(1), home: "/usr/sbin"},
		{user: "77", uid: 77, groups: ids(0), home: "/"},
		{user: "77:88", uid: 77, gid: 88, groups: ids(88), home: "/"},
		{user: "1234", uid: 1234, groups: ids(0), home: "/"}, // digits are a number, though a user has that name
		{user: "root:4321", gid: 4321, groups: ids(4321), home: "/root"},
		{user: "nohome", uid: 1002, gid: 1002, groups: ids(1002), home: "/"},
		{user: "2147483647", uid: MaxID, groups: ids(0), home: "/"},
		{user: "app", add: []string{"www-data", "33", "99"}, uid: 1000, gid: 1001, groups: ids(1001, 4, 29, 46, 33, 99), home: "/home/app"},
		{user: "2147483648", err: "out of range 0..2147483647"},
		{user: "4294967296", err: "out of range"},
		{user: "99999999999999999999999", err: "out of range"},
		{user: "-1", err: "out of range"},
		{user: "root:-1", err: "out of range"},
		{user: "root:5:6", err: "not a name or a number"},
		{user: "nobody", err: "unknown user or group"},
		{user: "root:nogroup", err: "unknown user or group"},
		{user: "huge", err: "unknown user or group"},
		{user: "negative", err: "unknown user or group"},
		{user: "short", err: "unknown user or group"},
		{user: "+nis", err: "unknown user or group"},
		{user: "# a comment", err: "unknown user or group"},
		{user: "a/b", err: "not a name"},
		{user: "root", add: []string{"nogroup"}, err: "--group-add"},
		{user: "root", add: []string{""}, err: "--group-add"},
	}
	for _, tt := range tests {
		u, home, err := ResolveUser(tt.user, []byte(testPasswd), []byte(testGroup), tt.add)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q: %+v, error %v; want %q", tt.user, u, err, tt.err)
			}
			continue
		}
		want := specs.User{UID: tt.uid, GID: tt.gid, AdditionalGids: tt.groups}
		if err != nil || !reflect.DeepEqual(u, want) || home != tt.home {
			t.Errorf("%q: %+v at %s, error %v; want %+v at %s", tt.user, u, home, err, want, tt.home)
		}
	}
}

// TestResolveUserNeverInventsRoot: a text that does not name root never runs as
// root, and what is refused is refused, whatever the text.
func TestResolveUserNeverInventsRoot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[-+0-9a-z_:]{1,24}`).Draw(t, "user")
		u, _, err := ResolveUser(name, []byte(testPasswd), []byte(testGroup), nil)
		who, _, _ := strings.Cut(name, ":")
		isRoot := who == "" || who == "root" || strings.Trim(who, "0") == ""
		if err == nil && u.UID == 0 && !isRoot {
			t.Errorf("%q became root", name)
		}
		if err == nil && (u.UID > MaxID || u.GID > MaxID) {
			t.Errorf("%q became %d:%d", name, u.UID, u.GID)
		}
	})
}

func TestHostsFile(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("10.88.0.2")}
	got := string(HostsFile(nil, []string{"web.example", "web"}, own, []Host{{"db", "10.0.0.1"}}))
	want := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\n" +
		"ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n10.0.0.1\tdb\n10.88.0.2\tweb.example web\n"
	if got != want {
		t.Errorf("got\n%s", got)
	}
	if got := string(HostsFile([]byte("1.2.3.4 own"), nil, nil, []Host{{"db", "10.0.0.1"}})); got != "1.2.3.4 own\n10.0.0.1\tdb\n" {
		t.Errorf("in the host's network: %q", got)
	}
}

func TestResolvConf(t *testing.T) {
	const host = "# made by hand\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nsearch a.example b.example\noptions edns0 trust-ad\n"
	tests := []struct {
		name     string
		dns      DNS
		own      bool
		want     string
		resolver string
	}{
		{"the host's network", DNS{}, false, "nameserver 127.0.0.53\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nsearch a.example b.example\noptions edns0 trust-ad\n", ""},
		{"its own", DNS{}, true, "nameserver 192.0.2.1\nsearch a.example b.example\noptions edns0 trust-ad\n", ""},
		{"all said", DNS{[]string{"9.9.9.9"}, []string{"c"}, []string{"ndots:1"}}, true, "nameserver 9.9.9.9\nsearch c\noptions ndots:1\n", ""},
		{"names", DNS{}, true, "nameserver 10.0.0.1\nsearch a.example b.example\noptions edns0 trust-ad ndots:0\n", "10.0.0.1"},
		{"names, and a server that is asked for others", DNS{[]string{"9.9.9.9"}, []string{"c"}, []string{"ndots:2"}}, true, "nameserver 10.0.0.1\nsearch c\noptions ndots:2\n", "10.0.0.1"},
		{"a server in the container", DNS{Servers: []string{"127.0.0.1"}, Search: []string{"."}}, true, "nameserver 127.0.0.1\noptions edns0 trust-ad\n", "10.0.0.1"},
		{"no search", DNS{Search: []string{"."}}, true, "nameserver 192.0.2.1\noptions edns0 trust-ad\n", ""},
	}
	for _, tt := range tests {
		if got := string(ResolvConf([]byte(host), tt.dns, tt.own, tt.resolver, tt.resolver != "")); got != tt.want {
			t.Errorf("%s: got\n%s", tt.name, got)
		}
	}
	if got := ResolvConf([]byte("domain x.org\n;c\nnameserver\n"), DNS{}, true, "", false); string(got) != "search x.org\n" {
		t.Errorf("domain: %q", got)
	}
}

// TestParsersNeverPanic feeds every grammar with text made of its own alphabet.
func TestParsersNeverPanic(t *testing.T) {
	parsers := map[string]func(string) error{
		"env":     func(s string) error { _, err := ParseEnv(s, lookup); return err },
		"volume":  func(s string) error { _, err := ParseVolume(s, "/"); return err },
		"mount":   func(s string) error { _, err := ParseMount(s, "/"); return err },
		"tmpfs":   func(s string) error { _, err := ParseTmpfs(s); return err },
		"device":  func(s string) error { _, err := ParseDevice(s); return err },
		"rule":    func(s string) error { _, err := ParseDeviceRule(s); return err },
		"idmap":   func(s string) error { _, err := ParseIDMap(s); return err },
		"ulimit":  func(s string) error { _, err := ParseUlimit(s); return err },
		"size":    func(s string) error { _, err := ParseSize(s); return err },
		"cpus":    func(s string) error { _, err := ParseCPUs(s); return err },
		"signal":  func(s string) error { _, err := ParseSignal(s); return err },
		"host":    func(s string) error { _, err := ParseHost(s); return err },
		"sysctl":  func(s string) error { _, _, err := ParseSysctl(s); return err },
		"list":    func(s string) error { _, err := ParseCPUList(s); return err },
		"secopt":  func(s string) error { return new(Security).Set(s) },
		"search":  func(s string) error { _, err := ParseDNSSearch(s); return err },
		"envfile": func(s string) error { _, err := ParseEnvFile("f", strings.NewReader(s), lookup); return err },
	}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z/=:,.*0-9 "-]{0,30}`)).Draw(t, "s")
		for name, parse := range parsers {
			if err := parse(s); err != nil && strings.TrimSpace(fmt.Sprint(err)) == "" {
				t.Errorf("%s(%q): an empty error", name, s)
			}
		}
	})
}

// A group file of the greatest size that is read, with very many groups, costs neither
// minutes nor more groups than the kernel takes (CVE-2026-47262).
func TestResolveUserWithVeryManyGroups(t *testing.T) {
	var group strings.Builder
	for gid := 100000; group.Len() < 8<<20; gid++ {
		fmt.Fprintf(&group, "g:x:%d:root\n", gid)
	}
	_, _, err := ResolveUser("", []byte("root:x:0:0:::\n"), []byte(group.String()), nil)
	if err == nil || !strings.Contains(err.Error(), "65536") {
		t.Errorf("error %v: want one that names the limit", err)
	}
	twice := []byte("a:x:5:root\nb:x:5:root\nc:x:0:root\n")
	if u, _, err := ResolveUser("root", []byte("root:x:0:0:::\n"), twice, nil); err != nil || !slices.Equal(u.AdditionalGids, []uint32{0, 5}) {
		t.Errorf("%v, error %v", u, err)
	}
}
