package serve

import (
	"net/http"
	"time"
)

// getBlob sends a blob, or a range of it.
func (s *Server) getBlob(w http.ResponseWriter, r *http.Request, t target) error {
	if err := s.mayRead(t); err != nil {
		return err
	}
	f, _, err := s.options.Store.OpenDigest(t.digest)
	if err != nil {
		return err
	}
	defer f.Close()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Docker-Content-Digest", t.digest.String())
	h.Set("Etag", `"`+t.digest.String()+`"`)
	h.Set("Cache-Control", "max-age=31536000, immutable")
	http.ServeContent(w, r, "", time.Time{}, f)
	return nil
}

// mayRead refuses a blob that the repository has not got, though the store may have it.
func (s *Server) mayRead(t target) error {
	if s.held.has(t.repo.Path, t.digest) {
		return nil
	}
	v, err := s.views.current()
	if err != nil {
		return err
	}
	if r := v.repository(t.repo.Path); r != nil && r.blobs[t.digest] {
		return nil
	}
	return refuse(http.StatusNotFound, blobUnknown, "the repository has no such blob")
}

// deleteBlob forgets a blob that no manifest lists. One that a manifest lists goes with that.
func (s *Server) deleteBlob(w http.ResponseWriter, _ *http.Request, t target) error {
	s.names.Lock()
	defer s.names.Unlock()
	if err := s.mayRead(t); err != nil {
		return err
	}
	v, err := s.views.current()
	if err != nil {
		return err
	}
	if r := v.repository(t.repo.Path); r != nil && r.blobs[t.digest] {
		return refuse(http.StatusMethodNotAllowed, unsupported, "a manifest lists this blob: it goes with the manifest")
	}
	s.held.drop(t.repo.Path, t.digest)
	s.mayHaveGarbage()
	w.WriteHeader(http.StatusAccepted)
	return nil
}
