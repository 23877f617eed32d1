package ocicli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/quickjson"
	"github.com/containr/containr/pkg/runtime"
)

func kill(a *app, args []string) error {
	fs, all := a.flags("kill"), false
	fs.BoolVar(&all, "all", false, "to every process of the container")
	fs.BoolVar(&all, "a", false, "short for --all")
	if err := fs.Parse(args); err != nil {
		return err
	}
	name := "TERM"
	switch fs.NArg() {
	case 1:
	case 2:
		name = fs.Arg(1)
	default:
		return errUsage
	}
	n, err := signalNumber(name)
	if err != nil {
		return err
	}
	r, err := a.runtime()
	if err != nil {
		return err
	}
	return r.Kill(fs.Arg(0), n, all)
}

var errUnknownSignal = errors.New("unknown signal")

// signalNumber reads a signal as kill(1) does. 0 only asks whether there is a process.
func signalNumber(name string) (unix.Signal, error) {
	if n, err := strconv.Atoi(name); err == nil && n >= 0 && n < 65 {
		return unix.Signal(n), nil
	}
	upper := strings.ToUpper(name)
	if n := unix.SignalNum("SIG" + strings.TrimPrefix(upper, "SIG")); n != 0 {
		return n, nil
	}
	return 0, fmt.Errorf("%w %q", errUnknownSignal, name)
}

func remove(a *app, args []string) error {
	fs, force := a.flags("delete"), false
	fs.BoolVar(&force, "force", false, "kill the container if it runs; do not mind if it is not there")
	fs.BoolVar(&force, "f", false, "short for --force")
	return a.withFlags(fs, args, func(r *runtime.Runtime, id string) error { return r.Delete(id, force) })
}

func pause(a *app, args []string) error {
	return a.withID("pause", args, func(r *runtime.Runtime, id string) error { return r.Pause(id) })
}

func resume(a *app, args []string) error {
	return a.withID("resume", args, func(r *runtime.Runtime, id string) error { return r.Resume(id) })
}

// updating are the flags of update: the limits that it sets.
type updating struct {
	resources       string
	l3Cache, memory string
	asked           specs.LinuxResources
}

// update changes limits.
func update(a *app, args []string) error {
	fs, u := a.flags("update"), updating{}
	u.add(fs)
	return a.withFlags(fs, args, func(r *runtime.Runtime, id string) error {
		res, err := u.limits(a)
		if err != nil {
			return err
		}
		if u.l3Cache != "" || u.memory != "" {
			if err := r.UpdateClass(id, u.l3Cache, u.memory); err != nil || !u.others(fs) {
				return err
			}
		}
		return r.Update(id, res)
	})
}

// others reports whether there is more to change than the class of service.
func (u *updating) others(fs *flag.FlagSet) (more bool) {
	fs.Visit(func(f *flag.Flag) { more = more || f.Name != l3Flag && f.Name != bandwidthFlag })
	return more
}

// The flags about the class of service.
const l3Flag, bandwidthFlag = "l3-cache-schema", "mem-bw-schema"

