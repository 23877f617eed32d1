// Package fakeregistry is a registry for tests, which serves images over the
// distribution protocol and can be told to lie in every way.
//
//	r := fakeregistry.New(t, fakeregistry.Options{})
//	r.PushIndex("library/debian", "12", amd64, arm64)
//	r.Fail(fakeregistry.Fault{Path: "/blobs/", Times: 1, BreakAfter: 1000})
//	... pull r.Host() + "/library/debian:12" ...
//	r.Requests()
//
// # Theory of operation
//
// It is an HTTP server on loopback that keeps blobs and manifests in maps. Every
// request is written down and then compared with the list of faults: the first
// one that fits changes the answer, and with none the registry tells the truth.
package fakeregistry

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/containr/containr/internal/testkit/testimage"
	"github.com/opencontainers/go-digest"
)

// Options says how the registry is reached. The zero value speaks plain HTTP and
// lets anybody in.
type Options struct {
	TLS      bool
	Username string // if set, tokens are given only to this user
	Password string
	Basic    bool  // ask for user name and password directly, without tokens
	Token    bool  // ask for tokens, which anybody gets if Username is empty
	NoRanges bool  // ignore Range headers
	Mounts   bool  // mount blobs of one repository in another
	MaxBody  int64 // refuse larger bodies; zero is no bound

	TokenHost string // what the host of the token service is called; the registry's own address if empty

	// IdentityToken is handed out by the token service to who asks for one that
	// outlives the session, and accepted in the place of a password.
	IdentityToken string
}

// Registry is a running fake registry. It stops at the end of the test.
type Registry struct {
	server  *httptest.Server
	options Options

	mu        sync.Mutex
	blobs     map[digest.Digest]testimage.Blob
	manifests map[string]testimage.Blob // "repository:tag" and "repository@digest"
	faults    []*Fault
	requests  []Request
	sessions  map[string]*session
}

// Request is a request that came in.
type Request struct {
	Method, Path, Range string
	Authorized          bool // it had an Authorization header
}

// Fault is a lie or failure for the requests that it fits. Of several that fit,
// the first one added that is not used up applies.
type Fault struct {
	Path   string // part of the URL path
	Method string // of the request; empty is any
	Times  int    // how often it applies; 0 is always
	Skip   int    // requests that fit to let pass first

	Status     int               // answer with this status and an error document
	Header     map[string]string // with these headers in addition
	Redirect   string            // redirect to this URL, "%s" being replaced by the path
	Body       []byte            // send this body instead, with its length
	Chunked    bool              // send the body without a length
	Endless    bool              // let the body go on for ever
	Truncate   int               // end the body in order after so many bytes
	BreakAfter int               // cut the connection after so many bytes of body
	Stall      bool              // send half of the body, and then nothing
	Flip       int               // change the byte at this offset, counted on from the end to the beginning again
}

// token is what the fake token service gives out.
const token = "fake-token"

// New starts a registry.
func New(t testing.TB, o Options) *Registry {
	t.Helper()
	r := &Registry{options: o, blobs: map[digest.Digest]testimage.Blob{}, manifests: map[string]testimage.Blob{}, sessions: map[string]*session{}}
	r.server = httptest.NewUnstartedServer(http.HandlerFunc(r.serve))
	if o.TLS {
		r.server.StartTLS()
	} else {
		r.server.Start()
	}
	t.Cleanup(func() {
		r.server.CloseClientConnections() // some never end by themselves
		r.server.Close()
	})
	return r
}

// Host returns host:port, the first part of image names.
func (r *Registry) Host() string { return r.server.Listener.Addr().String() }

// URL returns scheme, host and port.
func (r *Registry) URL() string { return r.server.URL }

// Certificates returns the roots to trust, for a registry that speaks TLS.
func (r *Registry) Certificates() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(r.server.Certificate())
	return pool
}

// Push adds an image for one platform under a tag.
func (r *Registry) Push(repository, tag string, image *testimage.Image) {
	r.PushManifest(repository, tag, image.Manifest)
	r.PushBlobs(image.Blobs()...)
}

// PushIndex adds images as an index under a tag, and returns the index.
func (r *Registry) PushIndex(repository, tag string, images ...*testimage.Image) testimage.Blob {
	index := testimage.Index(images...)
	r.PushManifest(repository, tag, index)
	for _, i := range images {
		r.Push(repository, i.Manifest.Digest.Encoded()[:12], i)
	}
	return index
}

