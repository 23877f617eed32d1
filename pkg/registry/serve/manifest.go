package serve

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containr/containr/pkg/image"
)

// find returns what a tag or digest means in a repository.
func (s *Server) find(t target) (*view, v1.Descriptor, error) {
	v, err := s.views.current()
	if err != nil {
		return nil, v1.Descriptor{}, err
	}
	r := v.repository(t.repo.Path)
	if r == nil {
		return v, v1.Descriptor{}, refuse(http.StatusNotFound, nameUnknown, "there is no such repository")
	}
	d, ok := r.tags[t.tag]
	if t.tag == "" {
		d, ok = r.manifests[t.digest]
	}
	if !ok {
		return v, d, refuse(http.StatusNotFound, manifestUnknown, "the repository has no such manifest")
	}
	return v, d, nil
}

// getManifest sends a manifest or index.
func (s *Server) getManifest(w http.ResponseWriter, r *http.Request, t target) error {
	_, d, err := s.find(t)
	if err != nil {
		return err
	}
	data, err := s.options.Store.ReadBlob(d, image.MaxManifestSize)
	if errors.Is(err, image.ErrNotFound) {
		return refuse(http.StatusNotFound, manifestUnknown, "the manifest is not here any more")
	}
	if err != nil {
		return err
	}
	mediaType, err := image.Identify(data, d.MediaType)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Docker-Content-Digest", d.Digest.String())
	h.Set("Etag", `"`+d.Digest.String()+`"`)
	if match := r.Header.Get("If-None-Match"); match == h.Get("Etag") {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Length", strconv.Itoa(len(data)))
	_, err = w.Write(data)
	return gone(err)
}

// putManifest takes a manifest or index, if all that it lists is here.
func (s *Server) putManifest(w http.ResponseWriter, r *http.Request, t target) error {
	data, err := io.ReadAll(io.LimitReader(s.body(w, r), image.MaxManifestSize+1))
	if err != nil {
		return refuse(http.StatusBadRequest, manifestInvalid, "the request ended before its end")
	}
	if len(data) > image.MaxManifestSize {
		return refuse(http.StatusRequestEntityTooLarge, sizeInvalid, "a manifest may have %d bytes", image.MaxManifestSize)
	}
	contentType, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	d := digest.FromBytes(data)
	if t.tag == "" {
		if d = t.digest.Algorithm().FromBytes(data); d != t.digest {
			return refuse(http.StatusBadRequest, digestInvalid, "the content has digest %s", d)
		}
	}
	f, err := readFact(data, strings.TrimSpace(contentType), d)
	if err != nil {
		return err
	}
	if err := s.takeManifest(r, t, f, v1.Descriptor{MediaType: f.mediaType, Digest: d, Size: int64(len(data))}, data); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Location", fmt.Sprintf("/v2/%s/manifests/%s", t.repo.Path, d))
	h.Set("Docker-Content-Digest", d.String())
	if f.subject != "" {
		h.Set("Oci-Subject", f.subject.String())
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

// takeManifest stores a manifest and gives it its name.
func (s *Server) takeManifest(r *http.Request, t target, f *fact, d v1.Descriptor, data []byte) error {
	ctx := r.Context()
	lease, err := s.options.Store.Lease(ctx)
	if err != nil {
		return err
	}
	defer lease.Close()
	s.names.Lock()
	defer s.names.Unlock()
	if err := s.holdAll(r, t, lease, f); err != nil {
		return err
	}
	if err := lease.Put(ctx, d, data); err != nil {
		return err
	}
	named := t.named()
	if named.Tag == "" {
		named.Digest = d.Digest
	}
	v, err := s.views.current()
	if err != nil {
		return err
	}
	// What an index of the repository lists already has no name of its own.
	if repo := v.repository(t.repo.Path); named.Tag != "" || repo == nil || !repo.lists(v, d.Digest) {
		if err := s.options.Store.Publish(ctx, named, d, digestsOf(f.children)...); err != nil {
			return err
		}
		if s.options.Named != nil && named.Tag != "" {
			s.options.Named(named)
		}
	}
	s.held.drop(t.repo.Path, digestsOf(f.blobs)...)
	return nil
}

func digestsOf(all []v1.Descriptor) []digest.Digest {
	var digests []digest.Digest
	for _, d := range all {
		digests = append(digests, d.Digest)
	}
	return digests
}

// holdAll protects what a manifest lists, all of which the repository must have. What lies elsewhere, as
// its URLs say, need not be here.
func (s *Server) holdAll(r *http.Request, t target, lease *image.Lease, f *fact) error {
	v, err := s.views.current()
	if err != nil {
		return err
	}
	repo := v.repository(t.repo.Path)
	if repo == nil {
		repo = &repository{}
	}
	for _, b := range f.blobs {
		if err := s.hold(r, lease, b, s.held.has(t.repo.Path, b.Digest) || repo.blobs[b.Digest]); err != nil {
			return err
		}
	}
	for _, m := range f.children {
		if err := s.hold(r, lease, m, repo.manifests[m.Digest].Digest != ""); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) hold(r *http.Request, lease *image.Lease, d v1.Descriptor, ours bool) error {
	err := image.ErrNotFound
	if ours {
		err = lease.Hold(r.Context(), d.Digest)
	}
	if !errors.Is(err, image.ErrNotFound) {
		return err
	}
	if len(d.URLs) > 0 {
		return nil
	}
	return refuse(http.StatusBadRequest, manifestBlobUnknown, "the repository has no %s, which the manifest lists", d.Digest)
}

// deleteManifest takes a tag away, or a manifest with all its tags.
func (s *Server) deleteManifest(w http.ResponseWriter, r *http.Request, t target) error {
	s.names.Lock()
	defer s.names.Unlock()
	v, _, err := s.find(t)
	if err != nil {
		return err
	}
	err = s.options.Store.Withdraw(r.Context(), t.named())
	if errors.Is(err, image.ErrNotFound) && v.repository(t.repo.Path).lists(v, t.digest) {
		return refuse(http.StatusMethodNotAllowed, unsupported, "an index lists this manifest: it goes with the index")
	}
	if errors.Is(err, image.ErrNotFound) {
		return refuse(http.StatusNotFound, manifestUnknown, "the repository has no such manifest")
	}
	if err != nil {
		return err
	}
	s.mayHaveGarbage()
	w.WriteHeader(http.StatusAccepted)
	return nil
}
