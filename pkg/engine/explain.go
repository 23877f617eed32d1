package engine

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	goruntime "runtime"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/networks"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
	"github.com/containr/containr/pkg/registry"
	"github.com/containr/containr/pkg/runtime"
)

// ExplainRequest asks what a run would do.
type ExplainRequest struct {
	Config container.Config
	// ID is the id that the container would have; empty makes one up. Two
	// explanations with the same id can be compared.
	ID string
	// Keep leaves the container, which has not run, where it was prepared, so
	// that its plan can be executed by other means.
	Keep bool
	// ConsoleSize: see RunRequest.
	ConsoleSize *specs.Box
	// Progress, if set, is told how a pull goes on.
	Progress func(registry.Progress)
}

// Explanation is a run that did not happen, at each stage of its making.
type Explanation struct {
	// ID and Name are the container's.
	ID, Name string
	// Config has the defaults filled in.
	Config container.Config
	Spec   *specs.Spec
	Plan   *plan.Plan
}

// Explain does what Run does up to the first step of the plan, and takes it back.
// The image is fetched and unpacked if Run would do that, since the plan depends
// on it; this stays.
func (e *Engine) Explain(ctx context.Context, r ExplainRequest) (_ *Explanation, err error) {
	rt, err := e.runtime()
	if err != nil {
		return nil, err
	}
	if r.Keep {
		r.Config.AutoRemove = false // nobody will be there to see it end
	}
	id := r.ID
	if id == "" {
		id = container.NewID()
	}
	if !r.Keep && !e.defaultNetworkThere() {
		defer func() { err = errors.Join(err, e.dropDefaultNetwork(ctx)) }()
	}
	p, err := e.prepare(ctx, r.Config, id, prepareOptions{progress: r.Progress, consoleSize: r.ConsoleSize, look: !r.Keep})
	if err != nil {
		return nil, err
	}
	defer p.release()
	req := p.request(rt.Facts)
	spec, err := e.shareVolumes(p.spec, p.config, id)
	if err != nil {
		return nil, errors.Join(err, e.discard(ctx, p))
	}
	if r.Keep {
		if err := e.volumesLast(p.config); err != nil {
			return nil, errors.Join(err, e.discard(ctx, p))
		}
	}
	spec, detach, err := e.attachVolumes(ctx, spec, p.config)
	if err != nil {
		return nil, errors.Join(err, e.discard(ctx, p))
	}
	defer detach()
	spec, give, err := e.mountPlugins(ctx, spec, p.config, id)
	if err != nil {
		return nil, errors.Join(err, e.discard(ctx, p))
	}
	defer func() {
		give()
		err = errors.Join(err, e.unmountPlugins(ctx, id))
	}()
	spec, joins, err := e.join(ctx, spec)
	if err != nil {
		return nil, errors.Join(err, e.discard(ctx, p))
	}
	defer joins.close()
	req.Spec = spec
	if err := errors.Join(e.connect(req, p.place.Name, p.config, p.endpoints, p.published, false), e.connectPlugins(req, p.config.DNS, p.resolvConf, p.endpoints, p.attachments, p.published)); err != nil {
		return nil, errors.Join(err, e.discard(ctx, p))
	}
	in, err := rt.Input(req)
	if err != nil {
		return nil, errors.Join(err, e.discard(ctx, p))
	}
	pl, err := runtime.Compile(in)
	if err == nil && r.Keep {
		err = e.keep(p)
	}
	if err != nil || !r.Keep {
		err = errors.Join(err, e.discard(ctx, p))
	}
	if err != nil {
		return nil, err
	}
	return &Explanation{ID: id, Name: p.place.Name, Config: p.config, Spec: p.spec, Plan: pl}, nil
}

// defaultNetworkThere reports whether the default network is on disk.
func (e *Engine) defaultNetworkThere() bool {
	return host.Kind(filepath.Join(e.root, "networks", networks.Default)) == host.Directory
}

// dropDefaultNetwork removes the default network, which an explanation has made. If somebody is
// in it by now, it stays.
func (e *Engine) dropDefaultNetwork(ctx context.Context) error {
	if !e.defaultNetworkThere() {
		return nil
	}
	_, err := e.RemoveNetwork(context.WithoutCancel(ctx), networks.Default)
	if errors.Is(err, networks.ErrInUse) || errors.Is(err, networks.ErrNotFound) {
		return nil
	}
	return err
}

// keep writes the record of a container that has not run.
func (e *Engine) keep(p *prepared) error {
	attended, err := e.attend(p.place.ID)
	if err != nil {
		return err
	}
	defer attended.Release()
	record, err := p.record()
	if err == nil {
		_, err = p.place.Commit(record)
	}
	return err
}

// WriteWords prints the program that a run would load into its child, instruction by
// instruction.
func (x *Explanation) WriteWords(w io.Writer) error {
	return runtime.WriteWords(w, x.Plan, linux.Arch(goruntime.GOARCH), 0)
}

// WriteELF writes an executable file that makes the container without any runtime.
// It needs the files of a container that was kept. The steps that it leaves out, what
// only the host can do, are returned.
func (x *Explanation) WriteELF(w io.Writer) (omitted []plan.Step, err error) {
	return runtime.WriteELF(w, x.Plan)
}
