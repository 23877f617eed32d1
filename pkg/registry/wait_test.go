package registry

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containr/containr/internal/testkit/fakeregistry"
	"github.com/containr/containr/pkg/image"
)

// silent is a server that takes connections and says nothing.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go io.Copy(io.Discard, c)
		}
	}()
	return l.Addr().String()
}

// waits collects what a pull tells of waiting, and ends it at the first that fits.
type waits struct {
	mu   sync.Mutex
	all  []Wait
	ends func(Wait) bool
	end  context.CancelFunc
}

func (w *waits) tell(x Wait) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, x)
	if w.ends != nil && w.ends(x) {
		w.end()
	}
}

// pull pulls until something fits, and returns what was told.
func (w *waits) pull(t *testing.T, r PullRequest) []Wait {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.end = cancel
	r.Waits, r.Retry.Notice = w.tell, 10*time.Millisecond
	_, err := Pull(ctx, r)
	if w.ends != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("the pull ended with %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.all)
}

func TestSilentRegistryIsTold(t *testing.T) {
	for doing, plain := range map[string]bool{"waiting for the answer of ": true, "shaking hands (TLS) with ": false} {
		s := newScene(t, fakeregistry.Options{})
		r := s.request(t)
		host := silent(t)
		ref, err := image.ParseReference(host + "/app:1")
		if err != nil {
			t.Fatal(err)
		}
		r.Ref, r.PlainHTTP = ref, plain
		w := waits{ends: func(x Wait) bool { return x.Doing == doing+host }}
		told := w.pull(t, r)
		if len(told) < 2 {
			t.Fatalf("told %+v", told)
		}
		first, last := told[0], told[len(told)-1]
		if first.Registry != host || first.What != "manifest app:1" || first.Attempt != 1 || first.Attempts != quick.Attempts ||
			first.For < 10*time.Millisecond || first.Limit < dialTimeout {
			t.Errorf("told %+v", first)
		}
		if !last.Over || slices.ContainsFunc(told[:len(told)-1], func(x Wait) bool { return x.Over && x.Doing != "" }) {
			t.Errorf("at the end told %+v", last)
		}
	}
}

// A blob that stands still is told of, and that it goes on; the attempt that fails for it, too.
func TestStandstillIsTold(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	blob := s.image.Layers[1].Digest.String()
	s.Fail(fakeregistry.Fault{Path: blob, Times: 1, Stall: true})
	r := s.request(t)
	r.Retry.Stall = 50 * time.Millisecond
	var w waits
	told := w.pull(t, r)
	receiving := slices.IndexFunc(told, func(x Wait) bool {
		return x.Doing == "receiving from "+s.Host() && x.What == "blob "+blob && x.Limit == r.Retry.Stall
	})
	over := slices.IndexFunc(told, func(x Wait) bool { return x.Over && x.What == "blob "+blob })
	failed := slices.IndexFunc(told, func(x Wait) bool { return errors.Is(x.Failed, ErrUnreachable) })
	if receiving < 0 || over < receiving || failed < over {
		t.Errorf("told %+v", told)
	}
}

// A registry that asks to come back later is told of before the wait.
func TestBusyRegistryIsTold(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	s.Fail(fakeregistry.Fault{Path: "/manifests/", Status: 429, Header: map[string]string{"Retry-After": "30"}})
	w := waits{ends: func(x Wait) bool { return errors.Is(x.Failed, ErrBusy) && x.For >= 30*time.Second }}
	told := w.pull(t, s.request(t))
	if text := told[len(told)-1].Failed.Error(); !strings.Contains(text, "manifest library/app:1") {
		t.Errorf("told %q", text)
	}
}

// Nothing is told of a registry that answers in time.
func TestPromptRegistryIsNotTold(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	r := s.request(t)
	r.Waits = func(x Wait) { t.Errorf("told %+v", x) }
	if _, err := Pull(t.Context(), r); err != nil {
		t.Error(err)
	}
}
