package engine

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containr/containr/pkg/cdi"
	"github.com/containr/containr/pkg/container"
)

// ErrNoGPU means that no graphics processor is described.
var ErrNoGPU = errors.New("no graphics processor is described on this machine")

// findDevices looks up the devices that a container asks for by name: with --device, with
// an annotation, or with --gpus.
func findDevices(c container.Config) (*cdi.Devices, error) {
	names := c.CDIDevices
	annotated, err := cdi.Annotated(c.Annotations)
	if err != nil {
		return nil, err
	}
	names = append(names[:len(names):len(names)], annotated...)
	for _, r := range c.GPUs {
		gpus, err := gpuNames(r, c.CDISpecDirs)
		if err != nil {
			return nil, err
		}
		names = append(names, gpus...)
	}
	return cdi.Find(c.CDISpecDirs, names)
}

// gpuNames are the full names of graphics processors: of the first vendor that has described any.
func gpuNames(r container.GPURequest, dirs []string) ([]string, error) {
	known := cdi.Known(dirs)
	for _, kind := range r.Vendors {
		for _, device := range known {
			if !strings.HasPrefix(device, kind+"=") {
				continue
			}
			var out []string
			for _, name := range r.Names {
				out = append(out, kind+"="+name)
			}
			return out, nil
		}
	}
	return nil, fmt.Errorf("--gpus: %w (%s)", ErrNoGPU, strings.Join(r.Vendors, " or "))
}
