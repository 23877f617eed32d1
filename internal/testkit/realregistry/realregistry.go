// Package realregistry runs the CNCF distribution registry for tests, and pushes
// images to it.
//
// # Theory of operation
//
// Start runs the program with a directory of the test's and a free port of the
// loopback interface, and waits until it answers; the test's end stops it.
//
// The program is taken from the environment variable CONTAINR_TEST_REGISTRY, or
// from bin/tools/registry in the source tree, where "make tools" installs it:
//
//	go install github.com/distribution/distribution/v3/cmd/registry@v3.1.2
package realregistry

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/containr/containr/internal/testkit/testimage"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Variable names the environment variable with the path of the program.
const Variable = "CONTAINR_TEST_REGISTRY"

// Registry is a running registry.
type Registry struct {
	host string
}

// At is a registry that a test has started otherwise, to push images to.
func At(host string) *Registry { return &Registry{host: host} }

// Start runs a registry on a free port of the loopback interface until the end of
// the test. If there is no program the test is skipped, with the reason.
func Start(t testing.TB) *Registry {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, configuration, filepath.Join(dir, "data")), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program(t), "serve", config)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	output, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = cmd.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatalf("start registry: %v", err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return &Registry{host: address(t, output)}
}

const configuration = `version: 0.1
log: {level: info}
storage: {filesystem: {rootdirectory: %q}}
http: {addr: "127.0.0.1:0"}
`

// listening matches what the registry logs when it is ready.
var listening = regexp.MustCompile(`listening on (127\.0\.0\.1:[0-9]+)`)

// address waits for the registry to say where it listens, and then keeps reading
// so that it never blocks.
func address(t testing.TB, output io.Reader) string {
	t.Helper()
	var log bytes.Buffer
	lines := bufio.NewScanner(io.TeeReader(output, &log))
	for lines.Scan() {
		if found := listening.FindSubmatch(lines.Bytes()); found != nil {
			go io.Copy(io.Discard, output)
			return string(found[1])
		}
	}
	t.Fatalf("registry ended before it listened:\n%s", log.Bytes())
	return ""
}

// program finds the registry's program.
func program(t testing.TB) string {
	t.Helper()
	if path := os.Getenv(Variable); path != "" {
		return path
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("there is no go.mod above the working directory")
		}
	}
	path := filepath.Join(dir, "bin", "tools", "registry")
	if _, err := os.Stat(path); err != nil {
		t.Skipf("skipped: no registry to test with: %s is not set, and %v", Variable, err)
	}
	return path
}

// Host returns host:port, the first part of image names.
func (r *Registry) Host() string { return r.host }

// Push pushes an image for one platform.
func (r *Registry) Push(t testing.TB, repository, tag string, image *testimage.Image) {
	t.Helper()
	for _, b := range image.Blobs() {
		r.PushBlob(t, repository, b.Descriptor, bytes.NewReader(b.Data))
	}
	r.PushManifest(t, repository, tag, image.Manifest.MediaType, image.Manifest.Data)
}

// PushIndex pushes images as an index, which it returns.
func (r *Registry) PushIndex(t testing.TB, repository, tag string, images ...*testimage.Image) testimage.Blob {
	t.Helper()
	for _, i := range images {
		r.Push(t, repository, i.Manifest.Digest.String(), i)
	}
	index := testimage.Index(images...)
	r.PushManifest(t, repository, tag, index.MediaType, index.Data)
	return index
}

// PushLayout pushes what an OCI image layout holds under a name (as its
// index.json has it): an index or a manifest, with all that it leads to.
func (r *Registry) PushLayout(t testing.TB, layout, name, repository, tag string) {
	t.Helper()
	var index v1.Index
	readJSON(t, filepath.Join(layout, "index.json"), &index)
	for _, d := range index.Manifests {
		if d.Annotations[v1.AnnotationRefName] == name {
			r.pushTree(t, layout, repository, tag, d)
			return
		}
	}
	t.Fatalf("%s has no image named %s", layout, name)
}

// pushTree pushes what a manifest or index leads to, and then itself.
func (r *Registry) pushTree(t testing.TB, layout, repository, tag string, d v1.Descriptor) {
	t.Helper()
	var content struct {
		Manifests []v1.Descriptor `json:"manifests"`
		Config    *v1.Descriptor  `json:"config"`
		Layers    []v1.Descriptor `json:"layers"`
	}
	data := readJSON(t, blobPath(layout, d.Digest), &content)
	for _, child := range content.Manifests {
		r.pushTree(t, layout, repository, child.Digest.String(), child)
	}
	if content.Config != nil {
		content.Layers = append(content.Layers, *content.Config)
	}
	for _, child := range content.Layers {
		f, err := os.Open(blobPath(layout, child.Digest))
		if err != nil {
			t.Fatal(err)
		}
		r.PushBlob(t, repository, child, f)
		f.Close()
	}
	r.PushManifest(t, repository, tag, d.MediaType, data)
}

func blobPath(layout string, d digest.Digest) string {
	return filepath.Join(layout, "blobs", d.Algorithm().String(), d.Encoded())
}

func readJSON(t testing.TB, path string, document any) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, document)
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// PushBlob pushes a blob in one piece (distribution-spec, "POST then PUT").
func (r *Registry) PushBlob(t testing.TB, repository string, d v1.Descriptor, content io.Reader) {
	t.Helper()
	resp := r.do(t, http.MethodPost, "http://"+r.host+"/v2/"+repository+"/blobs/uploads/", "", 0, nil)
	location, err := resp.Location()
	if err != nil {
		t.Fatalf("push blob: %v", err)
	}
	query := location.Query()
	query.Set("digest", d.Digest.String())
	location.RawQuery = query.Encode()
	r.do(t, http.MethodPut, location.String(), "application/octet-stream", d.Size, content)
}

// PushManifest pushes a manifest or index under a tag or its digest.
func (r *Registry) PushManifest(t testing.TB, repository, reference, mediaType string, data []byte) {
	t.Helper()
	u := "http://" + r.host + "/v2/" + repository + "/manifests/" + url.PathEscape(reference)
	r.do(t, http.MethodPut, u, mediaType, int64(len(data)), bytes.NewReader(data))
}

// do makes a request that must succeed.
func (r *Registry) do(t testing.TB, method, u, mediaType string, size int64, body io.Reader) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, u, body)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = size
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		t.Fatalf("%s %s: %s\n%s", method, u, resp.Status, answer)
	}
	return resp
}
