package cli_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/containr/containr/internal/baseimage"
	"github.com/containr/containr/internal/testkit/fakeregistry"
	"github.com/containr/containr/internal/testkit/testimage"
)

// faults are the lies that a registry in a script can be told to tell, about manifests and about layers.
var faults = map[string]fakeregistry.Fault{
	"wrong-manifest":   {Path: "/manifests/", Body: []byte(`{"schemaVersion": 2}`)},
	"endless-manifest": {Path: "/manifests/", Endless: true},
	"wrong-digest":     {Path: "LAYER", Body: []byte("CHANGED")},
	"wrong-length":     {Path: "LAYER", Body: []byte("not what the digest says")},
	"truncated":        {Path: "LAYER", Truncate: 1000},
	"broken":           {Path: "LAYER", BreakAfter: 1000},
	"endless":          {Path: "LAYER", Endless: true},
	"stalling":         {Path: "LAYER", Stall: true},
	"refused":          {Path: "/v2/", Status: 403},
	"failing":          {Path: "/v2/", Status: 500},
}

// tell makes a registry lie. In the path, LAYER stands for the layers of the built-in image; the body CHANGED for the
// right one with a bit flipped in the middle.
func tell(r *fakeregistry.Registry, fault fakeregistry.Fault, base content) {
	if fault.Path != "LAYER" {
		r.Fail(fault)
		return
	}
	for _, blob := range base.blobs {
		if len(blob.Data) < 1<<20 {
			continue // a manifest or a configuration
		}
		about := fault
		about.Path = blob.Digest.String()
		if string(fault.Body) == "CHANGED" {
			about.Body = bytes.Clone(blob.Data)
			about.Body[len(about.Body)/2] ^= 1
		}
		r.Fail(about)
	}
}

// registry [FAULT...] starts a registry, and sets $REGISTRY to its host and port.
func serveRegistry(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: registry [FAULT...]")
	}
	r := newRegistry(ts.Value(testKey{}).(*testing.T))
	base, err := baseContent()
	ts.Check(err)
	for _, name := range args {
		fault, ok := faults[name]
		if !ok {
			ts.Fatalf("unknown fault %s", name)
		}
		tell(r, fault, base)
	}
	started[ts] = r
	ts.Setenv("REGISTRY", r.Host())
}

// private starts a registry for the user me with the password secret, and sets $REGISTRY.
func servePrivate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: private")
	}
	r := newRegistryWith(ts.Value(testKey{}).(*testing.T), fakeregistry.Options{Basic: true, Username: "me", Password: "secret"})
	started[ts] = r
	ts.Setenv("REGISTRY", r.Host())
}

// started is the registry that a script started last.
var started = map[*testscript.TestScript]*fakeregistry.Registry{}

// requested PART waits until the registry that was started last was asked for something with PART in its path.
func requested(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 || started[ts] == nil {
		ts.Fatalf("usage: requested PART, after registry")
	}
	waitUntil(ts, "the registry is asked for "+args[0], func() bool { return len(started[ts].Requests(args[0])) > 0 })
}

// newRegistry starts a registry that has
//
//	base:latest   the built-in image, for both architectures
//	app:1         one small layer, which is no runnable image
//	arm:latest    an image for linux/arm64 alone
//	lied:1        an image whose configuration tells another digest of its layer
//	nested:1      an index of an image for linux/riscv64, and of an index with the built-in one's index in it
//	nested:deep   1,000 indexes, each in the next
func newRegistry(t *testing.T) *fakeregistry.Registry {
	return newRegistryWith(t, fakeregistry.Options{})
}

func newRegistryWith(t *testing.T, o fakeregistry.Options) *fakeregistry.Registry {
	t.Helper()
	base, err := baseContent()
	if err != nil {
		t.Fatal(err)
	}
	r := fakeregistry.New(t, o)
	r.PushBlobs(base.blobs...)
	for _, m := range base.blobs {
		r.PushManifest("base", m.Digest.Encoded(), m)
	}
	r.PushManifest("base", "latest", base.index)
	r.Push("app", "1", testimage.Build(testimage.Options{}))
	r.PushIndex("arm", "latest", testimage.Build(testimage.Options{Platform: v1.Platform{OS: "linux", Architecture: "arm64"}}))
	r.Push("lied", "1", liar())
	pushNested(r, base)
	return r
}

// pushNested adds indexes in indexes.
func pushNested(r *fakeregistry.Registry, base content) {
	put := func(tag string, entries ...v1.Descriptor) v1.Descriptor {
		index := v1.Index{MediaType: v1.MediaTypeImageIndex, Manifests: entries}
		index.SchemaVersion = 2
		data, err := json.Marshal(index)
		if err != nil {
			panic(err)
		}
		b := testimage.NewBlob(v1.MediaTypeImageIndex, data)
		r.PushManifest("nested", tag, b)
		return b.Descriptor
	}
	for _, m := range base.blobs {
		r.PushManifest("nested", m.Digest.Encoded(), m)
	}
	riscv := testimage.Build(testimage.Options{Platform: v1.Platform{OS: "linux", Architecture: "riscv64"}})
	r.Push("nested", "riscv", riscv)
	put("1", riscv.Manifest.Descriptor, put("inner", base.index.Descriptor))
	for d, depth := base.index.Descriptor, 0; depth < 1000; depth++ {
		d = put("deep", d)
	}
}

