package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/containr/containr/pkg/image"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// request asks for a document of the repository and checks that the answer is one of the
// statuses that the caller can use.
func (c *client) request(ctx context.Context, path string, header http.Header, usable ...int) (*http.Response, error) {
	return c.send(ctx, http.MethodGet, c.url(path), header, nil, usable...)
}

// send sends a request, and checks that the answer has a status that the caller can use.
func (c *client) send(ctx context.Context, method string, u *url.URL, header http.Header, body *payload, usable ...int) (*http.Response, error) {
	resp, err := c.do(ctx, method, u, header, body)
	if err != nil {
		return nil, transportError(err)
	}
	for _, status := range usable {
		if resp.StatusCode == status {
			return resp, nil
		}
	}
	defer resp.Body.Close()
	e := statusError(resp)
	e.retry, e.after = retryStatus(resp.StatusCode), retryAfter(resp.Header, time.Now())
	return nil, e
}

// document is a manifest, index or configuration as it was fetched.
type document struct {
	v1.Descriptor
	data []byte
}

// fetchManifest fetches a manifest or index by tag or digest, and verifies it
// against the parts of want that are known.
func (c *client) fetchManifest(ctx context.Context, selector string, want v1.Descriptor) (document, error) {
	var got document
	what := "manifest " + c.repository + separator(selector) + selector
	header := http.Header{"Accept": image.ManifestTypes()}
	err := c.try(ctx, what, func(ctx context.Context) (int64, error) {
		ctx, watch := c.watch(ctx)
		defer watch.stop()
		resp, err := c.request(ctx, "manifests/"+selector, header, http.StatusOK)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		data, err := readDocument(watch.reader(resp.Body), image.MaxManifestSize)
		if err != nil {
			return 0, err
		}
		mediaType, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
		want := want
		if dgst := resp.Header.Get("Docker-Content-Digest"); want.Digest == "" && dgst != "" {
			if want.Digest, err = image.ParseDigest(dgst); err != nil {
				return 0, &Error{Fault: ErrDigest, Detail: "in the header Docker-Content-Digest", Err: err}
			}
		}
		got, err = verify(data, want)
		got.MediaType = mediaType
		return 0, err
	})
	return got, err
}

// headManifest asks for the digest of a manifest or index without fetching it; empty if the registry does not say.
func (c *client) headManifest(ctx context.Context, selector string) (got digest.Digest, err error) {
	header := http.Header{"Accept": image.ManifestTypes()}
	err = c.try(ctx, "manifest "+c.repository+separator(selector)+selector, func(ctx context.Context) (int64, error) {
		resp, err := c.send(ctx, http.MethodHead, c.url("manifests/"+selector), header, nil, http.StatusOK)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		if said := resp.Header.Get("Docker-Content-Digest"); said != "" {
			if got, err = image.ParseDigest(said); err != nil {
				return 0, &Error{Fault: ErrDigest, Detail: "in the header Docker-Content-Digest", Err: err}
			}
		}
		return 0, nil
	})
	return got, err
}

// separator returns what stands between a repository and a tag or digest.
func separator(selector string) string {
	if strings.Contains(selector, ":") {
		return "@"
	}
	return ":"
}

// fetchDocument fetches a small blob as a whole.
func (c *client) fetchDocument(ctx context.Context, want v1.Descriptor) (document, error) {
	var got document
	err := c.try(ctx, "blob "+want.Digest.String(), func(ctx context.Context) (int64, error) {
		ctx, watch := c.watch(ctx)
		defer watch.stop()
		resp, err := c.request(ctx, "blobs/"+want.Digest.String(), nil, http.StatusOK)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		if err := checkLength(resp, want.Size); err != nil {
			return 0, err
		}
		data, err := readDocument(watch.reader(resp.Body), want.Size)
		if err != nil {
			return 0, err
		}
		got, err = verify(data, want)
		got.MediaType = want.MediaType
		return 0, err
	})
	return got, err
}

// readDocument reads a body that must not be longer than limit bytes.
func readDocument(body io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, broken(err)
	}
	if int64(len(data)) > limit {
		return nil, &Error{Fault: ErrTooLong, Detail: fmt.Sprintf("want at most %d bytes, got more", limit)}
	}
	return data, nil
}

// broken describes a body that did not come to its end.
func broken(err error) *Error {
	return &Error{Fault: ErrUnreachable, Detail: "the connection broke", Err: err, retry: true}
}

// verify checks a document against what is known of it before. A size is known
// only together with a digest.
func verify(data []byte, want v1.Descriptor) (document, error) {
	if want.Digest == "" {
		want.Digest = digest.FromBytes(data)
	}
	size := int64(len(data))
	switch got := want.Digest.Algorithm().FromBytes(data); {
	case want.Size != 0 && size > want.Size:
		return document{}, &Error{Fault: ErrTooLong, Detail: fmt.Sprintf("want %d bytes, got %d", want.Size, size)}
	case size < want.Size:
		return document{}, truncated(want.Size, size)
	case got != want.Digest:
		return document{}, &Error{Fault: ErrDigest, Detail: fmt.Sprintf("want %s, got %s", want.Digest, got)}
	}
	return document{Descriptor: v1.Descriptor{Digest: want.Digest, Size: size}, data: data}, nil
}

