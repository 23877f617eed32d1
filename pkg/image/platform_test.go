package image

import (
	"fmt"
	"runtime"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestParsePlatform(t *testing.T) {
	for s, want := range map[string]string{
		"linux/amd64": "linux/amd64", "linux/x86_64": "linux/amd64", "Linux/AMD64": "linux/amd64", "linux/amd64/v1": "linux/amd64",
		"linux/amd64/v3": "linux/amd64/v3", "linux/aarch64": "linux/arm64", "linux/arm64/v8": "linux/arm64", "linux/arm64/v9": "linux/arm64/v9",
		"linux/arm": "linux/arm/v7", "linux/armhf": "linux/arm/v7", "linux/armel": "linux/arm/v6", "linux/arm/v6": "linux/arm/v6", "linux/arm/6": "linux/arm/v6",
		"arm64": "linux/arm64", "i686": "linux/386", "linux": "linux/" + runtime.GOARCH, "macos/arm64": "darwin/arm64", "ppc64el": "linux/ppc64le",
		"linux/loongarch64": "linux/loong64", "linux/mipsel": "linux/mipsle", "linux/mips64el": "linux/mips64le", "windows/amd64": "windows/amd64",
	} {
		got, err := ParsePlatform(s)
		if err != nil || got.String() != want {
			t.Errorf("%q: got %v, %v; want %s", s, got, err, want)
		}
	}
	for s, want := range map[string]string{
		"":          `platform "" is not of the form os/arch[/variant]`,
		"linux/":    `platform "linux/" is not of the form os/arch[/variant]`,
		"a/b/c/d":   `platform "a/b/c/d" is not of the form os/arch[/variant]`,
		"linux/a b": `platform "linux/a b" is not of the form os/arch[/variant]`,
		"nonsense":  `platform "nonsense": neither an operating system nor an architecture is called so`,
	} {
		if _, err := ParsePlatform(s); err == nil || err.Error() != want {
			t.Errorf("%q: got %v", s, err)
		}
	}
}

func TestSelectPrefersBestVariant(t *testing.T) {
	index := func(platforms ...string) *v1.Index {
		i := &v1.Index{}
		for n, s := range platforms {
			d := v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Size: int64(n), Digest: digest.FromString(fmt.Sprint(n))}
			if s != "" {
				p, err := ParsePlatform(s)
				if err != nil {
					t.Fatal(err)
				}
				spec := p.spec()
				d.Platform = &spec
			}
			i.Manifests = append(i.Manifests, d)
		}
		return i
	}
	serving := func(i *v1.Index, want Platform) []v1.Descriptor {
		found, err := rank(v1.Descriptor{}, i, want, nil)
		if err != nil {
			t.Fatal(err)
		}
		return found.serving
	}
	for _, c := range []struct {
		want  string
		have  []string
		order []int64 // of the candidates
	}{
		{"linux/amd64", []string{"linux/arm64", "linux/amd64", "windows/amd64"}, []int64{1}},
		{"linux/arm/v7", []string{"linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm64"}, []int64{2, 1, 0}},
		{"linux/arm/v6", []string{"linux/arm/v5", "linux/arm/v7"}, []int64{0}},
		{"linux/amd64", []string{"linux/amd64/v3", "linux/amd64/v2"}, nil},
		{"linux/amd64/v3", []string{"linux/amd64", "linux/amd64/v2", "linux/amd64/v4"}, []int64{1, 0}},
		{"linux/arm64", []string{"linux/arm64", "linux/arm64"}, []int64{0, 1}},
		{"linux/arm64", []string{""}, []int64{0}},
		{"linux/arm64", []string{"", "linux/amd64"}, nil},
		{"linux/amd64", []string{"unknown/unknown", "linux/amd64"}, []int64{1}},
		{"linux/arm/odd", []string{"linux/arm/v5", "linux/arm/odd"}, []int64{1}},
	} {
		want, err := ParsePlatform(c.want)
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for _, d := range serving(index(c.have...), want) {
			got = append(got, d.Size)
		}
		if !slices.Equal(got, c.order) {
			t.Errorf("%s of %q: got %v, want %v", c.want, c.have, got, c.order)
		}
	}
	if got := len(serving(index("unknown/unknown", "linux/s390x", Default().String()), AnyPlatform)); got != 2 {
		t.Errorf("any platform: %d candidates", got)
	}
	first := serving(index("linux/s390x", Default().String()), AnyPlatform)[0]
	if first.Size != 1 {
		t.Error("any platform: this machine's is not first")
	}
}
