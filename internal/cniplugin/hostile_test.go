package cniplugin

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"
)

// Names that a plugin is told are names: none leads out of the directory where addresses are noted.
func TestNamesThatPluginsAreToldAreNoPaths(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "a", "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	const good = "lab"
	for _, c := range []struct {
		plugin, name, more, container, device, want string
		code                                        uint
	}{
		{"host-local", "../../esc", "", "id", "hostile0", `name "../../esc": it is no name of a network`, codeConfig},
		{"host-local", "", "", "id", "hostile0", `name "": it is no name of a network`, codeConfig},
		{"host-local", good, "", "..", "hostile0", `CNI_CONTAINERID=".."`, codeEnvironment},
		{"host-local", good, "", "", "hostile0", `CNI_CONTAINERID=""`, codeEnvironment},
		{"host-local", good, "", "id", "..", `CNI_IFNAME=".."`, codeEnvironment},
		{"host-local", good, "", "id", "name-of-16-bytes", `CNI_IFNAME="name-of-16-bytes"`, codeEnvironment},
		{"bridge", good, `"bridge": "../all",`, "id", "hostile0", `bridge "../all": it is no name of a network device`, codeConfig},
		{"macvlan", good, `"master": "../all",`, "id", "hostile0", `master "../all": it is no name of a network device`, codeConfig},
	} {
		for _, verb := range []string{"ADD", "CHECK", "DEL", "GC"} {
			if verb == "GC" && c.code == codeEnvironment || verb != "ADD" && c.more != "" {
				continue // which is about no container, and about no device
			}
			for key, value := range map[string]string{"CNI_COMMAND": verb, "CNI_CONTAINERID": c.container, "CNI_IFNAME": c.device, "CNI_NETNS": filepath.Join(dir, "no-netns"), "CNI_PATH": dir} {
				t.Setenv(key, value)
			}
			config := `{"cniVersion": "1.1.0", "name": "` + c.name + `", "type": "` + c.plugin + `", ` + c.more + ` "cni.dev/valid-attachments": [],
				"ipam": {"type": "host-local", "dataDir": "` + data + `", "subnet": "10.9.0.0/24"}}`
			err := dispatch(plugins[c.plugin], strings.NewReader(config), &bytes.Buffer{})
			said, ok := err.(*types.Error)
			if !ok || said.Code != c.code || !strings.Contains(said.Msg, c.want) {
				t.Errorf("%s %s: error %v; want %s", c.plugin, verb, err, c.want)
			}
		}
	}
	var made []string
	if err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error { made = append(made, path); return err }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{dir, filepath.Dir(data), data}, made); diff != "" {
		t.Error(diff)
	}

	var o netavarkOptions
	text := `{"container_id": "id", "networks": {"lab": {"static_ips": ["10.9.0.2"], "interface_name": "eth0"}}, "network_info": {"lab": {"driver": "bridge", "network_interface": "../all", "subnets": [{"subnet": "10.9.0.0/24"}]}}}`
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	if _, _, err := o.endpoints(); err == nil || !strings.Contains(err.Error(), `network_interface "../all": it is no name of a network device`) {
		t.Errorf("netavark: %v", err)
	}
}

// A plugin for addresses that prints without end is ended, and so is what it has started; what it says of an error is passed on.
func TestPluginsForAddressesPrintWithinBounds(t *testing.T) {
	dir := t.TempDir()
	program := func(name, script string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program("endless", "exec cat /dev/zero")
	program("endless-child", "cat /dev/zero & wait")
	program("loud", "exec cat /dev/zero >&2")
	program("refuses", `echo '{"cniVersion": "1.0.0", "code": 11, "msg": "all is given away"}'; exit 1`)
	program("breaks", "echo of no use >&2; exit 3")
	program("works", `cat >/dev/null; echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.9.0.7/24"}]}'`)
	t.Setenv("CNI_PATH", dir)
	t.Setenv("CNI_COMMAND", "ADD")
	for name, want := range map[string]string{"endless": "it printed more than 1 MiB to its standard output", "endless-child": "it printed more than 1 MiB to its standard output",
		"loud": "it printed more than 1 MiB to its standard error", "refuses": "all is given away", "breaks": "exit status 3: of no use", "works": ""} {
		r := &request{Raw: []byte(`{"cniVersion": "1.0.0", "name": "lab", "ipam": {"type": "` + name + `"}}`)}
		r.Config.IPAM.Type = name
		done := make(chan error, 1)
		go func() {
			_, err := r.addresses()
			done <- err
		}()
		select {
		case err := <-done:
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s: error %v; want %q", name, err, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s is still running", name)
		}
	}
}