func truncated(want, got int64) *Error {
	return &Error{Fault: ErrTruncated, Detail: fmt.Sprintf("want %d bytes, got %d", want, got), retry: true}
}

// checkLength refuses a body whose announced length is not the promised one,
// before any of it is read.
func checkLength(resp *http.Response, want int64) error {
	if resp.ContentLength >= 0 && resp.ContentLength != want {
		return &Error{Fault: ErrLength, Detail: fmt.Sprintf("want %d bytes, Content-Length is %d", want, resp.ContentLength)}
	}
	return nil
}

// fetchBlob fetches a blob into w. After a failure it goes on where w ends.
func (c *client) fetchBlob(ctx context.Context, d v1.Descriptor, w *image.Writer, report func(done int64)) error {
	return c.try(ctx, "blob "+d.Digest.String(), func(ctx context.Context) (int64, error) {
		before := w.Written()
		err := c.fetchRest(ctx, d, w, report)
		return w.Written() - before, err
	})
}

// fetchRest makes one request for what w lacks.
func (c *client) fetchRest(ctx context.Context, d v1.Descriptor, w *image.Writer, report func(done int64)) error {
	offset := w.Written()
	if offset == d.Size {
		return nil
	}
	ctx, watch := c.watch(ctx)
	defer watch.stop()
	resp, err := c.requestFrom(ctx, d, offset)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body := watch.reader(resp.Body)
	if resp.StatusCode == http.StatusOK && offset > 0 {
		// The server knows no ranges. What w has must not change under its
		// followers; if this is not the same content, the digest will tell.
		if _, err := io.CopyN(io.Discard, body, offset); err != nil {
			return broken(err)
		}
	}
	return copyBody(d, w, body, report)
}

// requestFrom asks for the content of a blob from offset on.
func (c *client) requestFrom(ctx context.Context, d v1.Descriptor, offset int64) (*http.Response, error) {
	header := http.Header{}
	if offset > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	usable := []int{http.StatusOK, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable}
	resp, err := c.request(ctx, "blobs/"+d.Digest.String(), header, usable...)
	if err != nil {
		return nil, err
	}
	if err := checkPart(resp, d.Size, offset); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// checkPart checks that an answer holds the part of a blob that was asked for.
func checkPart(resp *http.Response, size, offset int64) error {
	switch resp.StatusCode {
	case http.StatusOK:
		return checkLength(resp, size)
	case http.StatusRequestedRangeNotSatisfiable: // it says that there is no more
		return truncated(size, offset)
	}
	content := resp.Header.Get("Content-Range")
	if !strings.HasPrefix(content, fmt.Sprintf("bytes %d-", offset)) {
		return &Error{Fault: ErrFailed, Detail: fmt.Sprintf("asked for bytes from %d on, got Content-Range %q", offset, printable(content))}
	}
	return checkLength(resp, size-offset)
}

// copyBody copies until the body ends, w is full, or one of them fails.
func copyBody(d v1.Descriptor, w *image.Writer, body io.Reader, report func(done int64)) error {
	buf := make([]byte, 128<<10)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return writeError(err)
			}
			report(w.Written())
		}
		switch {
		case err == io.EOF && w.Written() < d.Size:
			return truncated(d.Size, w.Written())
		case err == io.EOF:
			return nil
		case err != nil:
			return broken(err)
		}
	}
}

// writeError tells a registry that sends too much from a disk that is full.
func writeError(err error) error {
	var wrong *image.VerifyError
	if errors.As(err, &wrong) {
		return &Error{Fault: ErrTooLong, Detail: fmt.Sprintf("want %d bytes, got more", wrong.WantSize)}
	}
	return err
}

// watchdog ends a request whose body makes no progress.
type watchdog struct {
	timer  *time.Timer
	ctx    context.Context
	stall  time.Duration
	cancel context.CancelCauseFunc
}

// errStalled is the cause when the watchdog ends a request.
var errStalled = errors.New("no data for too long")

// watch returns a context for one request, and the watchdog that may end it.
func (c *client) watch(ctx context.Context) (context.Context, *watchdog) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watchdog{ctx: ctx, stall: c.retry.Stall, cancel: cancel}
	// Until the first byte the transport's own time limits apply as well.
	w.timer = time.AfterFunc(w.stall+headerTimeout, func() { cancel(errStalled) })
	return ctx, w
}

func (w *watchdog) stop() {
	w.timer.Stop()
	w.cancel(nil)
}

// reader returns body, each read of which keeps the watchdog quiet for a while.
func (w *watchdog) reader(body io.Reader) io.Reader {
	w.timer.Reset(w.stall)
	body = attended(w.ctx, body)
	return readerFunc(func(p []byte) (int, error) {
		n, err := body.Read(p)
		w.timer.Reset(w.stall)
		return n, err
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
