package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/quickjson"
	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/pkg/cgroup"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// state is what a container's directory says about it; the rest the kernel knows.
type state struct {
	Version string `json:"ociVersion"`
	ID      string `json:"id"`
	PID     int    `json:"pid"`
	Start   uint64 `json:"startTime"`
	Bundle  string `json:"bundle"`
	// Keeper is the container's parent, KeeperStart its start time, ExitFile where it
	// leaves the exit status, and Held the descriptor that it holds; 0 if there is none.
	Keeper      int       `json:"keeper,omitempty"`
	KeeperStart uint64    `json:"keeperStart,omitempty"`
	ExitFile    string    `json:"exitFile,omitempty"`
	Held        int       `json:"held,omitempty"`
	Rootfs      string    `json:"rootfs"`
	Created     time.Time `json:"created"`
	Owner       int       `json:"owner"`
	// Config is the file with the configuration.
	Config string `json:"config"`
	// Cgroups are the container's control group directories.
	Cgroups []string `json:"cgroups,omitempty"`
	// Unit is systemd's, if the control group comes from there; UserUnit says that it is
	// the user's systemd.
	Unit     string `json:"unit,omitempty"`
	UserUnit bool   `json:"userUnit,omitempty"`
	// Above is a control group that will contain the unit's, and KillsBefore how many processes it had lost for
	// memory when the container was born: systemd removes the unit's own group as soon as it is empty.
	Above       string `json:"aboveUnit,omitempty"`
	KillsBefore uint64 `json:"killsBefore,omitempty"`
	// Tasks are the files of its class of service that list processes.
	Tasks []string `json:"tasks,omitempty"`
	// Shared: see Started. What is in such a group is not ours to kill.
	Shared      bool              `json:"sharedCgroups,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// Limits are the configuration's after updates; nil before the first.
	Limits *specs.LinuxResources `json:"limits,omitempty"`
	// Hooks: start or delete have hooks to run.
	Hooks bool `json:"hooks,omitempty"`
	// SharedPIDs: the end of the first process does not end the others.
	SharedPIDs bool `json:"sharedPids,omitempty"`
	// Crowd tells who belongs to a container that has no control group of its own,
	// and MountNS is its mount namespace, if that is needed; see crowd.
	Crowd   string `json:"crowd,omitempty"`
	MountNS uint64 `json:"mountNamespace,omitempty"`
}

// bundle is a configuration with where it came from.
type bundle struct {
	// dir is absolute.
	dir  string
	spec *specs.Spec
	// text is spec as JSON if it was read from the bundle's config.json.
	text []byte
	// filters has the filter for system calls if it was compiled before, and is not in spec.
	filters filterStore
}

// loadBundle reads the configuration that a request names or brings. A policy for system calls is left out if its filter
// is among those that are kept below root, if that is not empty.
func loadBundle(req *CreateRequest, root string) (*bundle, error) {
	dir, err := filepath.Abs(req.Bundle)
	if err != nil {
		return nil, err
	}
	b := &bundle{dir: dir, spec: req.Spec, filters: filterStore{root: root}}
	if b.spec == nil {
		b.spec, b.text, err = b.filters.load(filepath.Join(dir, configFile))
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", ErrNoBundle, err)
	}
	return b, err
}

func loadSpec(path string) (*specs.Spec, []byte, error) { return new(filterStore).load(path) }

// load reads a configuration.
func (f *filterStore) load(path string) (*specs.Spec, []byte, error) {
	text, err := sys.ReadFile(path, maxConfig)
	if err != nil {
		return nil, nil, err
	}
	spec := new(specs.Spec)
	if err := f.decode(string(text), spec); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return spec, text, nil
}

// newState says what will be kept about a container whose process has been born.
func newState(req *CreateRequest, b *bundle, in *Input, p *plan.Plan, s *Started) *state {
	st := &state{Version: specs.Version, ID: req.ID, PID: s.PID, Shared: s.Shared, Bundle: b.dir, Rootfs: in.Root, Created: time.Now().UTC(),
		Owner: os.Getuid(), Annotations: in.Spec.Annotations, Cgroups: cgroupPaths(p), Tasks: taskFiles(p), Config: req.SpecFile,
		Hooks: hasHooks(in.Spec), SharedPIDs: !ownNamespace(in.Spec, specs.PIDNamespace)}
	if st.Unit, st.UserUnit = unitOf(p); st.Unit != "" && len(st.Cgroups) > 0 {
		st.Above, st.KillsBefore = cgroup.KillsAbove(st.Cgroups[0])
	}
	st.Start, _ = startTime(s.PID) // a process that has ended already has none
	if req.ExitFile != "" {
		st.Keeper, st.ExitFile = s.Parent, req.ExitFile
		st.KeeperStart, _ = startTime(s.Parent)
	}
	if req.Held != nil {
		st.Held = firstHeld + req.PreserveFDs
	}
	if !st.ownGroup() {
		st.Crowd = crowdOf(in.Spec)
	}
	if st.Crowd == crowdMount {
		st.MountNS = mountNamespaceID(s.PID)
	}
	return st
}

// newSuffix ends the name of a state that does not count yet.
const newSuffix = ".new"

// writeState writes the state and the copy of the configuration: the bundle may change
// or go while the container lives. The state counts when it is renamed, which is before
// the program can run: a runtime that is killed leaves either a container that can be
// found, or a process that notices and ends.
func writeState(dir string, st *state, b *bundle) (err error) {
	if st.Config == "" {
		text := b.text
		if text == nil {
			if text, err = quickjson.Append(nil, b.spec); err != nil {
				return err
			}
		}
		st.Config = filepath.Join(dir, configFile)
		if err := sys.WriteFile(st.Config, text); err != nil {
			return err
		}
	}
	text, err := quickjson.Append(nil, st)
	if err != nil {
		return err
	}
	return sys.WriteFile(filepath.Join(dir, stateFile+newSuffix), text)
}

// cgroupPaths finds the container's control groups in its plan: what is removed
// when it is deleted.
func cgroupPaths(p *plan.Plan) []string {
	var paths []string
	for _, s := range p.Steps {
		if d, ok := s.Undo.(linux.RemoveDir); ok && s.Actor == plan.Host && s.Chapter == plan.CgroupChapter {
			paths = append(paths, d.Path)
		}
	}
	return paths
}

// unitOf finds the unit that a plan starts, if there is one.
func unitOf(p *plan.Plan) (name string, user bool) {
	for _, s := range p.Steps {
		if c, ok := s.Call.(linux.StartUnit); ok {
			return c.Unit, c.User
		}
	}
	return "", false
}

// load reads a container's state.
func (r *Runtime) load(id string) (*state, error) {
	return r.loadFile(id, stateFile)
}

func (r *Runtime) loadFile(id, name string) (*state, error) {
	if err := ValidateID(id); err != nil {
		return nil, err
	}
	if err := r.checkRoot(); err != nil {
		return nil, err
	}
	text, err := sys.ReadFile(filepath.Join(r.Root, id, name), maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("container %q: %w", id, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	st := new(state)
	if err := quickjson.Decode(string(text), st); err != nil {
		return nil, fmt.Errorf("container %q: %s: %w", id, name, err)
	}
	return st, nil
}
