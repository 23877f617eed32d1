package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// Retry says how persistent a pull is. The zero value stands for the defaults.
type Retry struct {
	Attempts int           // in a row without progress, 6 by default
	Pause    time.Duration // after the first failure, then doubled; 500 ms by default
	Stall    time.Duration // without a byte, until a connection counts as broken; 60 s by default
	Notice   time.Duration // without progress, until Access.Waits is told; 3 s by default
}

// longestPause is the longest that a pull waits between two attempts. A registry
// that asks for more has refused.
const longestPause = 60 * time.Second

// progressBytes is how much an attempt must have brought not to count as failed.
// A byte would do for an honest registry, but would let another keep us for ever.
const progressBytes = 1 << 20

func (r Retry) orDefault() Retry {
	if r.Attempts <= 0 {
		r.Attempts = 6
	}
	if r.Pause <= 0 {
		r.Pause = 500 * time.Millisecond
	}
	if r.Stall <= 0 {
		r.Stall = 60 * time.Second
	}
	if r.Notice <= 0 {
		r.Notice = 3 * time.Second
	}
	return r
}

// try makes attempts until one succeeds, fails for good, or there have been too
// many in a row. attempt returns how many bytes it brought. An *Error of it is
// completed with the registry and what was asked of it.
func (c *client) try(ctx context.Context, what string, attempt func(context.Context) (int64, error)) error {
	for failures := 1; ; failures++ {
		began := time.Now()
		attended, waiting := c.attend(ctx, what, failures)
		got, err := attempt(attended)
		waiting.end()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("registry %s: %s: %w", c.registry, what, context.Cause(ctx))
		}
		var e *Error
		if !errors.As(err, &e) {
			return err
		}
		e.Registry, e.What = c.registry, what
		if got >= progressBytes {
			failures = 1
		}
		if !e.retry || failures >= c.retry.Attempts || e.after > longestPause {
			return e
		}
		rest := max(c.backoff(failures), e.after)
		waiting.retries(began, e, rest)
		if err := pause(ctx, rest); err != nil {
			return fmt.Errorf("registry %s: %s: %w", c.registry, what, err)
		}
	}
}

// backoff returns how long to wait after that many failures in a row: doubled
// each time, and up to a quarter more so that many clients do not come back at
// once.
func (c *client) backoff(failures int) time.Duration {
	d := min(c.retry.Pause<<min(failures-1, 16), longestPause)
	return d + rand.N(d/4+1)
}

// pause waits, or ends with its context.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// retryStatus reports whether an answer with this status may be another next time.
func retryStatus(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusRequestTimeout, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// retryTransport reports whether a request that got no answer may get one next
// time: yes if a connection broke, no if there was none (a wrong name, a closed
// port, a machine without a network) or it is not to be trusted. Waiting does not help with those.
func retryTransport(err error) bool {
	var certificate *tls.CertificateVerificationError
	var alert tls.AlertError
	if errors.As(err, &certificate) || errors.As(err, &alert) || errors.Is(err, http.ErrSchemeMismatch) {
		return false
	}
	var name *net.DNSError
	if errors.As(err, &name) {
		// net keeps the text of what went wrong on the way to the name server only, and calls it temporary.
		offline := strings.HasSuffix(name.Err, syscall.ENETUNREACH.Error())
		return name.IsTemporary && !name.IsNotFound && !offline
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return op.Timeout()
	}
	return true
}