// PushManifest adds any manifest under a tag and under its digest.
func (r *Registry) PushManifest(repository, tag string, manifest testimage.Blob) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.manifests[repository+":"+tag] = manifest
	r.manifests[repository+"@"+manifest.Digest.String()] = manifest
}

// PushBlobs adds blobs.
func (r *Registry) PushBlobs(blobs ...testimage.Blob) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range blobs {
		r.blobs[b.Digest] = b
	}
}

// Fail adds a fault.
func (r *Registry) Fail(f Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, &f)
}

// Heal takes all faults away.
func (r *Registry) Heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = nil
}

// Requests returns the requests so far whose path contains part.
func (r *Registry) Requests(part string) []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []Request
	for _, q := range r.requests {
		if strings.Contains(q.Path, part) {
			found = append(found, q)
		}
	}
	return found
}

// serve answers one request.
func (r *Registry) serve(w http.ResponseWriter, req *http.Request) {
	fault := r.note(req)
	if req.URL.Path == "/token" {
		r.serveToken(w, req, fault)
		return
	}
	if !r.authorized(req) {
		r.challenge(w, req)
		return
	}
	if r.serveWrite(w, req, fault) || r.serveList(w, req, fault) {
		return
	}
	content, ok := r.lookup(req.URL.Path)
	if !ok && fault == nil {
		writeError(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
		return
	}
	if fault == nil {
		fault = &Fault{}
	}
	if req.Method == http.MethodHead && fault.Status == 0 {
		w.Header().Set("Content-Length", strconv.Itoa(len(content.Data)))
		setDefault(w.Header(), "Docker-Content-Digest", content.Digest.String())
		w.WriteHeader(http.StatusOK)
		return
	}
	r.answer(w, req, content, fault)
}

// note records a request, and returns the fault for it.
func (r *Registry) note(req *http.Request) *Fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, Request{
		Method: req.Method, Path: req.URL.Path, Range: req.Header.Get("Range"),
		Authorized: req.Header.Get("Authorization") != "",
	})
	for i, f := range r.faults {
		if !strings.Contains(req.URL.Path, f.Path) || f.Method != "" && f.Method != req.Method {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		copied := *f
		if f.Times == 1 {
			r.faults = append(r.faults[:i:i], r.faults[i+1:]...)
		} else if f.Times > 1 {
			f.Times--
		}
		return &copied
	}
	return nil
}

// lookup finds what a path means: /v2/REPOSITORY/{manifests,blobs}/REFERENCE.
func (r *Registry) lookup(path string) (testimage.Blob, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	path = strings.TrimPrefix(path, "/v2/")
	if repository, reference, ok := strings.Cut(path, "/manifests/"); ok {
		separator := ":"
		if strings.Contains(reference, ":") {
			separator = "@"
		}
		m, ok := r.manifests[repository+separator+reference]
		return m, ok
	}
	_, reference, _ := strings.Cut(path, "/blobs/")
	b, ok := r.blobs[digest.Digest(reference)]
	b.MediaType = "application/octet-stream"
	return b, ok
}

// answer sends content, or what the fault makes of it.
func (r *Registry) answer(w http.ResponseWriter, req *http.Request, content testimage.Blob, f *Fault) {
	for key, value := range f.Header {
		w.Header().Set(key, value)
	}
	switch {
	case f.Redirect != "":
		http.Redirect(w, req, strings.ReplaceAll(f.Redirect, "%s", req.URL.Path), http.StatusTemporaryRedirect)
		return
	case f.Status != 0:
		writeError(w, f.Status, "UNKNOWN", http.StatusText(f.Status))
		return
	}
	data := content.Data
	if f.Body != nil {
		data = f.Body
	}
	if f.Flip > 0 && len(data) > 0 {
		data = bytes.Clone(data)
		data[f.Flip%len(data)] ^= 1
	}
	header := w.Header()
	setDefault(header, "Content-Type", content.MediaType)
	setDefault(header, "Docker-Content-Digest", content.Digest.String())
	status := http.StatusOK
	if from, ok := r.rangeStart(req, len(data)); ok {
		header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
		data, status = data[from:], http.StatusPartialContent
	}
	if !f.Chunked && !f.Endless && f.Truncate == 0 {
		setDefault(header, "Content-Length", strconv.Itoa(len(data)))
	}
	w.WriteHeader(status)
	sendBody(w, req, data, f)
}

