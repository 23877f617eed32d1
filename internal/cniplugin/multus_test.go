package cniplugin

import (
	"slices"
	"testing"

	"github.com/containernetworking/cni/libcni"

	"github.com/containr/containr/pkg/network/cni"
)

// An annotation adds arguments for plugins, but changes none that the caller gives, such as the pod's name.
func TestSelectionDoesNotChangeTheCallersArguments(t *testing.T) {
	list, err := libcni.NetworkConfFromBytes([]byte(`{"cniVersion":"1.0.0","name":"x","plugins":[{"type":"bridge"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	args := [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "own"}}
	for key, refused := range map[string]bool{"K8S_POD_NAMESPACE": true, "IgnoreUnknown": true, "color": false} {
		j, err := selectedJoin(cni.Network{List: list}, cni.Selection{Name: "x", Interface: "net1", Args: map[string]any{key: "other"}}, args)
		if (err != nil) != refused {
			t.Errorf("%s: error %v, refused should be %v", key, err, refused)
		}
		if err == nil && !slices.Contains(j.Args, [2]string{key, "other"}) {
			t.Errorf("%s: arguments %v", key, j.Args)
		}
	}
}

// Two attachments have two notes, whatever dashes are in their names: an interface that is deleted takes no other container's
// networks with it.
func TestAttachmentsHaveNotesOfTheirOwn(t *testing.T) {
	one, other := &request{Container: "a-b", Interface: "eth0"}, &request{Container: "a", Interface: "b-eth0"}
	m := multusConfig{}
	if one.note(m) == other.note(m) || one.statusFile(m) == other.statusFile(m) {
		t.Errorf("both have %s", one.note(m))
	}
}
