package serve

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// response remembers the status of an answer, and ends it when the client takes nothing for too long.
type response struct {
	http.ResponseWriter
	control *http.ResponseController
	stall   time.Duration
	status  int
}

// WriteHeader remembers the status.
func (r *response) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (r *response) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// extend gives the client time to take the next piece. Where a connection has no deadlines (HTTP/2 in
// part) that of the whole server must do.
func (r *response) extend() {
	_ = r.control.SetWriteDeadline(time.Now().Add(r.stall))
}

// Write sends a small piece.
func (r *response) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	r.extend()
	return r.ResponseWriter.Write(p)
}

// pieceSize is how much a client must take within the time for it, in bytes.
const pieceSize = 8 << 20

// ReadFrom sends a file in pieces, each of which net/http hands to sendfile(2).
func (r *response) ReadFrom(from io.Reader) (int64, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	var sent int64
	for {
		r.extend()
		n, err := io.CopyN(r.ResponseWriter, from, pieceSize)
		sent += n
		if errors.Is(err, io.EOF) {
			return sent, nil
		}
		if err != nil {
			return sent, err
		}
	}
}

// patientReader reads the body of a request, and gives up when nothing comes for too long.
type patientReader struct {
	body    io.Reader
	control *http.ResponseController
	stall   time.Duration
}

// Read reads what has come.
func (p *patientReader) Read(b []byte) (int, error) {
	_ = p.control.SetReadDeadline(time.Now().Add(p.stall)) // see extend
	return p.body.Read(b)
}

// body is the body of a request that a client must keep sending.
func (s *Server) body(w http.ResponseWriter, r *http.Request) io.Reader {
	return &patientReader{r.Body, http.NewResponseController(w), s.limits.Stall}
}
