package serve

import (
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/containr/containr/pkg/image"
)

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	answer := &response{ResponseWriter: w, control: http.NewResponseController(w), stall: s.limits.Stall}
	user, err := s.options.Users.check(r)
	if err != nil {
		w.Header().Set("WWW-Authenticate", `Basic realm="containr"`)
		answerError(answer, r.Method == http.MethodHead, err)
	} else {
		s.handler.ServeHTTP(answer, r)
	}
	if s.options.Log != nil {
		s.options.Log(Request{From: r.RemoteAddr, User: user, Method: r.Method, Path: r.URL.Path, Status: answer.status, Took: time.Since(began)})
	}
}

// route takes the path apart and calls the handler.
func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	t, err := s.parse(r.URL.Path)
	if err == nil && s.options.ReadOnly && t.writes(r.Method) {
		err = refuse(http.StatusMethodNotAllowed, unsupported, "this registry is read-only")
	}
	if err == nil {
		err = t.serve(s, w, r)
	}
	if err == nil {
		return
	}
	if refusalOf(err).status == http.StatusInternalServerError {
		slog.Error("registry", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	answerError(w, r.Method == http.MethodHead, err)
}

// target is what a path means: a resource of a repository, and which one.
type target struct {
	resource resource
	repo     image.Reference // without tag and digest
	tag      string          // of a manifest
	digest   digest.Digest   // of a manifest, a blob, or the subject of referrers
	session  string          // of an upload
}

// resource is a kind of things that a registry has.
type resource int

const (
	root resource = iota
	catalog
	blobs
	uploads // where sessions begin
	upload
	manifests
	tags
	referrers
)

// parse takes a path apart: /v2/NAME/KIND/WHICH, where NAME may have slashes.
func (s *Server) parse(path string) (target, error) {
	none := refuse(http.StatusNotFound, nameUnknown, "there is nothing at this path")
	rest, ok := strings.CutPrefix(path, "/v2/")
	switch {
	case path == "/v2" || ok && rest == "":
		return target{resource: root}, nil
	case rest == "_catalog":
		return target{resource: catalog}, nil
	case !ok:
		return target{}, none
	}
	if name, ok := strings.CutSuffix(rest, "/blobs/uploads/"); ok {
		return s.in(name, target{resource: uploads})
	}
	if name, ok := strings.CutSuffix(rest, "/blobs/uploads"); ok {
		return s.in(name, target{resource: uploads})
	}
	if name, ok := strings.CutSuffix(rest, "/tags/list"); ok {
		return s.in(name, target{resource: tags})
	}
	rest, last, ok := cutLast(rest)
	if !ok {
		return target{}, none
	}
	if name, ok := strings.CutSuffix(rest, "/blobs/uploads"); ok {
		return s.in(name, target{resource: upload, session: last})
	}
	name, kind, ok := cutLast(rest)
	if !ok {
		return target{}, none
	}
	t := target{}
	switch kind {
	case "manifests":
		t.resource = manifests
		if !strings.Contains(last, ":") {
			t.tag = last
			if !image.IsTag(last) {
				return t, refuse(http.StatusBadRequest, manifestInvalid, "it is neither a tag nor a digest")
			}
			return s.in(name, t)
		}
	case "blobs":
		t.resource = blobs
	case "referrers":
		t.resource = referrers
	default:
		return target{}, none
	}
	d, err := image.ParseDigest(last)
	if err != nil {
		return t, refuse(http.StatusBadRequest, digestInvalid, "%v", err)
	}
	t.digest = d
	return s.in(name, t)
}

// cutLast cuts a path before its last element.
func cutLast(path string) (before, last string, ok bool) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path, false
	}
	return path[:i], path[i+1:], true
}

// in completes a target with its repository, whose name must be one.
func (s *Server) in(name string, t target) (target, error) {
	ref, err := s.reference(name)
	t.repo = ref
	return t, err
}

// reference parses the name of a repository.
func (s *Server) reference(name string) (image.Reference, error) {
	if strings.ContainsAny(name, ":@") {
		return image.Reference{}, refuse(http.StatusBadRequest, nameInvalid, "it is not the name of a repository")
	}
	ref, err := image.ParseReference(s.options.Domain + "/" + name)
	if err != nil || ref.Path != name {
		return image.Reference{}, refuse(http.StatusBadRequest, nameInvalid, "it is not the name of a repository")
	}
	ref.Tag = ""
	return ref, nil
}

// named is the full reference of a manifest.
func (t target) named() image.Reference {
	ref := t.repo
	ref.Tag, ref.Digest = t.tag, t.digest
	return ref
}

// writes reports whether a method changes something.
func (t target) writes(method string) bool {
	return method != http.MethodGet && method != http.MethodHead
}

// serve calls the handler of a resource and a method.
func (t target) serve(s *Server, w http.ResponseWriter, r *http.Request) error {
	type handler = func(*Server, http.ResponseWriter, *http.Request, target) error
	handlers := map[resource]map[string]handler{
		root:      {http.MethodGet: (*Server).getRoot},
		catalog:   {http.MethodGet: (*Server).getCatalog},
		tags:      {http.MethodGet: (*Server).getTags},
		referrers: {http.MethodGet: (*Server).getReferrers},
		blobs:     {http.MethodGet: (*Server).getBlob, http.MethodDelete: (*Server).deleteBlob},
		manifests: {http.MethodGet: (*Server).getManifest, http.MethodPut: (*Server).putManifest, http.MethodDelete: (*Server).deleteManifest},
		uploads:   {http.MethodPost: (*Server).postUpload},
		upload: {http.MethodGet: (*Server).getUpload, http.MethodPatch: (*Server).patchUpload,
			http.MethodPut: (*Server).putUpload, http.MethodDelete: (*Server).deleteUpload},
	}
	method := r.Method
	if method == http.MethodHead { // net/http leaves the body of the answer out
		method = http.MethodGet
	}
	h := handlers[t.resource][method]
	if h == nil {
		return refuse(http.StatusMethodNotAllowed, unsupported, "there is no %s here", r.Method)
	}
	return h(s, w, r, t)
}

// getRoot says that this is a registry.
func (s *Server) getRoot(w http.ResponseWriter, _ *http.Request, _ target) error {
	w.Header().Set("Content-Type", "application/json")
	_, err := w.Write([]byte("{}\n"))
	return gone(err)
}

// gone is what becomes of an error of writing an answer: the client is not there any more, and there
// is nobody to tell.
func gone(error) error { return nil }
