package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/containr/containr/pkg/image"
)

// Sizes of what is sent, in bytes.
const (
	// wholeSize: a blob up to it goes with one request, which cannot be resumed.
	wholeSize = 1 << 20
	// fallbackChunk is the first size of pieces if a registry finds a blob too large.
	fallbackChunk = 32 << 20
	// smallestChunk ends the attempts to please it.
	smallestChunk = 1 << 20
)

// exists asks whether a blob or manifest is there.
func (c *client) exists(ctx context.Context, what, path string, header http.Header) (found bool, err error) {
	err = c.try(ctx, what, func(ctx context.Context) (int64, error) {
		ctx, watch := c.watch(ctx)
		defer watch.stop()
		resp, err := c.send(ctx, http.MethodHead, c.url(path), header, nil, http.StatusOK, http.StatusNotFound)
		if err != nil {
			return 0, err
		}
		resp.Body.Close()
		found = resp.StatusCode == http.StatusOK
		return 0, nil
	})
	return found, err
}

// putManifest sends a manifest or index, under a tag or its digest. If it refers to another one, and the registry does not
// say that it knows what that means, the list of what refers to that one is kept for it.
func (c *client) putManifest(ctx context.Context, selector string, n *node) error {
	what := "manifest " + c.repository + separator(selector) + selector
	known := false
	err := c.try(ctx, what, func(ctx context.Context) (int64, error) {
		ctx, watch := c.watch(ctx)
		defer watch.stop()
		body := &payload{size: int64(len(n.data)), open: func() (io.ReadCloser, error) {
			return io.NopCloser(watch.reader(bytes.NewReader(n.data))), nil
		}}
		header := http.Header{"Content-Type": {n.MediaType}}
		resp, err := c.send(ctx, http.MethodPut, c.url("manifests/"+selector), header, body, http.StatusCreated, http.StatusOK, http.StatusAccepted)
		if err != nil {
			return 0, refused(err)
		}
		defer resp.Body.Close()
		if got := resp.Header.Get("Docker-Content-Digest"); got != "" && got != n.Digest.String() {
			return 0, &Error{Fault: ErrDigest, Detail: fmt.Sprintf("sent %s, the registry has %s", n.Digest, printable(got))}
		}
		known = resp.Header.Get("Oci-Subject") != ""
		return 0, nil
	})
	if err != nil || n.subject == "" || known {
		return err
	}
	return c.addReferrer(ctx, n.subject, n)
}

// refused makes a client error that is neither about who we are nor about patience one
// about what was sent.
func refused(err error) error {
	if e, ok := err.(*Error); ok && e.Fault == ErrFailed && e.status >= 400 && e.status < 500 {
		e.Fault = ErrUpload
	}
	return err
}

// upload sends one blob. It is a session with the registry: begun by a POST, which tells
// where to send the bytes; each answer tells the next place.
type upload struct {
	client   *client
	store    *image.Store
	blob     v1.Descriptor
	chunk    int64 // the most to send with one request; zero is no bound
	report   func(done int64)
	location *url.URL // nil: not begun
	least    int64    // the least that the registry takes with one request but the last
	offset   int64    // what it has
	broken   bool     // how much it has must be asked
}

// what is the upload's name in errors.
func (u *upload) what() string { return "blob " + u.blob.Digest.String() }

// run sends the blob, and goes on after failures where the registry's copy ends.
func (u *upload) run(ctx context.Context) error {
	return u.client.try(ctx, u.what(), func(ctx context.Context) (int64, error) {
		before := u.offset
		err := u.attempt(ctx)
		u.broken = err != nil
		return u.offset - before, err
	})
}

// attempt sends what is left.
func (u *upload) attempt(ctx context.Context) error {
	if u.broken && u.location != nil {
		if err := u.ask(ctx); err != nil {
			return err
		}
	}
	if u.location == nil {
		if err := u.begin(ctx, ""); err != nil {
			return err
		}
	}
	if u.chunk == 0 && u.offset == 0 && u.blob.Size <= wholeSize {
		return u.finish(ctx, u.blob.Size)
	}
	for u.offset < u.blob.Size {
		if err := u.patch(ctx); err != nil {
			return err
		}
	}
	return u.finish(ctx, 0)
}

// mount asks the registry to take a blob from another of its repositories. It reports
// whether it did; if not it may have begun an upload.
func (u *upload) mount(ctx context.Context, from string) (mounted bool, err error) {
	ctx = auth.AppendScopesForHost(ctx, u.client.registry, auth.ScopeRepository(from, "pull"))
	query := url.Values{"mount": {u.blob.Digest.String()}, "from": {from}}
	err = u.client.try(ctx, u.what(), func(ctx context.Context) (int64, error) {
		err := u.begin(ctx, "?"+query.Encode())
		mounted = err == nil && u.location == nil
		return 0, err
	})
	return mounted, err
}

