package container

import (
	"strings"
	"testing"
)

func TestMergeResources(t *testing.T) {
	m := Machine{CPUs: 4, CPUSet: "0-3"}
	old := Resources{Memory: 64 << 20, MemorySwap: 128 << 20, NanoCPUs: 5e8, Pids: 10, CPUs: "0"}
	for name, test := range map[string]struct{ change, want Resources }{
		"nothing": {Resources{}, old},
		"one":     {Resources{Pids: -1}, Resources{Memory: 64 << 20, MemorySwap: 128 << 20, NanoCPUs: 5e8, Pids: -1, CPUs: "0"}},
		"CPU time by quota": {Resources{CPUQuota: 20000, CPUPeriod: 100000, CPUs: "1-2"},
			Resources{Memory: 64 << 20, MemorySwap: 128 << 20, CPUQuota: 20000, CPUPeriod: 100000, Pids: 10, CPUs: "1-2"}},
		"memory":    {Resources{Memory: 100 << 20}, Resources{Memory: 100 << 20, MemorySwap: 128 << 20, NanoCPUs: 5e8, Pids: 10, CPUs: "0"}},
		"no memory": {Resources{Memory: Lifted}, Resources{NanoCPUs: 5e8, Pids: 10, CPUs: "0"}},
		"no CPU":    {Resources{NanoCPUs: Lifted}, Resources{Memory: 64 << 20, MemorySwap: 128 << 20, Pids: 10, CPUs: "0"}},
	} {
		got, err := MergeResources(old, test.change, m)
		if err != nil || got != test.want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for change, want := range map[Resources]string{
		{Memory: 256 << 20}:                   "change --memory-swap too",
		{Memory: 1 << 10}:                     "the smallest limit is",
		{CPUs: "7"}:                           "is not available",
		{NanoCPUs: 9e9}:                       "this machine has 4",
		{Memory: Lifted, MemorySwap: 1 << 30}: "--memory-swap needs --memory",
	} {
		if _, err := MergeResources(old, change, m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", change, err)
		}
	}
}

// A limit that is lifted is -1 in the words of the specification, and with that of memory goes that of swap, which would be below it.
func TestResourceChangeLifts(t *testing.T) {
	r := ResourceChange(Resources{Memory: Lifted, NanoCPUs: Lifted})
	if m := r.Memory; m == nil || m.Limit == nil || *m.Limit != -1 || m.Swap == nil || *m.Swap != -1 {
		t.Errorf("memory: %+v", r.Memory)
	}
	if c := r.CPU; c == nil || c.Quota == nil || *c.Quota != -1 || c.Period != nil {
		t.Errorf("CPU: %+v", r.CPU)
	}
	if r.Pids != nil || r.BlockIO != nil {
		t.Errorf("%+v: nothing was said of processes and disks", r)
	}
}
