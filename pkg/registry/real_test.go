package registry

import (
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/containr/containr/internal/testkit/realregistry"
	"github.com/containr/containr/internal/testkit/testimage"
	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/registry/serve"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// registries are real ones: that which most others descend from, and ours. Both are empty.
func registries(t *testing.T, try func(*testing.T, *realregistry.Registry)) {
	t.Run("distribution", func(t *testing.T) { try(t, realregistry.Start(t)) })
	t.Run("containr", func(t *testing.T) { try(t, realregistry.At(serveStore(t))) })
}

// serveStore serves an empty store as a registry until the end of the test, and returns its host and port.
func serveStore(t *testing.T) string {
	t.Helper()
	store, err := image.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s, err := serve.New(context.Background(), serve.Options{Store: store, Domain: "registry.test"})
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
	return front.Listener.Addr().String()
}

// Real registries serve what we understand.
func TestPullFromRealRegistries(t *testing.T) { registries(t, pullFrom) }

func pullFrom(t *testing.T, r *realregistry.Registry) {
	build := func(architecture, compress string, docker bool) *testimage.Image {
		return testimage.Build(testimage.Options{
			Platform: v1.Platform{OS: "linux", Architecture: architecture}, Compress: compress, Docker: docker,
			Layers: [][]byte{
				testimage.Tar(testimage.File{Name: "noise", Body: noise(2 << 20)}),
				testimage.Tar(testimage.File{Name: "arch", Body: architecture}),
			},
		})
	}
	intel, arm, docker := build("amd64", "gzip", false), build("arm64", "zstd", false), build("amd64", "gzip", true)
	index := r.PushIndex(t, "team/app", "multi", intel, arm)
	r.Push(t, "team/app", "docker", docker)
	store, err := image.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string // after the repository
		arch string
		want *testimage.Image
	}{
		{":multi", "amd64", intel}, {":multi", "arm64", arm}, {"@" + index.Digest.String(), "arm64", arm},
		{"@" + arm.Manifest.Digest.String(), "arm64", arm}, {":docker", "amd64", docker},
	} {
		ref, err := image.ParseReference(r.Host() + "/team/app" + c.name)
		if err != nil {
			t.Fatal(err)
		}
		img, err := Pull(t.Context(), PullRequest{
			Ref: ref, Store: store, Platform: image.Platform{OS: "linux", Architecture: c.arch},
			Layer: func(_ context.Context, l image.Layer, stream io.Reader) error {
				if got, err := digest.FromReader(stream); got != l.DiffID {
					return fmt.Errorf("got %s, %w", got, err)
				}
				return nil
			},
		})
		if err != nil {
			t.Fatalf("%s for %s: %v", c.name, c.arch, err)
		}
		if img.ConfigDigest != c.want.Config.Digest {
			t.Errorf("%s for %s: got %s", c.name, c.arch, img.ConfigDigest)
		}
	}
	ref, err := image.ParseReference(r.Host() + "/team/app:absent")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Pull(t.Context(), PullRequest{Ref: ref, Store: store})
	want := fmt.Sprintf("pull %s/team/app:absent: registry %[1]s: manifest team/app:absent: not found: 404 Not Found: MANIFEST_UNKNOWN ", r.Host())
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