// liar is an image whose layer is what the manifest says, but not what the configuration says.
func liar() *testimage.Image {
	i := testimage.Build(testimage.Options{Layers: [][]byte{testimage.Tar(testimage.File{Name: "lie", Body: "lie"})}})
	i.Config = testimage.NewBlob(i.Config.MediaType, bytes.ReplaceAll(i.Config.Data, []byte(i.DiffIDs[0].Encoded()), []byte(strings.Repeat("0", 64))))
	var m v1.Manifest
	if err := json.Unmarshal(i.Manifest.Data, &m); err != nil {
		panic(err)
	}
	m.Config = i.Config.Descriptor
	data, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	i.Manifest = testimage.NewBlob(i.Manifest.MediaType, data)
	return i
}

// content is an image as blobs, whatever they are, and its index.
type content struct {
	index testimage.Blob
	blobs []testimage.Blob
}

// baseContent takes the built-in image apart, once.
var baseContent = sync.OnceValues(readBase)

func readBase() (content, error) {
	archive, err := baseimage.Archive()
	if err != nil {
		return content{}, err
	}
	var c content
	var layout v1.Index
	byDigest := map[digest.Digest][]byte{}
	for tr := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return c, err
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			return c, err
		}
		switch name, isBlob := strings.CutPrefix(h.Name, "blobs/sha256/"); {
		case isBlob && name != "":
			byDigest[digest.Digest("sha256:"+name)] = data
		case h.Name == v1.ImageIndexFile:
			if err := json.Unmarshal(data, &layout); err != nil {
				return c, err
			}
		}
	}
	for d, data := range byDigest {
		blob := testimage.NewBlob(mediaType(data), data)
		if c.blobs = append(c.blobs, blob); d == layout.Manifests[0].Digest {
			c.index = testimage.NewBlob(layout.Manifests[0].MediaType, data)
		}
	}
	return c, nil
}

// mediaType is what a manifest says that it is, nothing for other blobs.
func mediaType(data []byte) string {
	var document struct {
		MediaType string `json:"mediaType"`
	}
	json.Unmarshal(data, &document) // layers are no JSON
	return document.MediaType
}

// archive KIND FILE writes an archive to try commands with:
//
//	oci        the built-in image, in the OCI layout
//	truncated  the first half of that
//	docker     a small image named app:1, as docker save writes it
func writeArchive(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: archive KIND FILE")
	}
	data, err := baseimage.Archive()
	ts.Check(err)
	switch args[0] {
	case "oci":
	case "truncated":
		data = data[:len(data)/2]
	case "docker":
		data = dockerArchive()
	case "checked":
		data = withHealthcheck(ts)
	default:
		ts.Fatalf("unknown archive %s", args[0])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), data, 0o644))
}

// withHealthcheck makes, of the built-in image, the image checked:1, whose health check is that the file
// /ok is there.
func withHealthcheck(ts *testscript.TestScript) []byte {
	saved := ts.MkAbs("saved.tar")
	ts.Check(ts.Exec("containr", "save", "-o", saved, "base"))
	base, err := os.ReadFile(saved)
	ts.Check(err)
	files := map[string]string{}
	for r := tar.NewReader(bytes.NewReader(base)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		ts.Check(err)
		body, err := io.ReadAll(r)
		ts.Check(err)
		files[h.Name] = string(body)
	}
	var list []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	ts.Check(json.Unmarshal([]byte(files["manifest.json"]), &list))
	check := `"config":{"Healthcheck":{"Test":["CMD","cat","/ok"],"Interval":50000000,"Retries":1},`
	config := strings.Replace(files[list[0].Config], `"config":{`, check, 1)
	manifest := fmt.Sprintf(`[{"Config": "config.json", "RepoTags": ["checked:1"], "Layers": ["%s"]}]`, list[0].Layers[0])
	return testimage.Tar(
		testimage.File{Name: "manifest.json", Body: manifest},
		testimage.File{Name: "config.json", Body: config},
		testimage.File{Name: list[0].Layers[0], Body: files[list[0].Layers[0]]},
	)
}

// dockerArchive is an image as docker save writes it, with one layer.
func dockerArchive() []byte {
	image := testimage.Build(testimage.Options{Compress: "none", Config: v1.ImageConfig{Cmd: []string{"/hello"}}})
	list := `[{"Config": "config.json", "RepoTags": ["app:1"], "Layers": ["layer.tar"]}]`
	return testimage.Tar(
		testimage.File{Name: "manifest.json", Body: list},
		testimage.File{Name: "config.json", Body: string(image.Config.Data)},
		testimage.File{Name: "layer.tar", Body: string(image.Layers[0].Data)},
	)
}
