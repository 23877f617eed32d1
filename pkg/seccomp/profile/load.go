package profile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/seccomp"
)

// MaxSize is the largest profile that Load reads, in bytes. Docker's default
// has 14 kB.
const MaxSize = 1 << 20

// Load reads a profile in JSON, docker's format or the plain linux.seccomp of
// the OCI runtime specification, and evaluates it for a target.
//
// The whole profile is checked, also the groups that do not apply to the target.
// Errors name the bad field by its path. A field that neither format has is an
// error: a spelling mistake must not silently leave out a rule. The only fields
// that are read but mean nothing are comment, and podman's errno and
// defaultErrno next to their numbers.
func Load(r io.Reader, t Target) (*specs.LinuxSeccomp, error) {
	d, err := decode(r)
	if err != nil {
		return nil, fmt.Errorf("seccomp profile: %w", err)
	}
	if err := d.check(); err != nil {
		return nil, fmt.Errorf("seccomp profile: %w", err)
	}
	if err := seccomp.Check(d.everything()); err != nil {
		return nil, err
	}
	p := d.policy(t)
	if err := seccomp.Check(p); err != nil {
		return nil, fmt.Errorf("for this target: %w", err)
	}
	return p, nil
}

// decode reads exactly one document.
func decode(r io.Reader) (*document, error) {
	limited := &io.LimitedReader{R: r, N: MaxSize + 1}
	decoder := json.NewDecoder(limited)
	decoder.DisallowUnknownFields()
	var d document
	err := decoder.Decode(&d)
	if err == nil {
		// Only white space may follow.
		if _, err = decoder.Token(); errors.Is(err, io.EOF) {
			err = nil
		} else if err == nil {
			err = errors.New("something follows the profile")
		}
	}
	switch {
	case limited.N == 0:
		return nil, fmt.Errorf("larger than %d bytes", MaxSize)
	case errors.Is(err, io.EOF):
		return nil, errors.New("empty")
	case err != nil:
		return nil, fieldError(err)
	}
	return &d, nil
}

// fieldError says where in the document an error of encoding/json is.
func fieldError(err error) error {
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) {
		return fmt.Errorf("%s: %s where %s belongs, at byte %d", mismatch.Field, mismatch.Value, mismatch.Type, mismatch.Offset)
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("not JSON: %w, at byte %d", err, syntax.Offset)
	}
	return err
}

// check finds what is wrong with the parts of a document that OCI does not have.
func (d *document) check() error {
	if len(d.Architectures) > 0 && len(d.ArchMap) > 0 {
		return errors.New("architectures and archMap are both given")
	}
	if d.DefaultErrno != "" && d.DefaultErrnoRet == nil {
		return errors.New("defaultErrno: without the number in defaultErrnoRet")
	}
	for i := range d.Syscalls {
		if err := d.Syscalls[i].check(); err != nil {
			return fmt.Errorf("syscalls[%d].%w", i, err)
		}
	}
	return nil
}

// everything returns the document as a policy with all groups and all
// architectures, for checking.
func (d *document) everything() *specs.LinuxSeccomp {
	all := &specs.LinuxSeccomp{
		DefaultAction:   d.DefaultAction,
		DefaultErrnoRet: d.DefaultErrnoRet,
		Architectures:   d.Architectures,
		Flags:           d.Flags,
	}
	for _, g := range d.ArchMap {
		all.Architectures = append(all.Architectures, g.Arch)
		all.Architectures = append(all.Architectures, g.SubArchs...)
	}
	for i := range d.Syscalls {
		all.Syscalls = append(all.Syscalls, d.Syscalls[i].rule())
	}
	return all
}

// check does the same for a group.
func (g *group) check() error {
	if g.Name != "" && len(g.Names) > 0 {
		return errors.New("name: given as well as names")
	}
	if g.Errno != "" && g.ErrnoRet == nil {
		return errors.New("errno: without the number in errnoRet")
	}
	if g.Includes.MinKernel != "" {
		if _, err := g.Includes.parseMinKernel(); err != nil {
			return fmt.Errorf("includes.%w", err)
		}
	}
	if g.Excludes.MinKernel != "" {
		if _, err := g.Excludes.parseMinKernel(); err != nil {
			return fmt.Errorf("excludes.%w", err)
		}
	}
	return nil
}