func setDefault(h http.Header, key, value string) {
	if h.Get(key) == "" && value != "" {
		h.Set(key, value)
	}
}

// rangeStart returns where an open range "bytes=N-" starts.
func (r *Registry) rangeStart(req *http.Request, size int) (int, bool) {
	value, ok := strings.CutPrefix(req.Header.Get("Range"), "bytes=")
	from, err := strconv.Atoi(strings.TrimSuffix(value, "-"))
	return from, ok && err == nil && from < size && !r.options.NoRanges
}

// sendBody sends data in the way of the fault.
func sendBody(w http.ResponseWriter, req *http.Request, data []byte, f *Fault) {
	flush := func(part []byte) {
		w.Write(part)
		w.(http.Flusher).Flush()
	}
	switch {
	case f.Truncate > 0:
		flush(data[:min(f.Truncate, len(data))])
	case f.BreakAfter > 0:
		flush(data[:min(f.BreakAfter, len(data))])
		panic(http.ErrAbortHandler)
	case f.Stall:
		flush(data[:len(data)/2])
		<-req.Context().Done()
	case f.Endless:
		flush(data)
		for req.Context().Err() == nil {
			flush(make([]byte, 4096))
		}
	case f.Chunked:
		flush(data)
	default:
		w.Write(data)
	}
}

// authorized reports whether a request may be answered.
func (r *Registry) authorized(req *http.Request) bool {
	switch {
	case r.options.Basic:
		return r.knows(req)
	case r.options.Token:
		return req.Header.Get("Authorization") == "Bearer "+token
	}
	return true
}

func (r *Registry) knows(req *http.Request) bool {
	user, password, _ := req.BasicAuth()
	return user == r.options.Username && password == r.options.Password
}

// challenge asks who is there, and for a token of the scope that the request needs.
func (r *Registry) challenge(w http.ResponseWriter, req *http.Request) {
	value := `Basic realm="fake"`
	if r.options.Token {
		realm := r.server.URL
		if r.options.TokenHost != "" {
			_, port, _ := strings.Cut(r.Host(), ":")
			realm = "http://" + r.options.TokenHost + ":" + port
		}
		value = fmt.Sprintf(`Bearer realm="%s/token",service="fake"`, realm)
		repository, _, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/v2/"), "/blobs/")
		repository, _, ok := strings.Cut(repository+"/", "/manifests/")
		switch repository = strings.Trim(repository, "/"); {
		case repository == "" && !ok:
		case req.Method == http.MethodGet || req.Method == http.MethodHead:
			value += `,scope="repository:` + repository + `:pull"`
		default:
			value += `,scope="repository:` + repository + `:pull,push"`
		}
	}
	w.Header().Set("WWW-Authenticate", value)
	writeError(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
}

// serveToken is the token service.
func (r *Registry) serveToken(w http.ResponseWriter, req *http.Request, fault *Fault) {
	if fault != nil && fault.Status != 0 {
		writeError(w, fault.Status, "UNKNOWN", http.StatusText(fault.Status))
		return
	}
	if r.options.IdentityToken != "" && req.Method == http.MethodPost {
		r.serveOAuth(w, req)
		return
	}
	if r.options.Username != "" && !r.knows(req) {
		writeError(w, http.StatusUnauthorized, "UNAUTHORIZED", "wrong password")
		return
	}
	answer := map[string]string{"token": token}
	if req.URL.Query().Get("offline_token") == "true" {
		answer["refresh_token"] = r.options.IdentityToken
	}
	json.NewEncoder(w).Encode(answer)
}

// serveOAuth is the token service for who has an identity token, or gets one.
func (r *Registry) serveOAuth(w http.ResponseWriter, req *http.Request) {
	switch req.FormValue("grant_type") {
	case "refresh_token":
		if req.FormValue("refresh_token") != r.options.IdentityToken {
			writeError(w, http.StatusUnauthorized, "UNAUTHORIZED", "wrong identity token")
			return
		}
	case "password":
		if req.FormValue("username") != r.options.Username || req.FormValue("password") != r.options.Password {
			writeError(w, http.StatusUnauthorized, "UNAUTHORIZED", "wrong password")
			return
		}
	}
	json.NewEncoder(w).Encode(map[string]string{"access_token": token, "refresh_token": r.options.IdentityToken})
}

// writeError answers with a status and the error document of the specification.
func writeError(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, code, message)
}
