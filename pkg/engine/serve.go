package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"

	"github.com/containr/containr/pkg/events"
	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/registry/serve"
)

// ServeRequest asks for the store to be served as a registry.
type ServeRequest struct {
	// Listen is the address to listen at: host:port. A port of 0 is any that is free.
	Listen string
	// Domain is what the registry is called in the store: host[:port]; if empty, localhost and the port.
	Domain string
	// Certificate and Key are files, for TLS. Both or none.
	Certificate, Key string
	// ReadOnly refuses to change anything.
	ReadOnly bool
	// Users is a file that `htpasswd -B` writes; empty lets everybody in.
	Users string
	// Limits bound what clients may use; zeros are the defaults.
	Limits serve.Limits
	// Ready is called when requests are answered.
	Ready func(Served)
}

// Served is a registry that has begun to answer.
type Served struct {
	URL    string
	Domain string
	// Open says that others than this machine can write to it, and nobody is asked who he is.
	Open bool
	// Bare says that passwords come over the network without TLS.
	Bare bool
}

// Serve answers as a registry until ctx ends.
func (e *Engine) Serve(ctx context.Context, r ServeRequest) error {
	images, err := e.images()
	if err != nil {
		return err
	}
	o := serve.Options{Store: images, Domain: r.Domain, ReadOnly: r.ReadOnly, Limits: r.Limits, Log: logRequest}
	o.Named = func(ref image.Reference) { e.tellImage(events.Tag, ref.Familiar()) }
	if r.Users != "" {
		if o.Users, err = serve.ReadUsers(r.Users); err != nil {
			return err
		}
	}
	scheme, certificates := "http", []tls.Certificate(nil)
	if r.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(r.Certificate, r.Key)
		if err != nil {
			return fmt.Errorf("registry: certificate %s with key %s: %w", r.Certificate, r.Key, err)
		}
		scheme, certificates = "https", append(certificates, pair)
	}
	listener, err := net.Listen("tcp", r.Listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	at := listener.Addr().(*net.TCPAddr)
	if o.Domain == "" {
		o.Domain = net.JoinHostPort("localhost", strconv.Itoa(at.Port))
	}
	server, err := serve.New(ctx, o)
	if err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	r.Ready(Served{
		URL: scheme + "://" + at.String(), Domain: o.Domain,
		Open: !at.IP.IsLoopback() && o.Users == nil && !r.ReadOnly,
		Bare: !at.IP.IsLoopback() && o.Users != nil && certificates == nil,
	})
	err = server.Serve(ctx, listener, certificates...)
	return errors.Join(err, server.Close())
}

// logRequest writes a request of a client to the log.
func logRequest(r serve.Request) {
	slog.Info("registry", "from", r.From, "user", r.User, "method", r.Method, "path", r.Path, "status", r.Status, "took", r.Took)
}
