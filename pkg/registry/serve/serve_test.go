package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/crypto/bcrypt"

	"github.com/containr/containr/internal/testkit/realregistry"
	"github.com/containr/containr/internal/testkit/testimage"
	"github.com/containr/containr/pkg/image"
)

// scene is a registry and what it serves.
type scene struct {
	*realregistry.Registry
	store  *image.Store
	server *Server
}

const domain = "registry.test:5000"

func newScene(t *testing.T, o Options) *scene {
	t.Helper()
	if o.Store == nil {
		store, err := image.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		store.Volatile = true
		o.Store = store
	}
	o.Domain = domain
	s, err := New(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(s)
	t.Cleanup(func() {
		front.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &scene{realregistry.At(front.Listener.Addr().String()), o.Store, s}
}

// answer is what a registry said.
type answer struct {
	status int
	header http.Header
	body   string
}

// ask sends a request. header are names and values in turn.
func (s *scene) ask(t *testing.T, method, path string, body io.Reader, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Host()+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(data)}
}

// want checks a status, and the code of an error.
func (s *scene) want(t *testing.T, status int, code, method, path string, body io.Reader, header ...string) answer {
	t.Helper()
	a := s.ask(t, method, path, body, header...)
	if a.status != status || !strings.Contains(a.body, code) {
		t.Errorf("%s %s: %d %s, want %d %s", method, path, a.status, a.body, status, code)
	}
	return a
}

// upload begins an upload and returns its path.
func (s *scene) upload(t *testing.T, repository string) string {
	t.Helper()
	return s.want(t, http.StatusAccepted, "", http.MethodPost, "/v2/"+repository+"/blobs/uploads/", nil).header.Get("Location")
}

func (s *scene) resolve(t *testing.T, name string) *image.Image {
	t.Helper()
	img, err := s.store.Resolve(name, image.Platform{OS: "linux", Architecture: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// add puts an image into the store without the registry.
func (s *scene) add(t *testing.T, name string, img *testimage.Image) {
	t.Helper()
	lease, err := s.store.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Close()
	for _, b := range append(img.Blobs(), img.Manifest) {
		if err := lease.Put(t.Context(), b.Descriptor, b.Data); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.store.Tag(t.Context(), name, img.Manifest.Descriptor); err != nil {
		t.Fatal(err)
	}
}

// What is pushed is an image of the store, and what has a name of the domain in the store can be pulled.
func TestTheStoreIsWhatIsServed(t *testing.T) {
	s := newScene(t, Options{})
	img := testimage.Build(testimage.Options{})
	s.Push(t, "team/app", "1", img)
	if got := s.resolve(t, domain+"/team/app:1"); got.ConfigDigest != img.Config.Digest {
		t.Errorf("image %s", got.ConfigDigest)
	}
	other := testimage.Build(testimage.Options{Compress: "zstd"})
	s.add(t, domain+"/other:2", other)
	got := s.want(t, http.StatusOK, "", http.MethodGet, "/v2/other/manifests/2", nil)
	if got.body != string(other.Manifest.Data) || got.header.Get("Content-Type") != other.Manifest.MediaType {
		t.Errorf("manifest %q %q", got.header, got.body)
	}
	s.want(t, http.StatusOK, string(other.Layers[0].Data), http.MethodGet, "/v2/other/blobs/"+other.Layers[0].Digest.String(), nil)
	s.want(t, http.StatusOK, `["other","team/app"]`, http.MethodGet, "/v2/_catalog", nil)
	if _, err := s.store.Remove(t.Context(), domain+"/other:2", image.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	s.want(t, http.StatusNotFound, nameUnknown, http.MethodGet, "/v2/other/manifests/2", nil)
	s.want(t, http.StatusNotFound, blobUnknown, http.MethodGet, "/v2/other/blobs/"+other.Layers[0].Digest.String(), nil)
	s.want(t, http.StatusOK, `["team/app"]`, http.MethodGet, "/v2/_catalog", nil)
}

// Images of other names, and blobs of other repositories, cannot be read, mounted or listed by a manifest, though they
// lie in the same store.
func TestNothingElseOfTheStoreIsServed(t *testing.T) {
	s := newScene(t, Options{})
	secret := testimage.Build(testimage.Options{})
	s.add(t, "docker.io/library/secret:1", secret)
	mine := testimage.Build(testimage.Options{Compress: "zstd"})
	s.Push(t, "mine", "1", mine)
	for _, name := range []string{"library/secret", "secret", "mine"} {
		s.want(t, http.StatusNotFound, "UNKNOWN", http.MethodGet, "/v2/"+name+"/manifests/"+secret.Manifest.Digest.String(), nil)
		s.want(t, http.StatusNotFound, blobUnknown, http.MethodGet, "/v2/"+name+"/blobs/"+secret.Layers[0].Digest.String(), nil)
		s.want(t, http.StatusAccepted, "", http.MethodPost, "/v2/other/blobs/uploads/?mount="+secret.Layers[0].Digest.String()+"&from="+name, nil)
		s.want(t, http.StatusBadRequest, manifestBlobUnknown, http.MethodPut, "/v2/"+name+"/manifests/1", bytes.NewReader(secret.Manifest.Data), "Content-Type", secret.Manifest.MediaType)
	}
	s.want(t, http.StatusCreated, "", http.MethodPost, "/v2/other/blobs/uploads/?mount="+mine.Layers[0].Digest.String()+"&from=mine", nil)
	s.want(t, http.StatusOK, "", http.MethodGet, "/v2/other/blobs/"+mine.Layers[0].Digest.String(), nil)
}

// No path leads out of the names that there are.
func TestPathsAreNames(t *testing.T) {
	s := newScene(t, Options{})
	s.Push(t, "app", "1", testimage.Build(testimage.Options{}))
	hex := strings.Repeat("a", 64)
	for _, bad := range []string{
		"/v2/../etc/passwd", "/v2/app/../../x/manifests/1", "/v2/app/%2e%2e/%2e%2e/manifests/1", "/v2//app/manifests/1",
		"/v2/APP/manifests/1", "/v2/app:1/manifests/1", "/v2/app@sha256:" + hex + "/manifests/1", "/v2/" + strings.Repeat("a", 300) + "/manifests/1",
		"/v2/app/manifests/..", "/v2/app/manifests/%2e%2e%2fx", "/v2/app/manifests/-1", "/v2/app/manifests/sha256:..%2f" + hex,
		"/v2/app/blobs/sha256:" + hex[1:], "/v2/app/blobs/sha256:" + hex[1:] + "/", "/v2/app/blobs/md5:" + hex, "/v2/app/blobs/..%2f..%2findex.json",
		"/v2/app/blobs/uploads/..%2f..%2flock", "/v2/app/referrers/latest", "/v2/app", "/v2/app/nonsense/1", "/v1/search", "/", "/v2/app/blobs/uploads/x/y",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodPost} {
			if a := s.ask(t, method, bad, strings.NewReader("x")); a.status < 400 || a.status >= 500 {
				t.Errorf("%s %s: %d %s", method, bad, a.status, a.body)
			}
		}
	}
	s.want(t, http.StatusOK, `["1"]`, http.MethodGet, "/v2/app/tags/list", nil)
}

// Content with another digest does not become visible, and nothing of it stays.
func TestWrongContentLeavesNothing(t *testing.T) {
	s := newScene(t, Options{})
	d := digest.FromString("right")
	at := s.upload(t, "app")
	s.want(t, http.StatusBadRequest, digestInvalid, http.MethodPut, at+"?digest="+d.String(), strings.NewReader("wrong"))
	s.want(t, http.StatusNotFound, blobUploadUnknown, http.MethodGet, at, nil)
	s.want(t, http.StatusBadRequest, digestInvalid, http.MethodPost, "/v2/app/blobs/uploads/?digest="+d.String(), strings.NewReader("wrong"))
	s.want(t, http.StatusNotFound, blobUnknown, http.MethodGet, "/v2/app/blobs/"+d.String(), nil)
	s.want(t, http.StatusBadRequest, digestInvalid, http.MethodPut, "/v2/app/manifests/"+d.String(), bytes.NewReader(testimage.Build(testimage.Options{}).Manifest.Data))
	for _, bad := range []string{"", "{}", "[]", `{"schemaVersion": 1}`, `{"schemaVersion": 2, "mediaType": "application/x"}`, `{"schemaVersion": 2, "layers": [], "manifests": []}`} {
		s.want(t, http.StatusBadRequest, manifestInvalid, http.MethodPut, "/v2/app/manifests/1", strings.NewReader(bad))
	}
	s.wantNoParts(t)
	s.server.held.mu.Lock()
	defer s.server.held.mu.Unlock()
	if s.server.held.bytes != 0 {
		t.Errorf("%d bytes are still counted", s.server.held.bytes)
	}
}

// wantNoParts checks that no upload is on its way.
func (s *scene) wantNoParts(t *testing.T) {
	t.Helper()
	parts, err := os.ReadDir(filepath.Join(filepath.Dir(s.store.NamesFile()), "ingest"))
	if err != nil || len(parts) > 0 {
		t.Errorf("parts %v, %v", parts, err)
	}
}

// arrived is how many bytes of an upload have come.
func (s *scene) arrived(session string) int64 {
	s.server.sessions.mu.Lock()
	defer s.server.sessions.mu.Unlock()
	return s.server.sessions.open[session].writer.Written()
}

// An upload whose connection breaks goes on where it broke.
func TestUploadGoesOnWhereItBroke(t *testing.T) {
	s := newScene(t, Options{})
	content := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	at := s.upload(t, "app")
	conn, err := net.Dial("tcp", s.Host())
	if err != nil {
		t.Fatal(err)
	}
	const sent = 300_000
	fmt.Fprintf(conn, "PATCH %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", at, len(content))
	if _, err := conn.Write(content[:sent]); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	// The server takes what has come, and finds out about the end, in its own time.
	deadline := time.Now().Add(30 * time.Second)
	for s.arrived(path.Base(at)) < sent {
		if time.Now().After(deadline) {
			t.Fatal("what was sent does not arrive")
		}
	}
	has := answer{}
	for has = s.ask(t, http.MethodGet, at, nil); has.status == http.StatusConflict; has = s.ask(t, http.MethodGet, at, nil) {
		if time.Now().After(deadline) {
			t.Fatal("the request does not end")
		}
	}
	if want := fmt.Sprintf("0-%d", sent-1); has.status != http.StatusNoContent || has.header.Get("Range") != want {
		t.Fatalf("%d, Range %q, want %q", has.status, has.header.Get("Range"), want)
	}
	s.want(t, http.StatusRequestedRangeNotSatisfiable, blobUploadInvalid, http.MethodPatch, at, strings.NewReader("xx"), "Content-Range", "5-6")
	d := digest.FromBytes(content)
	s.want(t, http.StatusCreated, "", http.MethodPut, at+"?digest="+d.String(), bytes.NewReader(content[sent:]))
	s.want(t, http.StatusOK, string(content), http.MethodGet, "/v2/app/blobs/"+d.String(), nil)
	if a := s.ask(t, http.MethodGet, "/v2/app/blobs/"+d.String(), nil, "Range", "bytes=16-31"); a.status != http.StatusPartialContent || a.body != "0123456789abcdef" {
		t.Errorf("range: %d %q", a.status, a.body)
	}
}

// endless is a body that does not end.
type endless struct{ sent int64 }

func (e *endless) Read(p []byte) (int, error) {
	e.sent += int64(len(p))
	return len(p), nil
}

// Clients cannot make a registry spend more than it was told to.
func TestLimits(t *testing.T) {
	s := newScene(t, Options{Limits: Limits{Blob: 1 << 20, Held: 3 << 20, Uploads: 2}})
	first := s.upload(t, "app")
	s.upload(t, "app")
	if a := s.want(t, http.StatusTooManyRequests, tooManyRequests, http.MethodPost, "/v2/app/blobs/uploads/", nil); a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	s.want(t, http.StatusRequestEntityTooLarge, sizeInvalid, http.MethodPatch, first, bytes.NewReader(make([]byte, 1<<20+1)))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, "http://"+s.Host()+first, &endless{})
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.DefaultTransport.RoundTrip(req); err == nil { // or the connection ends before the client reads it
		if resp.Body.Close(); resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("endless upload: %s", resp.Status)
		}
	}
	s.want(t, http.StatusNotFound, blobUploadUnknown, http.MethodGet, first, nil)
	for i := range 3 {
		data := bytes.Repeat([]byte{byte(i)}, 1<<20)
		s.want(t, http.StatusCreated, "", http.MethodPost, "/v2/app/blobs/uploads/?digest="+digest.FromBytes(data).String(), bytes.NewReader(data))
	}
	s.want(t, http.StatusTooManyRequests, tooManyRequests, http.MethodPost, "/v2/app/blobs/uploads/?digest="+digest.FromString("x").String(), strings.NewReader("x"))
	s.want(t, http.StatusAccepted, "", http.MethodDelete, "/v2/app/blobs/"+digest.FromBytes(make([]byte, 1<<20)).String(), nil)
	s.want(t, http.StatusCreated, "", http.MethodPost, "/v2/app/blobs/uploads/?digest="+digest.FromString("x").String(), strings.NewReader("x"))
	s.want(t, http.StatusRequestEntityTooLarge, sizeInvalid, http.MethodPut, "/v2/app/manifests/1", bytes.NewReader(make([]byte, image.MaxManifestSize+1)))

	full := newScene(t, Options{Limits: Limits{Free: 1 << 60}})
	full.want(t, http.StatusInsufficientStorage, denied, http.MethodPost, "/v2/app/blobs/uploads/?digest="+digest.FromString("x").String(), strings.NewReader("x"))
	full.wantNoParts(t)
}

// What idles is given up: sessions, and blobs that no manifest lists. What a manifest lists stays.
func TestWhatIdlesGoes(t *testing.T) {
	s := newScene(t, Options{})
	img := testimage.Build(testimage.Options{})
	s.Push(t, "app", "1", img)
	lonely := testimage.NewBlob("", []byte("lonely"))
	s.PushBlob(t, "app", lonely.Descriptor, bytes.NewReader(lonely.Data))
	at := s.upload(t, "app")
	s.server.tidy(t.Context(), time.Hour)
	s.want(t, http.StatusNoContent, "", http.MethodGet, at, nil)
	s.want(t, http.StatusOK, "", http.MethodGet, "/v2/app/blobs/"+lonely.Digest.String(), nil)
	s.server.tidy(t.Context(), 0)
	s.want(t, http.StatusNotFound, blobUploadUnknown, http.MethodPatch, at, strings.NewReader("x"))
	s.want(t, http.StatusNotFound, blobUnknown, http.MethodGet, "/v2/app/blobs/"+lonely.Digest.String(), nil)
	s.want(t, http.StatusOK, "", http.MethodGet, "/v2/app/blobs/"+img.Layers[0].Digest.String(), nil)
	if s.store.Has(lonely.Descriptor) {
		t.Error("a blob that nothing lists is still in the store")
	}
	s.wantNoParts(t)
}

// Garbage of the store is collected meanwhile, by others too. What was uploaded waits for its manifest all the same, and
// its lease may be replaced.
func TestWhatWasUploadedWaitsForItsManifest(t *testing.T) {
	s := newScene(t, Options{})
	img := testimage.Build(testimage.Options{})
	for _, b := range img.Blobs() {
		s.PushBlob(t, "app", b.Descriptor, bytes.NewReader(b.Data))
		if _, err := s.store.GC(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.server.held.expire(t.Context(), time.Hour)
	}
	at := s.upload(t, "app")
	s.server.held.expire(t.Context(), time.Hour) // while a session has the old lease
	s.want(t, http.StatusCreated, "", http.MethodPut, at+"?digest="+digest.FromString("x").String(), strings.NewReader("x"))
	if _, err := s.store.GC(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.want(t, http.StatusOK, "x", http.MethodGet, "/v2/app/blobs/"+digest.FromString("x").String(), nil)
	s.PushManifest(t, "app", "1", img.Manifest.MediaType, img.Manifest.Data)
	s.resolve(t, domain+"/app:1")
}

// A tag that moves leaves what it meant, by its digest. Deleting a tag does too; deleting a digest takes all of it.
func TestNamesGoOneByOne(t *testing.T) {
	s := newScene(t, Options{})
	old, new := testimage.Build(testimage.Options{}), testimage.Build(testimage.Options{Compress: "zstd"})
	s.Push(t, "app", "1", old)
	s.Push(t, "app", "1", new)
	s.Push(t, "app", "1", new)
	s.Push(t, "app", "2", new)
	byDigest := "/v2/app/manifests/" + old.Manifest.Digest.String()
	s.want(t, http.StatusOK, string(old.Manifest.Data), http.MethodGet, byDigest, nil)
	s.want(t, http.StatusOK, string(new.Manifest.Data), http.MethodGet, "/v2/app/manifests/1", nil)
	s.want(t, http.StatusAccepted, "", http.MethodDelete, "/v2/app/manifests/1", nil)
	s.want(t, http.StatusNotFound, manifestUnknown, http.MethodDelete, "/v2/app/manifests/1", nil)
	s.want(t, http.StatusOK, `["2"]`, http.MethodGet, "/v2/app/tags/list", nil)
	s.want(t, http.StatusMethodNotAllowed, unsupported, http.MethodDelete, "/v2/app/blobs/"+old.Layers[0].Digest.String(), nil)
	s.want(t, http.StatusAccepted, "", http.MethodDelete, byDigest, nil)
	s.want(t, http.StatusNotFound, manifestUnknown, http.MethodGet, byDigest, nil)
	s.want(t, http.StatusNotFound, blobUnknown, http.MethodGet, "/v2/app/blobs/"+old.Layers[0].Digest.String(), nil)
	s.want(t, http.StatusAccepted, "", http.MethodDelete, "/v2/app/manifests/"+new.Manifest.Digest.String(), nil)
	s.want(t, http.StatusNotFound, nameUnknown, http.MethodGet, "/v2/app/tags/list", nil)
	names, err := s.store.Names()
	if err != nil || len(names) > 0 {
		t.Errorf("names left %v, %v", names, err)
	}
}

// The images of an index are known through it: they have no names of their own, and go with it.
func TestAnIndexCoversItsImages(t *testing.T) {
	s := newScene(t, Options{})
	intel := testimage.Build(testimage.Options{})
	arm := testimage.Build(testimage.Options{Platform: v1.Platform{OS: "linux", Architecture: "arm64"}})
	index := s.PushIndex(t, "app", "1", intel, arm)
	s.PushManifest(t, "app", intel.Manifest.Digest.String(), intel.Manifest.MediaType, intel.Manifest.Data)
	names, err := s.store.Names()
	if err != nil || len(names) != 1 || names[0].Name != domain+"/app:1" {
		t.Errorf("names %v, %v", names, err)
	}
	child := "/v2/app/manifests/" + arm.Manifest.Digest.String()
	s.want(t, http.StatusOK, string(arm.Manifest.Data), http.MethodGet, child, nil)
	s.want(t, http.StatusMethodNotAllowed, unsupported, http.MethodDelete, child, nil)
	s.want(t, http.StatusAccepted, "", http.MethodDelete, "/v2/app/manifests/"+index.Digest.String(), nil)
	s.want(t, http.StatusNotFound, "UNKNOWN", http.MethodGet, child, nil)
	s.want(t, http.StatusBadRequest, manifestBlobUnknown, http.MethodPut, "/v2/app/manifests/1", bytes.NewReader(index.Data), "Content-Type", index.MediaType)
}

// Lists come in pages, each with the address of the next.
func TestListsComeInPages(t *testing.T) {
	s := newScene(t, Options{})
	img := testimage.Build(testimage.Options{})
	for _, tag := range []string{"b", "a", "c"} {
		s.Push(t, "app", tag, img)
	}
	a := s.want(t, http.StatusOK, `"tags":["a","b"]`, http.MethodGet, "/v2/app/tags/list?n=2", nil)
	if link := a.header.Get("Link"); link != `</v2/app/tags/list?last=b&n=2>; rel="next"` {
		t.Errorf("Link %s", link)
	}
	a = s.want(t, http.StatusOK, `"tags":["c"]`, http.MethodGet, "/v2/app/tags/list?last=b&n=2", nil)
	if a.header.Get("Link") != "" {
		t.Error("a link after the last page")
	}
	s.want(t, http.StatusOK, `"tags":[]`, http.MethodGet, "/v2/app/tags/list?n=0", nil)
	s.want(t, http.StatusBadRequest, "", http.MethodGet, "/v2/app/tags/list?n=-1", nil)
}

// Of a registry with users nobody else gets anything.
func TestUsers(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "users")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("# users\nme:" + string(hash) + "\n")
	users, err := ReadUsers(file)
	if err != nil {
		t.Fatal(err)
	}
	s := newScene(t, Options{Users: users})
	if a := s.want(t, http.StatusUnauthorized, unauthorized, http.MethodGet, "/v2/", nil); !strings.HasPrefix(a.header.Get("Www-Authenticate"), "Basic ") {
		t.Errorf("header %v", a.header)
	}
	basic := func(user, password string) string {
		r := &http.Request{Header: http.Header{}}
		r.SetBasicAuth(user, password)
		return r.Header.Get("Authorization")
	}
	for range 2 { // the second time from memory
		s.want(t, http.StatusOK, "", http.MethodGet, "/v2/", nil, "Authorization", basic("me", "secret"))
		for _, wrong := range []string{basic("me", "Secret"), basic("you", "secret"), basic("", ""), "Bearer secret"} {
			s.want(t, http.StatusUnauthorized, unauthorized, http.MethodPost, "/v2/app/blobs/uploads/", nil, "Authorization", wrong)
		}
	}
	for _, bad := range []string{"", "me\n", ":" + string(hash), "me:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "me:plain"} {
		write(bad)
		if _, err := ReadUsers(file); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// A registry that is read-only is changed by nothing.
func TestReadOnly(t *testing.T) {
	s := newScene(t, Options{ReadOnly: true})
	img := testimage.Build(testimage.Options{})
	s.add(t, domain+"/app:1", img)
	before, err := os.ReadFile(s.store.NamesFile())
	if err != nil {
		t.Fatal(err)
	}
	s.want(t, http.StatusOK, "", http.MethodGet, "/v2/app/manifests/1", nil)
	for _, c := range [][2]string{
		{http.MethodPut, "/v2/app/manifests/2"}, {http.MethodDelete, "/v2/app/manifests/1"}, {http.MethodPost, "/v2/app/blobs/uploads/"},
		{http.MethodDelete, "/v2/app/blobs/" + img.Layers[0].Digest.String()}, {http.MethodPatch, "/v2/app/blobs/uploads/x"},
	} {
		s.want(t, http.StatusMethodNotAllowed, unsupported, c[0], c[1], bytes.NewReader(img.Manifest.Data))
	}
	if after, err := os.ReadFile(s.store.NamesFile()); err != nil || !bytes.Equal(before, after) {
		t.Errorf("names changed: %v", err)
	}
}

// A page in a browser of somebody who can reach the registry cannot make it change anything.
func TestPagesOfOthersChangeNothing(t *testing.T) {
	s := newScene(t, Options{})
	s.want(t, http.StatusForbidden, "", http.MethodPost, "/v2/app/blobs/uploads/", nil, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site")
	s.wantNoParts(t)
}

// The server ends when it is told to, and a second one goes on with its store.
func TestServeEndsAndBeginsAnew(t *testing.T) {
	store, err := image.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	img := testimage.Build(testimage.Options{})
	for round := range 2 {
		s, err := New(t.Context(), Options{Store: store, Domain: domain})
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Serve(ctx, l) }()
		c := &scene{realregistry.At(l.Addr().String()), store, s}
		if round == 0 {
			c.Push(t, "app", "1", img)
			c.upload(t, "app")
		} else {
			c.want(t, http.StatusOK, "", http.MethodGet, "/v2/app/blobs/"+img.Layers[0].Digest.String(), nil)
		}
		stop()
		if err := errors.Join(<-ended, s.Close()); err != nil {
			t.Fatal(err)
		}
		c.wantNoParts(t)
	}
	if problems, err := store.Check(t.Context(), false); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}
