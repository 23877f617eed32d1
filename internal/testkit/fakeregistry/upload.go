package fakeregistry

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/containr/containr/internal/testkit/testimage"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// session is an upload that has begun.
type session struct {
	repository string
	data       []byte
}

// serveWrite answers the requests that change what the registry has. It reports whether
// the request was one.
func (r *Registry) serveWrite(w http.ResponseWriter, req *http.Request, fault *Fault) bool {
	path := strings.TrimPrefix(req.URL.Path, "/v2/")
	repository, id, upload := strings.Cut(path, "/blobs/uploads/")
	_, _, manifest := strings.Cut(path, "/manifests/")
	switch {
	case upload && fault != nil && fault.Status != 0, manifest && req.Method == http.MethodPut && fault != nil && fault.Status != 0:
		for key, value := range fault.Header {
			w.Header().Set(key, value)
		}
		writeError(w, fault.Status, "UNKNOWN", http.StatusText(fault.Status))
	case upload && req.Method == http.MethodPost:
		r.begin(w, req, repository)
	case upload:
		r.proceed(w, req, id, fault)
	case manifest && req.Method == http.MethodPut:
		r.takeManifest(w, req, path)
	default:
		return false
	}
	return true
}

// begin starts a session, or mounts a blob.
func (r *Registry) begin(w http.ResponseWriter, req *http.Request, repository string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if from := req.URL.Query().Get("from"); from != "" {
		d := digest.Digest(req.URL.Query().Get("mount"))
		if _, ok := r.blobs[d]; ok && r.options.Mounts {
			w.Header().Set("Location", "/v2/"+repository+"/blobs/"+d.String())
			w.WriteHeader(http.StatusCreated)
			return
		}
	}
	id := strconv.Itoa(len(r.sessions) + 1)
	r.sessions[id] = &session{repository: repository}
	w.Header().Set("Location", "/v2/"+repository+"/blobs/uploads/"+id+"?state=secret")
	w.WriteHeader(http.StatusAccepted)
}

// proceed takes a part of a blob in, tells how much there is, or completes the blob.
func (r *Registry) proceed(w http.ResponseWriter, req *http.Request, id string, fault *Fault) {
	r.mu.Lock()
	s := r.sessions[id]
	r.mu.Unlock()
	if s == nil {
		writeError(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "no such upload")
		return
	}
	if max := r.options.MaxBody; max > 0 && req.ContentLength > max {
		writeError(w, http.StatusRequestEntityTooLarge, "SIZE_INVALID", "too large")
		return
	}
	if part := req.Header.Get("Content-Range"); part != "" && !strings.HasPrefix(part, strconv.Itoa(len(s.data))+"-") {
		writeError(w, http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID", "not in order")
		return
	}
	body := io.Reader(req.Body)
	if fault != nil && fault.BreakAfter > 0 {
		body = io.LimitReader(body, int64(fault.BreakAfter))
	}
	data, _ := io.ReadAll(body) // a part is kept, as real registries do
	r.mu.Lock()
	s.data = append(s.data, data...)
	r.mu.Unlock()
	if fault != nil && fault.BreakAfter > 0 {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Location", req.URL.Path+"?state=secret")
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(len(s.data)-1, 0)))
	switch req.Method {
	case http.MethodPut:
		r.complete(w, req, s)
	case http.MethodGet:
		w.WriteHeader(http.StatusNoContent)
	default:
		w.WriteHeader(http.StatusAccepted)
	}
}

// complete makes a blob of what a session brought, if it has the digest.
func (r *Registry) complete(w http.ResponseWriter, req *http.Request, s *session) {
	d := digest.Digest(req.URL.Query().Get("digest"))
	if got := digest.FromBytes(s.data); got != d {
		writeError(w, http.StatusBadRequest, "DIGEST_INVALID", "it has "+got.String())
		return
	}
	r.PushBlobs(testimage.Blob{Descriptor: v1.Descriptor{Digest: d, Size: int64(len(s.data))}, Data: s.data})
	w.Header().Set("Docker-Content-Digest", d.String())
	w.WriteHeader(http.StatusCreated)
}

// takeManifest stores a manifest under a tag or its digest.
func (r *Registry) takeManifest(w http.ResponseWriter, req *http.Request, path string) {
	data, err := io.ReadAll(req.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	repository, reference, _ := strings.Cut(path, "/manifests/")
	m := testimage.NewBlob(req.Header.Get("Content-Type"), data)
	if strings.Contains(reference, ":") {
		r.mu.Lock()
		r.manifests[repository+"@"+m.Digest.String()] = m
		r.mu.Unlock()
	} else {
		r.PushManifest(repository, reference, m)
	}
	w.Header().Set("Docker-Content-Digest", m.Digest.String())
	w.WriteHeader(http.StatusCreated)
}

// Manifest returns the manifest that a tag or digest means, and whether there is one.
func (r *Registry) Manifest(repository, reference string) (testimage.Blob, bool) {
	return r.lookup("/v2/" + repository + "/manifests/" + reference)
}
