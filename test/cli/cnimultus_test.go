package cli_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
)

// multusBench calls multus itself, as an engine does, with networks of plugins that write down that they are called.
type multusBench struct {
	*pluginDesk
	log string
}

// scribe is such a plugin. The files beside the log have it fail, have it kill who called it, and have it go on until it reads a line.
const scribe = `#!/bin/sh
me=${0##*/}
if [ $CNI_COMMAND = STATUS ]; then
	[ -e LOG.STATUS.$me ] && { echo '{"cniVersion": "1.1.0", "code": 50, "msg": "no addresses are left"}'; exit 1; }
	exit 0
fi
cat >/dev/null
echo $me $CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME >> LOG
[ -e LOG.$CNI_COMMAND.$me ] && { echo '{"cniVersion": "1.1.0", "code": 100, "msg": "no"}'; exit 1; }
[ -e LOG.KILL.$me ] && kill -9 $PPID
[ -p LOG.HOLD.$me ] && { read line < LOG.HOLD.$me; echo $me ends >> LOG; }
[ $CNI_COMMAND = ADD ] && echo '{"cniVersion": "1.1.0"}'
exit 0
`

func newMultusBench(t *testing.T) *multusBench {
	d := newPluginDesk(t)
	d.own("multus", "bridge", "host-local")
	b := &multusBench{d, filepath.Join(t.TempDir(), "log")}
	for _, name := range []string{"one", "two", "three"} {
		if err := os.WriteFile(filepath.Join(d.bin, name), []byte(strings.ReplaceAll(scribe, "LOG", b.log)), 0o755); err != nil {
			t.Fatal(err)
		}
		b.network(name+".conf", `{"cniVersion": "1.1.0", "name": "`+name+`", "type": "`+name+`"}`)
	}
	return b
}

// network writes the file of a network that can be asked for.
func (b *multusBench) network(path, text string) {
	b.t.Helper()
	if err := os.MkdirAll(filepath.Dir(filepath.Join(b.conf, "multus", path)), 0o755); err != nil {
		b.t.Fatal(err)
	}
	b.write(filepath.Join("multus", path), text)
}

// call calls multus for a container of that name. more are further lines of its configuration.
func (b *multusBench) call(verb, container, netns, more string, environment ...string) (string, error) {
	config := `{"cniVersion": "1.1.0", "name": "pods", "type": "multus", "confDir": "` + b.conf + `/multus", "cniDir": "` + b.leases + `/multus", ` + more + ` "clusterNetwork": "one"}`
	var out []byte
	var err error
	b.host.Do(func() {
		cmd := exec.Command(filepath.Join(b.bin, "multus"))
		cmd.Env = append(os.Environ(), append(environment, "CNI_COMMAND="+verb, "CNI_CONTAINERID="+container, "CNI_NETNS="+netns, "CNI_IFNAME=eth0", "CNI_PATH="+b.bin)...)
		cmd.Stdin = strings.NewReader(config)
		out, err = cmd.CombinedOutput()
	})
	return string(out), err
}

func (b *multusBench) must(verb, container, netns, more string, environment ...string) {
	b.t.Helper()
	if out, err := b.call(verb, container, netns, more, environment...); err != nil {
		b.t.Fatalf("%s %s: %v\n%s", verb, container, err, out)
	}
}

func (b *multusBench) refuses(want, verb, container, netns, more string, environment ...string) {
	b.t.Helper()
	if out, err := b.call(verb, container, netns, more, environment...); err == nil || !strings.Contains(out, want) {
		b.t.Errorf("%s %s: %v, %s; want %q", verb, container, err, out, want)
	}
}

