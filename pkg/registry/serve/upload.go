package serve

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/containr/containr/pkg/image"
)

// session is one upload on its way. It belongs to one repository, and one request at a time.
type session struct {
	id, repository string
	lease          *sharedLease
	writer         *image.Writer

	mu   sync.Mutex // held by the request that sends
	used time.Time
}

// sessions are the uploads of a server.
type sessions struct {
	mu   sync.Mutex
	open map[string]*session
}

// begin opens a session.
func (s *Server) begin(ctx context.Context, repository string) (*session, error) {
	lease := s.held.use()
	u := &session{id: rand.Text(), repository: repository, lease: lease, used: time.Now()}
	var err error
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	if len(s.sessions.open) >= s.limits.Uploads {
		err = refuse(http.StatusTooManyRequests, tooManyRequests, "%d uploads are open already", s.limits.Uploads)
	} else {
		u.writer, err = lease.IngestNew(ctx)
	}
	if err != nil {
		s.held.release(lease)
		return nil, err
	}
	s.sessions.open[u.id] = u
	return u, nil
}

// take returns the session of a request, which must put it back.
func (s *Server) take(t target) (*session, error) {
	s.sessions.mu.Lock()
	u := s.sessions.open[t.session]
	s.sessions.mu.Unlock()
	if u == nil || u.repository != t.repo.Path {
		return nil, refuse(http.StatusNotFound, blobUploadUnknown, "there is no such upload, or not any more")
	}
	if !u.mu.TryLock() {
		return nil, refuse(http.StatusConflict, blobUploadInvalid, "another request sends to this upload")
	}
	if u.writer == nil { // it ended while we waited
		u.mu.Unlock()
		return nil, refuse(http.StatusNotFound, blobUploadUnknown, "there is no such upload, or not any more")
	}
	return u, nil
}

// put gives a session back.
func (u *session) put() {
	u.used = time.Now()
	u.mu.Unlock()
}

// end takes a session out of the table. What was written goes unless it was committed. The session is
// locked.
func (s *Server) end(u *session) {
	s.sessions.mu.Lock()
	delete(s.sessions.open, u.id)
	s.sessions.mu.Unlock()
	u.writer.Close()
	u.writer = nil
	s.held.release(u.lease)
}

// abort ends a session whose bytes are not to be a blob.
func (s *Server) abort(u *session) {
	s.held.give(u.writer.Written())
	s.end(u)
}

// expire aborts the sessions that were not used for too long.
func (s *Server) expire(idle time.Duration) {
	s.sessions.mu.Lock()
	var all []*session
	for _, u := range s.sessions.open {
		all = append(all, u)
	}
	s.sessions.mu.Unlock()
	for _, u := range all {
		if !u.mu.TryLock() {
			continue // somebody sends
		}
		if u.writer != nil && time.Since(u.used) >= idle {
			s.abort(u)
		}
		u.mu.Unlock()
	}
}

// postUpload begins an upload, or does all of it: mounts a blob of another repository, or takes one that
// comes with the request.
func (s *Server) postUpload(w http.ResponseWriter, r *http.Request, t target) error {
	query := r.URL.Query()
	if query.Has("mount") {
		mounted, err := s.mount(r.Context(), t, query.Get("mount"), query.Get("from"))
		if err != nil {
			return err
		}
		if mounted != "" {
			return created(w, t, mounted)
		}
	}
	u, err := s.begin(r.Context(), t.repo.Path)
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.put()
	if query.Has("digest") {
		err := s.complete(w, r, t, u)
		if err != nil && u.writer != nil { // nobody was told of the session
			s.abort(u)
		}
		return err
	}
	return progress(w, t, u, http.StatusAccepted)
}

