package engine

import (
	"strings"
	"testing"
)

// What goes when a container is removed counts as the container's.
func TestKindsOfWhatIsOnDisk(t *testing.T) {
	for path, want := range map[string][2]string{
		"content/blobs/sha256/aa":          {UsedImages, "blob aa"},
		"content/index.json":               {UsedImages, ""},
		"snapshots/sha256/aa/fs/etc":       {UsedLayers, "aa"},
		"containers/c1/state.json":         {UsedContainers, "c1"},
		"layers/c1/upper/etc":              {UsedContainers, "c1"},
		"logs/c1/json.log.1":               {UsedContainers, "c1"},
		"run/containers/c1/exit":           {UsedContainers, "c1"},
		"run/runtime/c1/journal":           {UsedContainers, "c1"},
		"run/logs/c1":                      {UsedContainers, "c1"},
		"names/web":                        {UsedContainers, ""},
		"mapped/hh/layers/c1/upper":        {UsedContainers, "c1"},
		"mapped/hh/snapshots/sha256/aa/fs": {UsedLayers, "aa"},
		"mapped/hh":                        {UsedOther, ""},
		"events/00000001.jsonl":            {UsedOther, ""},
		"run/monitor.log":                  {UsedOther, ""},
	} {
		if kind, id := kindOf(strings.Split(path, "/")); kind != want[0] || id != want[1] {
			t.Errorf("%s: %s %q, want %s %q", path, kind, id, want[0], want[1])
		}
	}
}
