package engine

import (
	"context"
	"errors"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/registry"
	"github.com/containr/containr/pkg/runtime"
)

// ExplainRequest asks what a run would do.
type ExplainRequest struct {
	Config container.Config
	// ID is the id that the container would have; empty makes one up. Two
	// explanations with the same id can be compared.
	ID string
	// ConsoleSize: see RunRequest.
	ConsoleSize *specs.Box
	// Progress, if set, is told how a pull goes on.
	Progress func(registry.Progress)
}

// Explanation is a run that did not happen, at each stage of its making.
type Explanation struct {
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
	id := r.ID
	if id == "" {
		id = container.NewID()
	}
	p, err := e.prepare(ctx, r.Config, id, prepareOptions{r.Progress, r.ConsoleSize})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.discard(ctx, p)) }()
	in, err := rt.Input(p.request())
	if err != nil {
		return nil, err
	}
	pl, err := runtime.Compile(in)
	if err != nil {
		return nil, err
	}
	return &Explanation{Config: p.config, Spec: p.spec, Plan: pl}, nil
}