// mount takes a blob over from another repository. It returns nothing if that has not got it: then the
// client sends it.
func (s *Server) mount(ctx context.Context, t target, asked, from string) (digest.Digest, error) {
	d, err := image.ParseDigest(asked)
	if err != nil {
		return "", refuse(http.StatusBadRequest, digestInvalid, "%v", err)
	}
	if from == "" {
		return "", nil
	}
	source := target{digest: d}
	if source.repo, err = s.reference(from); err != nil {
		return "", err
	}
	s.names.Lock()
	defer s.names.Unlock()
	if s.mayRead(source) != nil {
		return "", nil
	}
	lease := s.held.use()
	defer s.held.release(lease)
	err = lease.Hold(ctx, d)
	if errors.Is(err, image.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return d, s.held.add(ctx, lease, t.repo.Path, d, 0) // its bytes are here already
}

// getUpload says how much has arrived.
func (s *Server) getUpload(w http.ResponseWriter, _ *http.Request, t target) error {
	u, err := s.take(t)
	if err != nil {
		return err
	}
	defer u.put()
	return progress(w, t, u, http.StatusNoContent)
}

// patchUpload takes the next piece.
func (s *Server) patchUpload(w http.ResponseWriter, r *http.Request, t target) error {
	u, err := s.take(t)
	if err != nil {
		return err
	}
	defer u.put()
	if err := s.receive(w, r, t, u); err != nil {
		return err
	}
	return progress(w, t, u, http.StatusAccepted)
}

// putUpload takes the last piece, if there is one, and makes a blob of the whole.
func (s *Server) putUpload(w http.ResponseWriter, r *http.Request, t target) error {
	u, err := s.take(t)
	if err != nil {
		return err
	}
	defer u.put()
	return s.complete(w, r, t, u)
}

// deleteUpload gives an upload up.
func (s *Server) deleteUpload(w http.ResponseWriter, _ *http.Request, t target) error {
	u, err := s.take(t)
	if err != nil {
		return err
	}
	defer u.put()
	s.abort(u)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// complete takes what the request brings, and makes a blob of the upload. Wrong content ends the upload; a
// connection that broke does not.
func (s *Server) complete(w http.ResponseWriter, r *http.Request, t target, u *session) error {
	d, err := image.ParseDigest(r.URL.Query().Get("digest"))
	if err != nil {
		return refuse(http.StatusBadRequest, digestInvalid, "%v", err)
	}
	if err := s.receive(w, r, t, u); err != nil {
		return err
	}
	size := u.writer.Written()
	if err := u.writer.CommitAs(r.Context(), d); err != nil {
		s.abort(u)
		return err
	}
	if err := s.held.add(r.Context(), u.lease, t.repo.Path, d, size); err != nil {
		s.abort(u)
		return err
	}
	s.end(u)
	return created(w, t, d)
}

// receive appends what a request brings. A piece that is cut off is kept as far as it came: the client
// asks, and goes on from there.
func (s *Server) receive(w http.ResponseWriter, r *http.Request, t target, u *session) error {
	if err := checkRange(w, r, t, u); err != nil {
		return err
	}
	begun := u.writer.Written()
	if max(r.ContentLength, 0) > s.limits.Blob-begun {
		return refuse(http.StatusRequestEntityTooLarge, sizeInvalid, "a blob may have %d bytes", s.limits.Blob)
	}
	buf := make([]byte, 256<<10)
	body := s.body(w, r)
	for next := int64(0); ; {
		if came := u.writer.Written() - begun; came >= next {
			if err := s.checkSpace(max(r.ContentLength-came, 0)); err != nil {
				return err
			}
			next = came + spaceInterval
		}
		n, err := body.Read(buf)
		if n > 0 {
			if err := s.append(u, buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return refuse(http.StatusBadRequest, blobUploadInvalid, "the request ended before its end")
		}
	}
}

// spaceInterval is how many bytes are taken before it is asked again how much the disk has left.
const spaceInterval = 64 << 20

// checkSpace refuses an upload that would fill the disk.
func (s *Server) checkSpace(coming int64) error {
	free, _, err := s.options.Store.Space()
	if err != nil {
		return err
	}
	if free-coming < s.limits.Free {
		return refuse(http.StatusInsufficientStorage, denied, "the disk of the registry is full")
	}
	return nil
}

// append writes a piece within the limits.
func (s *Server) append(u *session, piece []byte) error {
	if u.writer.Written()+int64(len(piece)) > s.limits.Blob {
		s.abort(u)
		return refuse(http.StatusRequestEntityTooLarge, sizeInvalid, "a blob may have %d bytes", s.limits.Blob)
	}
	if err := s.held.reserve(int64(len(piece))); err != nil {
		return err
	}
	n, err := u.writer.Write(piece)
	s.held.give(int64(len(piece) - n))
	return err
}

// checkRange refuses a piece that does not begin where the upload ends.
func checkRange(w http.ResponseWriter, r *http.Request, t target, u *session) error {
	said := r.Header.Get("Content-Range")
	if said == "" {
		return nil
	}
	first, last, ok := strings.Cut(said, "-")
	from, err1 := strconv.ParseInt(first, 10, 64)
	to, err2 := strconv.ParseInt(last, 10, 64)
	if !ok || err1 != nil || err2 != nil || from < 0 || to < from {
		return refuse(http.StatusBadRequest, blobUploadInvalid, "the header Content-Range is not FIRST-LAST")
	}
	if r.ContentLength >= 0 && r.ContentLength != to-from+1 {
		return refuse(http.StatusBadRequest, sizeInvalid, "Content-Range and Content-Length disagree")
	}
	if from != u.writer.Written() {
		setProgress(w, t, u)
		return refuse(http.StatusRequestedRangeNotSatisfiable, blobUploadInvalid, "the upload has %d bytes", u.writer.Written())
	}
	return nil
}

// setProgress sets the headers that say where an upload goes on.
func setProgress(w http.ResponseWriter, t target, u *session) {
	h := w.Header()
	h.Set("Location", fmt.Sprintf("/v2/%s/blobs/uploads/%s", t.repo.Path, u.id))
	h.Set("Docker-Upload-Uuid", u.id)
	h.Set("Range", fmt.Sprintf("0-%d", max(u.writer.Written()-1, 0)))
}

// progress answers with where an upload goes on.
func progress(w http.ResponseWriter, t target, u *session, status int) error {
	setProgress(w, t, u)
	w.WriteHeader(status)
	return nil
}

// created answers that a blob is here now.
func created(w http.ResponseWriter, t target, d digest.Digest) error {
	h := w.Header()
	h.Set("Location", fmt.Sprintf("/v2/%s/blobs/%s", t.repo.Path, d))
	h.Set("Docker-Content-Digest", d.String())
	w.WriteHeader(http.StatusCreated)
	return nil
}
