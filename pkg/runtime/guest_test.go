package runtime

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containr/containr/internal/testkit/guest"
)

// elsewhere are the tests of this package that say something on other kernels than the
// machine's own: where security modules are active, and where the mount calls of Linux
// 5.12 and later are missing or new.
const elsewhere = "^(TestAppArmor|TestMount|TestIDMapped|TestBinds|TestReadonly|TestManyLayers|TestDevice)"

// The kernels of every test run are the oldest and one that has every mount call.
// CONTAINR_TEST_KERNELS names others.
func TestMountsAndLabelsOnOtherKernels(t *testing.T) {
	kernels := []string{"debian-5.10", "debian-6.12"}
	if list := os.Getenv("CONTAINR_TEST_KERNELS"); list != "" && list != "all" {
		kernels = strings.Split(list, ",")
	}
	for _, k := range kernels {
		t.Run(k, func(t *testing.T) {
			guest.Run(t, guest.Options{Kernel: k, Package: "github.com/containr/containr/pkg/runtime", Run: elsewhere,
				Packages: []string{"apparmor"}, Timeout: 6 * time.Minute})
		})
	}
}
