package plugin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/containr/containr/internal/spelling"
)

// Kept is a volume as its plugin tells of it.
type Kept struct {
	Name string
	// Mountpoint is where it is on the host, empty if it is not mounted.
	Mountpoint string
	// CreatedAt is in the form of RFC 3339; empty if the plugin does not say. Status is what else it says.
	CreatedAt string
	Status    map[string]any
}

// Holdings are all volumes that a plugin keeps.
type Holdings struct {
	Plugin, Scope string
	Volumes       []Kept
}

// Scopes that a plugin may have: its volumes are those of this machine, or of all that it serves.
const (
	ScopeLocal  = "local"
	ScopeGlobal = "global"
)

// errOtherKind means that a plugin is for something else.
var errOtherKind = errors.New("it keeps no volumes")

// Scope is what the plugin says of itself: ScopeLocal or ScopeGlobal. One that has nothing to say, as the protocol allows, is local.
func (p *Plugin) Scope(ctx context.Context) (string, error) {
	var answer struct{ Capabilities struct{ Scope string } }
	err := p.ask(ctx, "VolumeDriver.Capabilities", struct{}{}, &answer)
	if errors.Is(err, ErrRefused) {
		return ScopeLocal, nil
	}
	if err == nil && strings.EqualFold(answer.Capabilities.Scope, ScopeGlobal) {
		return ScopeGlobal, nil
	}
	return ScopeLocal, err
}

// List is what the plugin keeps, by name. A name that no volume may have is an error, and left out.
func (p *Plugin) List(ctx context.Context) ([]Kept, error) {
	var answer struct{ Volumes []Kept }
	if err := p.ask(ctx, "VolumeDriver.List", struct{}{}, &answer); err != nil {
		return nil, err
	}
	var bad error
	all := slices.DeleteFunc(answer.Volumes, func(k Kept) bool {
		if spelling.IsName(k.Name, 128) {
			return false
		}
		bad = fmt.Errorf("plugin %s: it lists a volume %.100q, which is no name: %w", p.name, k.Name, ErrAnswer)
		return true
	})
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all, bad
}

// Get is what the plugin says of one volume.
func (p *Plugin) Get(ctx context.Context, name string) (Kept, error) {
	var answer struct{ Volume Kept }
	err := p.ask(ctx, "VolumeDriver.Get", named{Name: name}, &answer)
	return answer.Volume, err
}

// All asks all plugins that there are, at the same time and until ctx ends. A plugin that did not answer is an error of its own, and what the others
// keep is returned nevertheless. Plugins that keep no volumes are left out, and those that this user may not speak with.
func All(ctx context.Context) ([]Holdings, []error) {
	names, failures := names()
	all, errs := make([]Holdings, len(names)), make([]error, len(names))
	var group sync.WaitGroup
	for i, name := range names {
		group.Go(func() { all[i], errs[i] = holdings(ctx, name) })
	}
	group.Wait()
	for _, err := range errs {
		if err != nil && !errors.Is(err, errOtherKind) && !errors.Is(err, fs.ErrPermission) {
			failures = append(failures, err)
		}
	}
	return slices.DeleteFunc(all, func(h Holdings) bool { return h.Plugin == "" }), failures
}

func holdings(ctx context.Context, name string) (Holdings, error) {
	p, err := Open(ctx, name)
	if err != nil {
		return Holdings{}, err
	}
	scope, err := p.Scope(ctx)
	if err != nil {
		return Holdings{}, err
	}
	list, err := p.List(ctx)
	return Holdings{name, scope, list}, err
}

// names are those of all plugins that are found, without asking them.
func names() (names []string, failures []error) {
	for _, dir := range Directories() {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			failures = append(failures, err)
		}
		for _, e := range entries {
			ext := filepath.Ext(e.Name())
			name := strings.TrimSuffix(e.Name(), ext)
			if slices.Contains([]string{".sock", ".spec", ".json"}, ext) && spelling.IsName(name, 128) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), failures
}
