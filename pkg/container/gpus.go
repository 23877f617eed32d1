package container

import (
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// GPURequest is one --gpus.
type GPURequest struct {
	// Vendors are the kinds of device to look for, the first that is described counts.
	Vendors []string `json:"vendors"`
	// Names are names of devices, or numbers; "all" is all of them.
	Names []string `json:"names"`
}

// gpuKinds are the kinds of device that graphics processors of a driver have.
var gpuKinds = []struct{ driver, kind string }{{"nvidia", "nvidia.com/gpu"}, {"amd", "amd.com/gpu"}}

// maxGPUs bounds how many can be asked for by their count.
const maxGPUs = 128

// ParseGPUs reads a value of --gpus: all, a count, or fields as in device=0,1 or
// driver=nvidia,count=2. A value with commas is quoted, as docker has it: '"device=0,1"'.
func ParseGPUs(s string) (GPURequest, error) {
	var r GPURequest
	for _, k := range gpuKinds {
		r.Vendors = append(r.Vendors, k.kind)
	}
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return r, fmt.Errorf("gpus %q: %w", s, errors.Unwrap(err))
	}
	for _, field := range fields {
		key, value, ok := strings.Cut(field, "=")
		if !ok {
			key, value = "count", field
		}
		if err := r.set(key, value); err != nil {
			return r, fmt.Errorf("gpus %q: %w", s, err)
		}
	}
	if len(r.Names) == 0 {
		r.Names = []string{"all"}
	}
	return r, nil
}

func (r *GPURequest) set(key, value string) error {
	switch key {
	case "count":
		if len(r.Names) > 0 {
			return errors.New("give a count or devices, not both")
		}
		if value == "all" || value == "-1" {
			r.Names = []string{"all"}
			return nil
		}
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > maxGPUs {
			return fmt.Errorf("%s: use all, or a number from 1 to %d", value, maxGPUs)
		}
		for i := range n {
			r.Names = append(r.Names, strconv.Itoa(i))
		}
	case "device":
		if len(r.Names) > 0 {
			return errors.New("give a count or devices, not both")
		}
		r.Names = strings.Split(value, ",")
		if slices.Contains(r.Names, "") {
			return fmt.Errorf("device=%s: the name of a device is empty", value)
		}
	case "driver":
		for _, k := range gpuKinds {
			if k.driver == value {
				r.Vendors = []string{k.kind}
				return nil
			}
		}
		return fmt.Errorf("driver=%s: use nvidia or amd", value)
	case "capabilities":
		for c := range strings.SplitSeq(value, ",") {
			if c != "gpu" {
				return fmt.Errorf("capabilities=%s: what a device can do is in its description; only gpu can be asked for", value)
			}
		}
	default:
		return fmt.Errorf("%s: use count, device, driver or capabilities", key)
	}
	return nil
}
