package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/containr/containr/internal/safepath"
	"github.com/containr/containr/pkg/image"
)

// ErrDockerDaemon says that docker's daemon could not be asked, or that it refused.
var ErrDockerDaemon = errors.New("docker's daemon does not do it")

// dockerHostVariable names the daemon, as for docker's own command.
const dockerHostVariable = "DOCKER_HOST"

// dockerDaemon speaks to docker's daemon through its socket.
type dockerDaemon struct{ http.Client }

// openDockerDaemon finds the socket of the daemon. Nothing is asked yet.
func openDockerDaemon() (*dockerDaemon, error) {
	socket := "/var/run/docker.sock"
	if host := os.Getenv(dockerHostVariable); host != "" {
		path, ok := strings.CutPrefix(host, "unix://")
		if !ok || !filepath.IsAbs(path) {
			return nil, fmt.Errorf("%s is %s: only a socket of this machine can be used, unix:///PATH: %w", dockerHostVariable, host, ErrDockerDaemon)
		}
		socket = path
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return &dockerDaemon{http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}, nil
}

// maxDaemonAnswer bounds what the daemon says beside images, in bytes.
const maxDaemonAnswer = 1 << 20

// do makes a request. An answer that is none of success becomes an error with the daemon's words.
func (d *dockerDaemon) do(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://docker"+path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/x-tar")
	}
	resp, err := d.Do(req)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err // without the made-up address
		}
		return nil, fmt.Errorf("%w: %w", ErrDockerDaemon, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	var said struct{ Message string }
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxDaemonAnswer))
	if err != nil || json.Unmarshal(text, &said) != nil || said.Message == "" {
		said.Message = resp.Status
	}
	return nil, fmt.Errorf("%w: %s", ErrDockerDaemon, said.Message)
}

// fetch takes an image out of the daemon's store.
func (d *dockerDaemon) fetch(ctx context.Context, images *image.Store, name string, o image.LoadOptions) ([]image.Listed, error) {
	resp, err := d.do(ctx, http.MethodGet, "/images/"+daemonName(name)+"/get", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return images.Load(ctx, resp.Body, o)
}

// daemonName is a name with its tag: of one without, the daemon would send all tags. An id is sent as it is.
func daemonName(name string) string {
	ref, err := image.ParseReference(name)
	if err != nil || strings.HasPrefix(name, "sha256:") {
		return name
	}
	return ref.Familiar()
}

// store puts an image, which save writes as an archive for docker, into the daemon's store.
func (d *dockerDaemon) store(ctx context.Context, save func(io.Writer) error) error {
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := save(w)
		w.CloseWithError(err)
		written <- err
	}()
	resp, err := d.do(ctx, http.MethodPost, "/images/load?quiet=1", r)
	r.CloseWithError(errors.New("the daemon reads no further"))
	if saved := <-written; saved != nil && err == nil {
		resp.Body.Close()
		return saved
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return daemonResult(resp.Body)
}

// daemonResult reads what the daemon says of its work: JSON documents, of which one may be an error.
func daemonResult(r io.Reader) error {
	for decoder := json.NewDecoder(io.LimitReader(r, maxDaemonAnswer)); ; {
		var said struct{ Error string }
		switch err := decoder.Decode(&said); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("%w: its answer: %w", ErrDockerDaemon, err)
		case said.Error != "":
			return fmt.Errorf("%w: %s", ErrDockerDaemon, said.Error)
		}
	}
}

// ErrNoSkopeo says that the store of podman cannot be reached without a program that is not here.
var ErrNoSkopeo = errors.New("the store of podman and buildah is reached by skopeo, which is not in PATH")

// skopeo has skopeo copy between containers-storage and an OCI layout of ours, byte by byte. What podman's store has
// compressed or uncompressed stays so.
func skopeo(ctx context.Context, from, to string) error {
	path, err := exec.LookPath("skopeo")
	if err != nil {
		return ErrNoSkopeo
	}
	// There is no registry in it that a policy could speak of.
	out, err := exec.CommandContext(ctx, path, "--insecure-policy", "copy", "--quiet", from, to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("skopeo copy %s %s: %w: %s", from, to, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// throughLayout lets f use a temporary directory for an OCI layout.
func throughLayout(f func(dir string) error) error {
	dir, err := os.MkdirTemp("", "containr-copy-")
	if err != nil {
		return err
	}
	return errors.Join(f(filepath.Join(dir, "layout")), safepath.RemoveAll(dir))
}

// fetchFrom takes in the images of a place that is not the store and no registry.
func fetchFrom(ctx context.Context, images *image.Store, from Place, o image.LoadOptions) (listed []image.Listed, err error) {
	switch from.Kind {
	case InDockerDaemon:
		d, err := openDockerDaemon()
		if err != nil {
			return nil, err
		}
		o.Only = ""
		return d.fetch(ctx, images, from.Name, o)
	case InContainersStorage:
		err = throughLayout(func(dir string) (err error) {
			if err = skopeo(ctx, InContainersStorage+":"+from.Name, "oci:"+dir+":image"); err == nil {
				o.Only = "image"
				listed, err = images.LoadPath(ctx, dir, o)
			}
			return err
		})
		return listed, err
	}
	return images.LoadPath(ctx, from.Path, o)
}

// sendTo puts an image of the store into the store of docker or podman.
func sendTo(ctx context.Context, images *image.Store, to Place, o image.SaveOptions) error {
	if to.Kind == InDockerDaemon {
		d, err := openDockerDaemon()
		if err != nil {
			return err
		}
		return d.store(ctx, func(w io.Writer) error { return images.SavePlain(ctx, w, o) })
	}
	name := o.Name
	o.Name = "image"
	return throughLayout(func(dir string) error {
		if err := images.SaveDir(ctx, dir, o); err != nil {
			return err
		}
		return skopeo(ctx, "oci:"+dir+":image", InContainersStorage+":"+name)
	})
}