func (u *updating) add(fs *flag.FlagSet) {
	fs.StringVar(&u.resources, "resources", "", "file with the limits as JSON, as in /linux/resources of config.json, in the place of the other flags; - is standard input")
	fs.StringVar(&u.resources, "r", "", "short for --resources")
	u.asked = specs.LinuxResources{Memory: new(specs.LinuxMemory), CPU: new(specs.LinuxCPU), BlockIO: new(specs.LinuxBlockIO), Pids: new(specs.LinuxPids)}
	c, m := u.asked.CPU, u.asked.Memory
	number(fs, "blkio-weight", "weight of the container's use of block devices, 10 to 1000", &u.asked.BlockIO.Weight, parseWeight)
	number(fs, "cpu-period", "period of the CPU quota in microseconds", &c.Period, parseUint)
	number(fs, "cpu-quota", "time on CPUs in each period, in microseconds; -1 for no limit", &c.Quota, parseInt)
	number(fs, "cpu-burst", "unused quota that may be added up, in microseconds", &c.Burst, parseUint)
	number(fs, "cpu-share", "weight of the container's use of CPUs, 2 to 262144", &c.Shares, parseUint)
	number(fs, "cpu-rt-period", "period of the quota of realtime processes in microseconds", &c.RealtimePeriod, parseUint)
	number(fs, "cpu-rt-runtime", "time on CPUs of realtime processes in each period, in microseconds", &c.RealtimeRuntime, parseInt)
	number(fs, "cpu-idle", "1: run only when nobody else wants to", &c.Idle, parseInt)
	fs.StringVar(&c.Cpus, "cpuset-cpus", "", "CPUs to run on: 0-3,7")
	fs.StringVar(&c.Mems, "cpuset-mems", "", "memory nodes to use: 0-1")
	number(fs, "memory", "limit of memory: 512m, 1g; -1 for no limit", &m.Limit, parseSize)
	number(fs, "memory-reservation", "memory that is left to the container when it is short", &m.Reservation, parseSize)
	number(fs, "memory-swap", "limit of memory and swap together; -1 for no limit", &m.Swap, parseSize)
	number(fs, "pids-limit", "limit of processes and threads; -1 for no limit", &u.asked.Pids.Limit, parseInt)
	fs.Func("kernel-memory", "ignored: the kernel has given it up", ignored)
	fs.Func("kernel-memory-tcp", "ignored: the kernel has given it up", ignored)
	fs.StringVar(&u.l3Cache, l3Flag, "", "share of the cache that the container's class of service gets, and all that are in it: L3:0=7f0;1=1f")
	fs.StringVar(&u.memory, bandwidthFlag, "", "memory bandwidth that this class gets: MB:0=20;1=70")
}

func ignored(string) error { return nil }

// number adds a flag for an optional number. An empty value leaves it unset.
func number[T any](fs *flag.FlagSet, name, usage string, to **T, parse func(string) (T, error)) {
	fs.Func(name, usage, func(s string) error {
		if s == "" {
			return nil
		}
		n, err := parse(s)
		if err != nil {
			return err
		}
		*to = &n
		return nil
	})
}

func parseInt(s string) (int64, error)   { return strconv.ParseInt(s, 10, 64) }
func parseUint(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) }

func parseWeight(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err
}

// parseSize reads bytes with an optional unit: 512m, 1.5GiB, "-1" for no limit. Units
// are powers of 1024.
func parseSize(s string) (int64, error) {
	if s == "-1" {
		return -1, nil
	}
	digits := strings.TrimRight(s, "bBiIkKmMgGtTpP ")
	unit := strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(strings.TrimSpace(s[len(digits):])), "b"), "i")
	power, ok := map[string]uint{"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}[unit]
	n, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || n < 0 || n*float64(uint64(1)<<power) >= 1<<63 {
		return 0, fmt.Errorf("%q is no size, such as 512m or 1g", s)
	}
	return int64(n * float64(uint64(1)<<power)), nil
}

// maxResources bounds the limits that are read, in bytes.
const maxResources = 1 << 20

// limits are those of the flags, or those of the file.
func (u *updating) limits(a *app) (*specs.LinuxResources, error) {
	if u.resources == "" {
		return settle(&u.asked), nil
	}
	in := a.stdin
	if u.resources != "-" {
		f, err := os.Open(u.resources)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxResources+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxResources {
		return nil, fmt.Errorf("--resources %s: more than %d bytes", u.resources, maxResources)
	}
	res := new(specs.LinuxResources)
	if err := quickjson.Decode(string(text), res); err != nil {
		return nil, fmt.Errorf("--resources %s: %w", u.resources, err)
	}
	return settle(res), nil
}

// settle adds what callers leave out: memory without a limit is memory and swap without
// a limit, since the kernel wants the sum to be no smaller than the part.
func settle(res *specs.LinuxResources) *specs.LinuxResources {
	if m := res.Memory; m != nil && m.Limit != nil && *m.Limit == -1 && m.Swap == nil {
		swap := int64(-1)
		m.Swap = &swap
	}
	return res
}
