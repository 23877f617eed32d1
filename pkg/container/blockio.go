package container

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// BlockIO bounds what a container reads from and writes to single block devices. Its weight
// against other containers on all of them is Resources.BlockIOWeight.
type BlockIO struct {
	Weights []DeviceLimit `json:"weights,omitempty"` // 10 to 1000
	// Bytes and operations in a second.
	ReadBytes  []DeviceLimit `json:"readBytes,omitempty"`
	WriteBytes []DeviceLimit `json:"writeBytes,omitempty"`
	ReadOps    []DeviceLimit `json:"readOps,omitempty"`
	WriteOps   []DeviceLimit `json:"writeOps,omitempty"`
}

// DeviceLimit is a number for the block device at a path on the host.
type DeviceLimit struct {
	Path  string `json:"path"`
	Limit uint64 `json:"limit"`
}

// Bounds of a weight, which are the kernel's.
const minIOWeight, maxIOWeight = 10, 1000

// ParseIOWeight reads a weight against other containers; 0 is for none.
func ParseIOWeight(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n != 0 && (n < minIOWeight || n > maxIOWeight) {
		return 0, fmt.Errorf("weight %q: use a number from %d to %d", s, minIOWeight, maxIOWeight)
	}
	return uint16(n), nil
}

// ParseDeviceWeight reads DEVICE:WEIGHT.
func ParseDeviceWeight(s string) (DeviceLimit, error) {
	return parseDeviceLimit(s, func(s string) (uint64, error) { n, err := ParseIOWeight(s); return uint64(n), err })
}

// ParseDeviceRate reads DEVICE:SIZE, bytes in a second.
func ParseDeviceRate(s string) (DeviceLimit, error) {
	return parseDeviceLimit(s, func(s string) (uint64, error) { n, err := ParseSize(s); return uint64(n), err })
}

// ParseDeviceOps reads DEVICE:NUMBER, operations in a second.
func ParseDeviceOps(s string) (DeviceLimit, error) {
	return parseDeviceLimit(s, func(s string) (uint64, error) {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return 0, fmt.Errorf("%q is not a number of operations", s)
		}
		return n, nil
	})
}

func parseDeviceLimit(s string, parse func(string) (uint64, error)) (DeviceLimit, error) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || !strings.HasPrefix(s, "/") {
		return DeviceLimit{}, fmt.Errorf("%q: use DEVICE:LIMIT, with the path of a block device such as /dev/sda", s)
	}
	n, err := parse(s[i+1:])
	if err == nil && n == 0 {
		err = errors.New("the limit is to be greater than nothing")
	}
	if err != nil {
		return DeviceLimit{}, fmt.Errorf("%s: %w", s[:i], err)
	}
	return DeviceLimit{s[:i], n}, nil
}

// all are the limits of each flag.
func (b BlockIO) all() [][]DeviceLimit {
	return [][]DeviceLimit{b.Weights, b.ReadBytes, b.WriteBytes, b.ReadOps, b.WriteOps}
}

// Paths are the devices that are bounded.
func (b BlockIO) Paths() []string {
	var paths []string
	for _, d := range slices.Concat(b.all()...) {
		paths = append(paths, d.Path)
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// specBlockIO says the bounds in the words of the specification; nil if there are none.
func specBlockIO(weight uint16, b BlockIO, found map[string]specs.LinuxDevice) *specs.LinuxBlockIO {
	out := specs.LinuxBlockIO{Weight: orNil(weight)}
	for _, d := range b.Weights {
		w, limit := specs.LinuxWeightDevice{}, uint16(d.Limit)
		w.Major, w.Minor, w.Weight = found[d.Path].Major, found[d.Path].Minor, &limit
		out.WeightDevice = append(out.WeightDevice, w)
	}
	for _, f := range [...]struct {
		to   *[]specs.LinuxThrottleDevice
		from []DeviceLimit
	}{
		{&out.ThrottleReadBpsDevice, b.ReadBytes}, {&out.ThrottleWriteBpsDevice, b.WriteBytes},
		{&out.ThrottleReadIOPSDevice, b.ReadOps}, {&out.ThrottleWriteIOPSDevice, b.WriteOps},
	} {
		for _, d := range f.from {
			t := specs.LinuxThrottleDevice{Rate: d.Limit}
			t.Major, t.Minor = found[d.Path].Major, found[d.Path].Minor
			*f.to = append(*f.to, t)
		}
	}
	if weight == 0 && len(b.Paths()) == 0 {
		return nil
	}
	return &out
}
