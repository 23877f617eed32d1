package engine

import (
	"context"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/apparmor"
)

// loadProfile loads the profile that containr brings, if the container has it. It may have been made before the last
// boot.
func (x *execution) loadProfile(ctx context.Context, spec *specs.Spec) error {
	if spec.Process == nil || spec.Process.ApparmorProfile != apparmor.Profile {
		return nil
	}
	return apparmor.Load(ctx, filepath.Join(x.run, "apparmor"))
}
