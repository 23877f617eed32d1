package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/containr/containr/pkg/image"
)

// Options says what a registry serves and to whom. Store and Domain are needed; the zero value of
// everything else is the default.
type Options struct {
	Store *image.Store
	// Domain is what the registry is called in the store: host[:port].
	Domain string
	// ReadOnly refuses to change anything.
	ReadOnly bool
	// Users, if set, are asked for by name and password.
	Users *Users
	// Limits bound what clients may use; a zero is the default of DefaultLimits.
	Limits Limits
	// Log, if set, is told of each request when it was answered.
	Log func(Request)
	// Named, if set, is told of each name that a push has changed.
	Named func(image.Reference)
}

// Limits bound what clients may make a registry spend.
type Limits struct {
	Blob    int64         // bytes of one blob
	Held    int64         // bytes of uploads, begun or complete, that no manifest lists
	Uploads int           // sessions at a time
	Idle    time.Duration // after which a session, or what is held, is given up
	Free    int64         // bytes of the disk that an upload must leave free
	Stall   time.Duration // in which a client must send, or take, something
}

// DefaultLimits are what zeros stand for.
func DefaultLimits() Limits {
	return Limits{Blob: 32 << 30, Held: 64 << 30, Uploads: 128, Idle: time.Hour, Free: 256 << 20, Stall: time.Minute}
}

// orDefault fills in what is zero.
func (l Limits) orDefault() Limits {
	d := DefaultLimits()
	if l.Blob == 0 {
		l.Blob = d.Blob
	}
	if l.Held == 0 {
		l.Held = d.Held
	}
	if l.Uploads == 0 {
		l.Uploads = d.Uploads
	}
	if l.Idle == 0 {
		l.Idle = d.Idle
	}
	if l.Free == 0 {
		l.Free = d.Free
	}
	if l.Stall == 0 {
		l.Stall = d.Stall
	}
	return l
}

// Request is one answered request, for the log.
type Request struct {
	From, User   string
	Method, Path string
	Status       int
	Took         time.Duration
}

// Server is a registry. It is an http.Handler, and must be closed.
type Server struct {
	options  Options
	limits   Limits
	handler  http.Handler
	views    views
	held     held
	sessions sessions
	// names is held while a name is published or withdrawn: between the check that all is there
	// and the name, nothing may be taken away through this server.
	names sync.Mutex

	sweep chan struct{} // there may be garbage
	stop  context.CancelFunc
	done  sync.WaitGroup
}

// New makes a registry. Nothing is listened to yet.
func New(ctx context.Context, o Options) (*Server, error) {
	if ref, err := image.ParseReference(o.Domain + "/x"); err != nil || ref.Domain != o.Domain {
		return nil, fmt.Errorf("%q is not the name of a registry, with a dot or a port as in lab.example or localhost:5000: %w", o.Domain, image.ErrReference)
	}
	s := &Server{options: o, limits: o.Limits.orDefault(), sweep: make(chan struct{}, 1)}
	s.views = views{store: o.Store, domain: o.Domain}
	s.held = held{store: o.Store, limit: s.limits.Held}
	s.sessions = sessions{open: map[string]*session{}}
	if err := s.held.begin(ctx); err != nil {
		return nil, err
	}
	s.handler = http.NewCrossOriginProtection().Handler(http.HandlerFunc(s.route))
	ctx, s.stop = context.WithCancel(ctx)
	s.done.Go(func() { s.housekeep(ctx) })
	return s, nil
}

// Close gives up the sessions and what is held, and collects garbage. No request may be in work.
func (s *Server) Close() error {
	s.stop()
	s.done.Wait()
	s.expire(0)
	err := s.held.close()
	_, gcErr := s.options.Store.GC(context.Background())
	return errors.Join(err, gcErr)
}

// housekeep gives up what idles, and collects garbage when something was deleted.
func (s *Server) housekeep(ctx context.Context) {
	tick := time.NewTicker(s.limits.Idle/4 + 1)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.tidy(ctx, s.limits.Idle)
		case <-s.sweep:
			s.collect(ctx)
		}
	}
}

// tidy gives up what has idled for so long.
func (s *Server) tidy(ctx context.Context, idle time.Duration) {
	s.expire(idle)
	if s.held.expire(ctx, idle) {
		s.collect(ctx)
	}
}

// collect collects garbage. What is not collected now is collected the next time.
func (s *Server) collect(ctx context.Context) {
	if _, err := s.options.Store.GC(ctx); err != nil && ctx.Err() == nil {
		slog.Warn("registry: garbage is left for later", "error", err)
	}
}

// mayHaveGarbage has the store looked through soon.
func (s *Server) mayHaveGarbage() {
	select {
	case s.sweep <- struct{}{}:
	default: // it is due already
	}
}

// maxHeaderBytes bounds the headers of a request.
const maxHeaderBytes = 32 << 10

// Serve answers on a listener until ctx ends, and lets requests in work come to their end, though
// not for long. A certificate makes it TLS.
func (s *Server) Serve(ctx context.Context, l net.Listener, certificates ...tls.Certificate) error {
	server := &http.Server{
		Handler: s, MaxHeaderBytes: maxHeaderBytes,
		ReadHeaderTimeout: s.limits.Stall, IdleTimeout: 2 * s.limits.Stall,
		ErrorLog: nil,
	}
	ended := make(chan error, 1)
	go func() {
		if len(certificates) > 0 {
			server.TLSConfig = &tls.Config{Certificates: certificates}
			ended <- server.ServeTLS(l, "", "")
			return
		}
		ended <- server.Serve(l)
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	soon, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	if server.Shutdown(soon) != nil {
		server.Close()
	}
	<-ended
	return nil
}

// shutdownTime is how long requests in work may go on when the server is told to end.
const shutdownTime = 5 * time.Second
