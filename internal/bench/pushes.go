package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"

	"github.com/opencontainers/go-digest"
)

// changedTag names the image of Debian with a further layer.
const changedTag = "changed"

// changes races to pull a tag again after it has got a further layer: what is here must
// not be fetched or unpacked again.
func (b *bench) changes(l *layout, size string) (t table, err error) {
	next, err := l.withLayer(changedTag)
	if err != nil {
		return t, err
	}
	host, stop, err := serveLayout(l, "debian", tag, next)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	first, second := host+"/debian:"+tag, host+"/debian:"+changedTag
	e, err := b.newEngine("changes")
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, e.remove()) }()
	if _, err := e.command("pull", "--plain-http", "--quiet", first).measure(); err != nil {
		return t, err
	}
	c := []*contestant{{name: "`containr pull`", turn: func(int) (sample, error) {
		s, err := e.command("pull", "--plain-http", "--quiet", second).measure()
		_, gone := e.command("rmi", second).measure()
		return s, errors.Join(err, gone)
	}}}
	if b.found("dockerd", "docker") {
		d, err := b.startDocker()
		if err != nil {
			return t, err
		}
		defer func() { err = errors.Join(err, d.stop()) }()
		if _, err := cmd(d.docker("pull", first)...).measure(); err != nil {
			return t, err
		}
		c = append(c, &contestant{name: "`docker pull`", turn: func(int) (sample, error) {
			s, err := cmd(d.docker("pull", second)...).measure()
			_, gone := cmd(d.docker("rmi", second)...).measure()
			return s, errors.Join(err, gone)
		}})
	}
	err = race(b.ctx, options{rounds: b.rounds(20), warmUp: 1, before: settle}, c)
	return raceTable("Pull of what has changed a little", size+", is here; a tag with a further small layer is pulled.", c), err
}

// pushes races to send the image to a registry that has nothing.
func (b *bench) pushes(l *layout, size string) (t table, err error) {
	sink, stop, err := serveSink()
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	e, err := b.newEngine("pushes")
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, e.remove()) }()
	if _, err := e.command("load", "--input", l.dir, "--name", "debian:"+tag).measure(); err != nil {
		return t, err
	}
	to := sink + "/debian:" + tag
	c := []*contestant{{name: "`containr push`", turn: func(int) (sample, error) {
		return e.command("push", "--plain-http", "--quiet", "debian:"+tag, to).measure()
	}}}
	if b.found("skopeo") {
		path, err := exec.LookPath("skopeo")
		if err != nil {
			return t, err
		}
		c = append(c, &contestant{name: "`skopeo copy`", turn: func(int) (sample, error) {
			return cmd(path, "--insecure-policy", "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false", "oci:"+l.dir+":"+tag, "docker://"+to).measure()
		}})
	}
	err = race(b.ctx, options{rounds: b.rounds(20), warmUp: 1, before: settle}, c)
	return raceTable("Push", size+", from a store in memory to a registry on the loopback interface that has nothing, and verifies and forgets what it gets.", c), err
}

// serveSink serves a registry on a port of the loopback interface that takes everything,
// verifies it, and keeps nothing.
func serveSink() (host string, stop func() error, err error) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/{$}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /v2/debian/blobs/uploads/", func(w http.ResponseWriter, r *http.Request) {
		s := &session{hash: digest.SHA256.Digester()}
		mux.Handle("/v2/debian/uploads/"+fmt.Sprintf("%p", s), s)
		w.Header().Set("Location", "/v2/debian/uploads/"+fmt.Sprintf("%p", s))
		w.WriteHeader(http.StatusAccepted)
	})
	mux.HandleFunc("PUT /v2/debian/manifests/{reference}", func(w http.ResponseWriter, r *http.Request) {
		d, err := digest.FromReader(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Docker-Content-Digest", d.String())
		w.WriteHeader(http.StatusCreated)
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: mux}
	go server.Serve(listener) // it ends with ErrServerClosed
	return listener.Addr().String(), server.Close, nil
}

// session is one upload to the sink.
type session struct {
	hash digest.Digester
	size int64
}

func (s *session) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(s.hash.Hash(), r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	s.size += n
	w.Header().Set("Location", r.URL.Path)
	w.Header().Set("Range", fmt.Sprintf("0-%d", s.size-1))
	status := http.StatusAccepted
	if r.Method == http.MethodPut {
		status = http.StatusCreated
		if want := r.URL.Query().Get("digest"); want != s.hash.Digest().String() {
			status = http.StatusBadRequest
		}
	}
	w.WriteHeader(status)
}
