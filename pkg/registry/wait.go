package registry

import (
	"context"
	"crypto/tls"
	"io"
	"net/http/httptrace"
	"sync"
	"time"
)

// Wait tells that a registry keeps us waiting: what is being tried, for how long already, and for how long at most. One
// is told when a step of an attempt has taken Retry.Notice, then one each second until the step is over.
type Wait struct {
	Registry string // host[:port] of the registry, or of its mirror
	What     string // that is asked for, as in Error
	Doing    string // "connecting to HOST", "waiting for the answer of HOST", ...
	For      time.Duration
	Limit    time.Duration // of the step: then the attempt has failed
	Attempt  int           // 1 is the first
	Attempts int           // that are made without progress

	Failed error // set: the attempt has failed, and the next one follows after For
	Over   bool  // the wait that was told of before is over
}

// waitInterval is the time from one Wait to the next of the same step.
const waitInterval = time.Second

// waiting watches one attempt, and tells when it stands still.
type waiting struct {
	tell   func(Wait)
	notice time.Duration
	stall  time.Duration

	mu    sync.Mutex
	wait  Wait
	host  string
	since time.Time // the step began, or made progress
	told  bool
	ended bool
	timer *time.Timer
}

// waitKey is where a context holds the attempt that is made with it.
type waitKey struct{}

// attend returns a context for an attempt, and who watches it: nil if there is nobody to tell. The transport says how far
// a request has come, also one to where the registry sends us for the content or a token.
func (c *client) attend(ctx context.Context, what string, attempt int) (context.Context, *waiting) {
	if c.waits == nil {
		return ctx, nil
	}
	w := &waiting{tell: c.waits, notice: c.retry.Notice, stall: c.retry.Stall, host: c.registry, since: time.Now()}
	w.wait = Wait{Registry: c.registry, What: what, Attempt: attempt, Attempts: c.retry.Attempts}
	w.timer = time.AfterFunc(w.notice, w.look)
	ctx = context.WithValue(ctx, waitKey{}, w)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(host string) {
			w.mu.Lock()
			w.host = host
			w.mu.Unlock()
			w.step("connecting to", dialTimeout)
		},
		TLSHandshakeStart:    func() { w.step("shaking hands (TLS) with", dialTimeout) },
		TLSHandshakeDone:     func(tls.ConnectionState, error) { w.step("sending to", w.stall) },
		GotConn:              func(httptrace.GotConnInfo) { w.step("sending to", w.stall) },
		WroteRequest:         func(httptrace.WroteRequestInfo) { w.step("waiting for the answer of", headerTimeout) },
		GotFirstResponseByte: func() { w.step("receiving from", w.stall) },
	}), w
}

// step notes that the next step begins.
func (w *waiting) step(doing string, limit time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.moved()
	w.wait.Doing, w.wait.Limit = doing+" "+w.host, limit
}

// moved notes progress. w.mu must be held.
func (w *waiting) moved() {
	w.since = time.Now()
	if w.told && !w.ended {
		w.told = false
		w.tell(Wait{Registry: w.wait.Registry, What: w.wait.What, Over: true})
	}
}

// look tells of the step if it has lasted.
func (w *waiting) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	w.wait.For = time.Since(w.since)
	if w.wait.For < w.notice {
		w.timer.Reset(w.notice - w.wait.For)
		return
	}
	w.told = true
	w.tell(w.wait)
	w.timer.Reset(waitInterval)
}

// end ends the watch. Nothing is told any more.
func (w *waiting) end() {
	if w == nil {
		return
	}
	w.timer.Stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.moved()
	w.ended = true
}

// retries tells that the attempt, which began then, has failed and another follows, if the two take a while.
func (w *waiting) retries(began time.Time, err error, pause time.Duration) {
	if w == nil || time.Since(began)+pause < w.notice {
		return
	}
	w.mu.Lock()
	failed := w.wait
	w.mu.Unlock()
	failed.Doing, failed.Limit, failed.For, failed.Failed = "", 0, pause, err
	w.tell(failed)
}

// attended returns a reader of a body, each read of which is progress.
func attended(ctx context.Context, body io.Reader) io.Reader {
	w, ok := ctx.Value(waitKey{}).(*waiting)
	if !ok {
		return body
	}
	return readerFunc(func(p []byte) (int, error) {
		n, err := body.Read(p)
		if n > 0 {
			w.mu.Lock()
			w.moved()
			w.mu.Unlock()
		}
		return n, err
	})
}