// switched has a plugin do what the word says, or not.
func (b *multusBench) switched(word string, on bool) {
	b.t.Helper()
	err := os.Remove(b.log + "." + word)
	if on {
		err = os.WriteFile(b.log+"."+word, nil, 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// called checks which plugins have been called since the last time.
func (b *multusBench) called(want string) {
	b.t.Helper()
	text, err := os.ReadFile(b.log)
	if err != nil && !os.IsNotExist(err) {
		b.t.Fatal(err)
	}
	os.Remove(b.log)
	if string(text) != want {
		b.t.Errorf("the plugins were called\n%swant\n%s", text, want)
	}
}

// notes are the files that multus has about containers.
func (b *multusBench) notes() []string {
	var list []string
	entries, err := os.ReadDir(filepath.Join(b.leases, "multus", "pods"))
	if err != nil && !os.IsNotExist(err) {
		b.t.Fatal(err)
	}
	for _, e := range entries {
		if !e.IsDir() { // the results of plugins
			list = append(list, e.Name())
		}
	}
	return list
}

// Killed while a plugin goes on: DEL, GC and a second ADD wait for that, and are not called at the same time as it is.
func TestMultusWaitsForPlugins(t *testing.T) {
	for _, verb := range []string{"DEL", "GC", "ADD"} {
		t.Run(verb, func(t *testing.T) {
			b := newMultusBench(t)
			netns := testkit.NewNetNS(t).Path
			const networks = `"networks": "two",`
			hold := b.log + ".HOLD.two"
			if err := unix.Mkfifo(hold, 0o600); err != nil {
				t.Fatal(err)
			}
			b.switched("KILL.two", true)
			killed := make(chan error, 1)
			go func() {
				_, err := b.call("ADD", "pod", netns, networks) // ends with its plugin, which has its output
				killed <- err
			}()
			gate, err := os.OpenFile(hold, os.O_WRONLY, 0) // when the plugin reads
			if err != nil {
				t.Fatal(err)
			}
			b.called("one ADD pod eth0\ntwo ADD pod net1\n")
			for _, name := range []string{hold, b.log + ".KILL.two"} {
				if err := os.Remove(name); err != nil {
					t.Fatal(err)
				}
			}
			after := make(chan string, 1)
			go func() {
				more := networks
				if verb == "GC" {
					more = `"cni.dev/valid-attachments": [],`
				}
				out, err := b.call(verb, "pod", netns, more)
				after <- fmt.Sprintf("%v %s", err, out)
			}()
			lock := filepath.Join(b.leases, "multus", "pods", "pod:eth0.lock")
			waitUntil(t, verb+" waits for the lock, or has ended", func() bool { return len(after) > 0 || waitsFor(lock) })
			b.called("") // nothing meanwhile
			gate.Close()
			if err := <-killed; err == nil {
				t.Error("ADD by who is killed")
			}
			answer := <-after
			if verb == "ADD" {
				if !strings.Contains(answer, "or was not disconnected: DEL does that") {
					t.Errorf("a second ADD: %s", answer)
				}
				b.called("two ends\n")
				b.must("DEL", "pod", "", "")
				b.called("two DEL pod net1\none DEL pod eth0\n")
			} else {
				if answer != "<nil> " {
					t.Errorf("%s: %s", verb, answer)
				}
				b.called("two ends\ntwo DEL pod net1\none DEL pod eth0\n")
			}
			if left := b.notes(); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// waitsFor reports whether somebody waits in flock(2) who has a file open.
func waitsFor(path string) bool {
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err != nil || to != path {
			continue
		}
		calls, _ := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(fd)), "task", "*", "syscall"))
		for _, call := range calls {
			text, err := os.ReadFile(call)
			if err == nil && strings.HasPrefix(string(text), strconv.Itoa(unix.SYS_FLOCK)+" ") {
				return true
			}
		}
	}
	return false
}

// GC disconnects whoever is no more, from all of its networks, and nobody else; who cannot be disconnected is named, and tried again.
func TestMultusCollects(t *testing.T) {
	b := newMultusBench(t)
	netns := testkit.NewNetNS(t).Path
	for _, container := range []string{"stays", "gone", "gone-too"} {
		b.must("ADD", container, netns, `"networks": "two,three@x-1",`)
	}
	os.Remove(b.log)
	b.refuses("who is still there?", "GC", "", "", "")
	b.refuses("it is no name", "GC", "", "", `"cni.dev/valid-attachments": [{"containerID": "../x", "ifname": "eth0"}],`)
	b.called("")
	const valid = `"cni.dev/valid-attachments": [{"containerID": "stays", "ifname": "eth0"}],`
	b.switched("DEL.two", true)
	b.refuses("container gone: network two, interface net1: DEL: ", "GC", "", "", valid)
	b.called("three DEL gone-too x-1\ntwo DEL gone-too net1\none DEL gone-too eth0\nthree DEL gone x-1\ntwo DEL gone net1\none DEL gone eth0\n")
	b.switched("DEL.two", false)
	if err := os.WriteFile(filepath.Join(b.leases, "multus", "pods", "early:eth0.lock"), nil, 0o600); err != nil { // of who was killed before the note
		t.Fatal(err)
	}
	b.must("GC", "", "", valid)
	b.called("three DEL gone-too x-1\ntwo DEL gone-too net1\none DEL gone-too eth0\nthree DEL gone x-1\ntwo DEL gone net1\none DEL gone eth0\n")
	b.must("GC", "", "", valid)
	b.called("")
	if left := strings.Join(b.notes(), " "); !strings.Contains(left, "stays:eth0.json stays:eth0.status") || strings.Contains(left, "gone") || strings.Contains(left, "lock") {
		t.Errorf("the notes are %s", left)
	}
	b.must("CHECK", "stays", netns, "")
	b.refuses("the container is in no network", "CHECK", "gone", netns, "")
	b.must("DEL", "stays", netns, "")
}

// STATUS passes on that the first network cannot take a container now, with the code that the specification has for that.
func TestMultusStatus(t *testing.T) {
	b := newMultusBench(t)
	b.must("STATUS", "", "", "")
	b.switched("STATUS.one", true)
	out, err := b.call("STATUS", "", "", "")
	var said struct {
		Code uint
		Msg  string
	}
	if jsonErr := json.Unmarshal([]byte(out), &said); err == nil || jsonErr != nil || said.Code != 50 || !strings.Contains(said.Msg, "network one: no addresses are left") {
		t.Errorf("STATUS: %v, %s", err, out)
	}
	b.switched("STATUS.one", false)
	if err := os.Remove(filepath.Join(b.conf, "multus", "one.conf")); err != nil {
		t.Fatal(err)
	}
	if out, err := b.call("STATUS", "", "", ""); err == nil || !strings.Contains(out, `"code": 50`) || !strings.Contains(out, "no such CNI network") {
		t.Errorf("STATUS without a first network: %v, %s", err, out)
	}
}

// Networks of a namespace are in its directory, and a pod may be kept to its own.
func TestMultusNamespaces(t *testing.T) {
	b := newMultusBench(t)
	for path, subnet := range map[string]string{"red/disk": "10.61.0", "blue/disk": "10.62.0", "disk": "10.63.0"} {
		b.network(path+".conf", `{"cniVersion": "1.0.0", "name": "disk", "type": "bridge", "bridge": "cni-`+filepath.Base(filepath.Dir("all/"+path))+`", "isGateway": true,
		  "ipam": {"type": "host-local", "dataDir": "LEASES/`+subnet+`", "ranges": [[{"subnet": "`+subnet+`.0/24"}]]}}`)
	}
	container := testkit.NewNetNS(t)
	pod := func(namespace string) string { return "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=" + namespace }
	for _, c := range []struct{ asked, of, subnet string }{
		{"red/disk", "blue", "10.61.0."}, {"disk", "blue", "10.62.0."}, {"blue/disk", "", "10.62.0."},
		{"disk", "green", "10.63.0."}, {"default/disk", "blue", "10.63.0."}, {"disk", "", "10.63.0."},
	} {
		b.must("ADD", "pod", container.Path, `"networks": "`+c.asked+`",`, pod(c.of))
		if got := container.Run("ip", "-4", "-br", "address", "show", "net1"); !strings.Contains(got, c.subnet) {
			t.Errorf("%s, asked for in namespace %q: the container has %s; want %s", c.asked, c.of, got, c.subnet)
		}
		listener := listenIn(t, container, ":80")
		b.reach(b.host, c.subnet+"2:80", "hello\n")
		listener.Close()
		b.must("DEL", "pod", container.Path, "")
	}
	os.Remove(b.log)
	refused := func(asked, of, more, want string) {
		t.Helper()
		b.refuses(want, "ADD", "pod", container.Path, more+`"networks": "`+asked+`",`, pod(of))
	}
	refused("green/disk", "blue", "", "no such CNI network") // what is for all is in no namespace that is named
	refused("../disk", "blue", "", "it is no name")
	refused("..disk/disk", "", "", "it is no name")
	const isolated = `"namespaceIsolation": true, `
	refused("red/disk", "blue", isolated, "network red/disk: the pod is in namespace blue, and namespaceIsolation keeps it to that")
	refused("default/disk", "blue", isolated, "the pod is in namespace blue")
	b.called("")
	for more, asked := range map[string]string{isolated: "blue/disk", isolated + `"globalNamespaces": "default,red", `: "red/disk"} {
		b.must("ADD", "pod", container.Path, more+`"networks": "`+asked+`",`, pod("blue"))
		b.must("DEL", "pod", container.Path, "")
	}
}