// begin starts the session. If the blob was mounted there is none.
func (u *upload) begin(ctx context.Context, query string) error {
	ctx, watch := u.client.watch(ctx)
	defer watch.stop()
	empty := &payload{open: func() (io.ReadCloser, error) { return http.NoBody, nil }}
	resp, err := u.client.send(ctx, http.MethodPost, u.client.url("blobs/uploads/"+query), nil, empty, http.StatusAccepted, http.StatusCreated)
	if err != nil {
		return refused(err)
	}
	defer resp.Body.Close()
	u.offset = 0
	if resp.StatusCode == http.StatusCreated && query != "" {
		return nil
	}
	u.least, _ = strconv.ParseInt(resp.Header.Get("Oci-Chunk-Min-Length"), 10, 64) // absent: 0
	return u.next(resp)
}

// next notes where the next request goes.
func (u *upload) next(resp *http.Response) error {
	location, err := resp.Location()
	if err != nil {
		return &Error{Fault: ErrFailed, Detail: "the answer to an upload names no place to send it to"}
	}
	if resp.Request.URL.Scheme == "https" && location.Scheme != "https" {
		return &Error{Fault: ErrRedirect, Detail: "from https to " + printable(location.Scheme)}
	}
	u.location = location
	return nil
}

// ask asks how much the registry has. A session that it does not know any more is begun
// anew.
func (u *upload) ask(ctx context.Context) error {
	ctx, watch := u.client.watch(ctx)
	defer watch.stop()
	resp, err := u.client.send(ctx, http.MethodGet, u.location, nil, nil, http.StatusNoContent, http.StatusOK, http.StatusAccepted,
		http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusBadRequest, http.StatusGone)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		u.location, u.offset = nil, 0
		return nil
	}
	has, ok := received(resp.Header)
	if !ok || has > u.blob.Size {
		u.location, u.offset = nil, 0
		return nil
	}
	u.offset = has
	if resp.Header.Get("Location") != "" {
		return u.next(resp)
	}
	return nil
}

// received returns how many bytes the registry says it has: "0-99" is 100. Registries
// say of nothing "0-0", as of one byte; then nothing is the safe reading.
func received(h http.Header) (int64, bool) {
	_, last, ok := strings.Cut(strings.TrimPrefix(h.Get("Range"), "bytes="), "-")
	n, err := strconv.ParseInt(last, 10, 64)
	if !ok || err != nil || n < 0 {
		return 0, false
	}
	if n == 0 {
		return 0, true
	}
	return n + 1, true
}

// patch sends the next piece.
func (u *upload) patch(ctx context.Context) error {
	size := u.blob.Size - u.offset
	if u.chunk > 0 {
		size = min(size, max(u.chunk, u.least))
	}
	header := http.Header{"Content-Type": {"application/octet-stream"}}
	if size < u.blob.Size {
		header.Set("Content-Range", fmt.Sprintf("%d-%d", u.offset, u.offset+size-1))
	}
	resp, err := u.sendPart(ctx, http.MethodPatch, u.location, header, size)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	sent := u.offset + size
	if has, ok := received(resp.Header); ok && has <= sent && has > u.offset {
		sent = has
	}
	u.offset = sent
	return u.next(resp)
}

// finish sends the last size bytes, and says which digest the whole must have.
func (u *upload) finish(ctx context.Context, size int64) error {
	location := *u.location
	query := location.Query()
	query.Set("digest", u.blob.Digest.String())
	location.RawQuery = query.Encode()
	header := http.Header{"Content-Type": {"application/octet-stream"}}
	resp, err := u.sendPart(ctx, http.MethodPut, &location, header, size)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Docker-Content-Digest"); got != "" && got != u.blob.Digest.String() {
		return &Error{Fault: ErrDigest, Detail: fmt.Sprintf("sent %s, the registry has %s", u.blob.Digest, printable(got))}
	}
	return nil
}

// sendPart sends bytes of the blob from the offset on. What a registry finds too large it
// gets in pieces, from the next attempt on.
func (u *upload) sendPart(ctx context.Context, method string, to *url.URL, header http.Header, size int64) (*http.Response, error) {
	ctx, watch := u.client.watch(ctx)
	defer watch.stop()
	body := &payload{size: size, open: func() (io.ReadCloser, error) { return u.section(watch, size) }}
	resp, err := u.client.send(ctx, method, to, header, body, http.StatusCreated, http.StatusAccepted, http.StatusNoContent)
	if err == nil {
		return resp, nil
	}
	e, ok := err.(*Error)
	switch {
	case !ok:
	case e.status == http.StatusRequestEntityTooLarge && size > smallestChunk && size > u.least:
		u.chunk = max(min(size/2, fallbackChunk), smallestChunk)
		e.retry = true
	case e.status == http.StatusRequestedRangeNotSatisfiable, e.status == http.StatusNotFound:
		e.retry = true // it has another part than we think, or has forgotten the session
	}
	return nil, refused(err)
}

// section opens a part of the blob to be sent, each read of which keeps the watchdog
// quiet and is reported.
func (u *upload) section(watch *watchdog, size int64) (io.ReadCloser, error) {
	if size == 0 {
		return http.NoBody, nil
	}
	f, err := u.store.OpenBlob(u.blob)
	if err != nil {
		return nil, err
	}
	done := u.offset
	in := watch.reader(io.NewSectionReader(f, u.offset, size))
	return struct {
		io.Reader
		io.Closer
	}{readerFunc(func(p []byte) (int, error) {
		n, err := in.Read(p)
		done += int64(n)
		u.report(done)
		return n, err
	}), f}, nil
}
