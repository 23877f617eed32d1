package sys

import (
	"os"
	"strings"
	"sync"
)

// BootID names this boot of the machine (random(4)); all boots are one where
// it cannot be read.
var BootID = sync.OnceValue(func() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(id))
})
