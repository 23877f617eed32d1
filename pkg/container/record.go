package container

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/quickjson"
	"github.com/containr/containr/internal/sys"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// recordVersion is the layout of the files that this package writes. A reader
// takes this one and every older one.
const recordVersion = 1

// Record is what a container is: written once when it is made, and never
// changed.
type Record struct {
	// Version is recordVersion of the containr that wrote it.
	Version int `json:"version"`
	// ID is 64 hexadecimal digits.
	ID string `json:"id"`
	// Name is unique in the store.
	Name string `json:"name"`
	// Created is when the container was made.
	Created time.Time `json:"created"`
	// ConfigDigest names the image's configuration, empty with --rootfs.
	ConfigDigest string `json:"configDigest,omitempty"`
	// Chain names the snapshot that its root file system lies on, empty with
	// --rootfs.
	Chain string `json:"chain,omitempty"`
	// Snapshotter is the driver that presents the chain, as pkg/snapshot calls it; empty is overlay.
	Snapshotter string `json:"snapshotter,omitempty"`
	// Config is what the user asked for, with the defaults filled in.
	Config Config `json:"config"`
	// Command is what runs, without the init of --init.
	Command []string `json:"command,omitempty"`
	// Check is the health check, nil for none.
	Check *Check `json:"check,omitempty"`
	// StopSignal is the number of the signal that asks it to end.
	StopSignal int `json:"stopSignal,omitempty"`
	// Endpoints are where it is connected with networks, and Published the ports of the
	// host that lead to it, each with one HostPort.
	Endpoints []Endpoint `json:"endpoints,omitempty"`
	Published []Port     `json:"published,omitempty"`
	// Attachments are where plugins connect it with networks.
	Attachments []Attachment `json:"attachments,omitempty"`
	// ResolvConf is what containr has written last into the container's /etc/resolv.conf; empty if that is not known.
	ResolvConf string `json:"resolvConf,omitempty"`
	// Spec is what was decided. It is a file of its own, spec.json, as other
	// tools read it.
	Spec *specs.Spec `json:"-"`
}

// Status is where in its life a container is.
type Status string

// The life of a container goes down this list; paused and running take turns.
const (
	Created Status = "created"
	Running Status = "running"
	Paused  Status = "paused"
	Exited  Status = "exited"
	// Restarting is Exited until State.RestartAt.
	Restarting Status = "restarting"
)

