package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containr/containr/pkg/image"
)

// source is where the content of one repository can be had: its mirrors in their order,
// and the registry itself, which is the last. Whatever a mirror does not have, refuses or
// does wrong is asked of the next; a blob goes on where the one before it left off. What
// is known by its digest is verified whoever sends it. What a tag means, the first one
// that has it decides, as the user who names a mirror wants it.
type source struct {
	clients []*client
}

// close drops idle connections.
func (s *source) close() {
	for _, c := range s.clients {
		c.close()
	}
}

// registryAlone is the source without mirrors.
func (s *source) registryAlone() *source { return &source{clients: s.clients[len(s.clients)-1:]} }

// name is what errors call the registry.
func (s *source) name() string { return s.clients[len(s.clients)-1].registry }

// each asks one after another until one serves. The error is that of the last, with
// a word on the others.
func (s *source) each(ctx context.Context, ask func(*client) error) error {
	var passed []string
	for i, c := range s.clients {
		last := i == len(s.clients)-1
		if c.down.Load() && !last {
			continue
		}
		err := ask(c)
		var e *Error
		if err == nil || ctx.Err() != nil || !errors.As(err, &e) {
			return err
		}
		if last {
			if len(passed) > 0 {
				return fmt.Errorf("%w (its mirrors: %s)", err, strings.Join(passed, "; "))
			}
			return err
		}
		if e.Fault == ErrUnreachable {
			c.down.Store(true)
		}
		passed = append(passed, err.Error())
	}
	return errNoEndpoint
}

// manifest fetches a manifest or index, see client.fetchManifest.
func (s *source) manifest(ctx context.Context, selector string, want v1.Descriptor) (got document, err error) {
	err = s.each(ctx, func(c *client) (err error) {
		got, err = c.fetchManifest(ctx, selector, want)
		return err
	})
	return got, err
}

// digest asks for the digest of what a tag or digest means; empty if it is not said.
func (s *source) digest(ctx context.Context, selector string) (got digest.Digest, err error) {
	err = s.each(ctx, func(c *client) (err error) {
		got, err = c.headManifest(ctx, selector)
		return err
	})
	return got, err
}

// document fetches a small blob as a whole.
func (s *source) document(ctx context.Context, want v1.Descriptor) (got document, err error) {
	err = s.each(ctx, func(c *client) (err error) {
		got, err = c.fetchDocument(ctx, want)
		return err
	})
	return got, err
}

// blob fetches a blob into w and commits it.
func (s *source) blob(ctx context.Context, d v1.Descriptor, w *image.Writer, report func(done int64)) error {
	err := s.each(ctx, func(c *client) error {
		return c.fetchBlob(ctx, d, w, report)
	})
	if err != nil {
		return err
	}
	err = w.Commit(ctx)
	var wrong *image.VerifyError
	if !errors.As(err, &wrong) {
		return err
	}
	fault := &Error{Registry: s.name(), What: "blob " + d.Digest.String(), Fault: ErrDigest, Detail: fmt.Sprintf("want %s, got %s", wrong.Blob, wrong.Digest)}
	if w.Resumed() > 0 || len(s.clients) > 1 {
		return &mixedError{fault}
	}
	return fault
}

// mixedError is a wrong digest of a blob that came from several hands.
type mixedError struct{ fault *Error }

// Error is that of the registry.
func (e *mixedError) Error() string { return e.fault.Error() }

// Unwrap makes the fault known to errors.Is and errors.As.
func (e *mixedError) Unwrap() error { return e.fault }
