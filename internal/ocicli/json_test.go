package ocicli

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/cgroup"
	"github.com/containr/containr/pkg/runtime"
)

// What is printed is what encoding/json would print, byte for byte, of everything that
// the verbs print. That library is too much for a program that is started all the time.
func TestPrintsJSONAsEncodingJSON(t *testing.T) {
	info := runtime.Info{Version: specs.Version, ID: "c", PID: 7, Status: specs.StateRunning, Bundle: "/b", Rootfs: "/b/rootfs",
		Created: time.Unix(1700000000, 123456789).UTC(), Annotations: map[string]string{"b": "2", "a": "1"}, Owner: "root"}
	stats := &cgroup.Stats{Huge: map[string]cgroup.HugetlbStats{"2MB": {}}}
	for _, v := range []any{&info, []runtime.Info{info, {}}, []runtime.Info{}, []int{1, 2}, []int(nil), exampleSpec(),
		runtime.Event{Type: "stats", ID: "c", Data: stats}, runtime.Event{Type: "oom", ID: "c"}} {
		want, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		a := &app{stdout: &out}
		if err := a.jsonLine(v); err != nil || out.String() != string(want)+"\n" {
			t.Errorf("%v: printed is\n%swant\n%s", err, &out, want)
		}
		out.Reset()
		if want, err = json.MarshalIndent(v, "", "  "); err != nil {
			t.Fatal(err)
		}
		if err := a.json(v, "  "); err != nil || out.String() != string(want)+"\n" {
			t.Errorf("%v: printed is\n%swant\n%s", err, &out, want)
		}
	}
	var out bytes.Buffer
	if code := Main([]string{"features"}, os.Stdin, &out, &out); code != 0 || !json.Valid(out.Bytes()) {
		t.Errorf("features prints, with exit code %d:\n%s", code, &out)
	}
}