// State is what a container is doing: small, and replaced whole each time.
type State struct {
	Status Status `json:"status"`
	// PID is the first process's number on the host, 0 if there is none. Whether that
	// process still lives is asked of the runtime.
	PID int `json:"pid,omitempty"`
	// Started and Finished are zero until it happened.
	Started  time.Time `json:"started,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
	// Boot is the boot of the machine, see sys.BootID, in which it ran last; empty if it has not run.
	Boot string `json:"boot,omitempty"`
	// ExitCode is the program's, or 128 and the signal's number, or 126 or
	// 127 if it could not be started.
	ExitCode int `json:"exitCode,omitempty"`
	// Health is what the health checks have found; nil without checks.
	Health *HealthState `json:"health,omitempty"`
	// OOMKilled says that the memory limit ended it.
	OOMKilled bool `json:"oomKilled,omitempty"`
	// Restarts counts how often the restart policy has started it again.
	Restarts int `json:"restarts,omitempty"`
	// Quick counts the ends in a row that came so soon that the policy waits longer.
	Quick int `json:"quick,omitempty"`
	// RestartAt is when it will be, in the state Restarting.
	RestartAt time.Time `json:"restartAt,omitzero"`
	// Stopped says that a user stopped it, so that no policy may start it again.
	Stopped bool `json:"stopped,omitempty"`
	// Again says that a user wants it to be started again when it has ended, whatever its
	// policy is.
	Again bool `json:"again,omitempty"`
	// ForAgain says that it was started because of Again, and that its program is not known to have been executed. If who
	// started it was killed before that, it is still due.
	ForAgain bool `json:"forAgain,omitempty"`
	// Waits says that it was made to be started later, by another command.
	Waits bool `json:"waits,omitempty"`
	// Used is what it had used when it ended; nil if that was not counted.
	Used *Used `json:"used,omitempty"`
	// Error says why it could not be started.
	Error string `json:"error,omitempty"`
}

// Used is what a container had used when it ended. The kernel's counters go with its control
// group, so they are noted before.
type Used struct {
	// OOMKills is how many processes were killed because its memory ran out.
	OOMKills uint64 `json:"oomKills,omitempty"`
	// MemoryPeak and MemoryLimit are in bytes, 0 if not known or not there.
	MemoryPeak  uint64 `json:"memoryPeak,omitempty"`
	MemoryLimit uint64 `json:"memoryLimit,omitempty"`
	// CPU is the time on CPUs.
	CPU time.Duration `json:"cpu,omitempty"`
	// Periods and Throttled are those of a CPU limit: in how many it ran, and was stopped.
	Periods   uint64 `json:"periods,omitempty"`
	Throttled uint64 `json:"throttled,omitempty"`
}

// Names of the files in a container's directory.
const (
	recordFile = "record.json"
	specFile   = "spec.json"
	stateFile  = "state.json"
	lockFile   = "lock"
	attendFile = "attended"
	renameFile = "rename" // the two names that it has while it is renamed
)

// ErrNewer means that a record was written by a containr with a newer layout.
var ErrNewer = errors.New("written by a newer containr")

// SpecFile is the specification's file in the directory of a container.
func SpecFile(dir string) string { return filepath.Join(dir, specFile) }

// ExitFile is where the keeper leaves the exit status.
func ExitFile(dir string) string { return filepath.Join(dir, "exit") }

// readRecord reads a record without its Spec.
func readRecord(dir string, r *Record) error {
	path := filepath.Join(dir, recordFile)
	if err := readJSON(path, r); err != nil {
		return err
	}
	return checkVersion(path, r)
}

func checkVersion(path string, r *Record) error {
	if r.Version > recordVersion {
		return fmt.Errorf("%s: layout %d: %w", path, r.Version, ErrNewer)
	}
	return nil
}

// writeRecord writes the specification first: a directory with a record is a
// whole container.
func writeRecord(dir string, r Record, o durable.Options) error {
	if r.Spec != nil {
		if err := writeJSON(filepath.Join(dir, specFile), r.Spec, o); err != nil {
			return err
		}
	}
	if err := writeJSON(filepath.Join(dir, stateFile), State{Status: Created}, o); err != nil {
		return err
	}
	if !o.Volatile { // so that a container that filled the disk can be stopped and removed
		if err := durable.Reserve(filepath.Join(dir, stateFile), o); err != nil {
			return err
		}
	}
	return writeJSON(filepath.Join(dir, recordFile), r, o)
}

// maxFile bounds a container's files, in bytes.
const maxFile = 64 << 20

func readJSON(path string, v any) error {
	data, err := sys.ReadFile(path, maxFile)
	if err != nil {
		return err
	}
	return decodeJSON(path, data, v)
}

func decodeJSON(path string, data []byte, v any) error {
	if err := quickjson.Decode(string(data), v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func writeJSON(path string, v any, o durable.Options) error {
	data, err := quickjson.Append(nil, v)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return durable.WriteFile(path, append(data, '\n'), o)
}

// Reached are the ports of the host that lead to the container: those that it publishes, if it is in a network that leads
// anywhere, or a program carries its packets, or other programs connect it and nobody else: they have refused to start it otherwise.
func (r Record) Reached() []Port {
	if len(r.Endpoints) == 0 && len(r.Attachments) > 0 {
		return r.Published
	}
	if _, carried := r.Config.Namespaces.UserNetwork(); !carried && !slices.ContainsFunc(r.Endpoints, func(p Endpoint) bool { return !p.Internal }) {
		return nil
	}
	return r.Published
}
