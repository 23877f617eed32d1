package image

import (
	"errors"
	"strings"
	"testing"

	distribution "github.com/distribution/reference"
)

const someDigest = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

// names are valid and invalid references, and the seed of the fuzz test.
var names = []string{
	"debian", "debian:12", "library/debian", "docker.io/debian", "index.docker.io/debian", "docker.io/library/debian:latest",
	"user/app", "localhost/app", "localhost:5000/app:v1", "example.com/a/b/c:tag", "127.0.0.1:80/x", "[::1]:5000/x/y", "[fe80::1]/x",
	"debian@" + someDigest, "debian:12@" + someDigest, "UPPER/app", "a__b", "a--b.c_d/e", "Host/app:1", "a.b/c",
	"", ":", "/", "a/", "/a", "a//b", "a:", "a@", "a@sha256:12", "A", "a/B", "a___b", "a..b", "-a", "a-", "a:.b", "a:-b", "a:" + strings.Repeat("x", 128),
	"a:" + strings.Repeat("x", 129), strings.Repeat("a", 255), strings.Repeat("a", 256), "x/" + strings.Repeat("a/", 127) + "a",
	strings.Repeat("a", 64), strings.Repeat("a", 63), "https://example.com/a", "example.com:port/a", "example.com:/a", "a_b.c/d", "[::1/x", "[]/x", "[::1]x/x",
	"debian:12:13", "debian@" + someDigest + "@" + someDigest, "debian@sha512:" + strings.Repeat("a", 128), "debian@md5:" + strings.Repeat("a", 32),
	"debian@sha256:" + strings.Repeat("A", 64), "débian", "debian\n", "debian ", " debian", "a/b:c/d", "example.com", "example.com:80", "a:b@c/d",
}

// expectSameAsDistribution compares with the module that docker uses.
func expectSameAsDistribution(t *testing.T, s string) {
	t.Helper()
	ours, err := ParseReference(s)
	if err != nil && !errors.Is(err, ErrReference) {
		t.Fatalf("%q: error %v is no ErrReference", s, err)
	}
	theirs, theirErr := distribution.ParseDockerRef(s)
	if theirErr == nil {
		if distribution.Domain(theirs) == "" || strings.Contains(s, "@sha384:") {
			// Deliberate differences: no valid registry, unregistered algorithm.
			theirErr = errors.New("refused by us")
		}
	}
	if (err == nil) != (theirErr == nil) {
		t.Fatalf("%q: we say %v, distribution says %v", s, err, theirErr)
	}
	if err != nil {
		return
	}
	if ours.String() != theirs.String() || ours.Domain != distribution.Domain(theirs) || ours.Path != distribution.Path(theirs) {
		t.Fatalf("%q: we say %+v, distribution says %s", s, ours, theirs)
	}
	if ours.Familiar() != distribution.FamiliarString(theirs) {
		t.Fatalf("%q: familiar %q, distribution says %q", s, ours.Familiar(), distribution.FamiliarString(theirs))
	}
	if again, err := ParseReference(ours.String()); err != nil || again != ours {
		t.Fatalf("%q: %q does not mean the same: %+v, %v", s, ours.String(), again, err)
	}
	if again, err := ParseReference(ours.Familiar()); err != nil || again != ours {
		t.Fatalf("%q: %q does not mean the same: %+v, %v", s, ours.Familiar(), again, err)
	}
}

func TestReferencesMeanWhatTheyMeanToDocker(t *testing.T) {
	for _, s := range names {
		expectSameAsDistribution(t, s)
	}
}

func FuzzReference(f *testing.F) {
	for _, s := range names {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.HasPrefix(s, "docker.io/library/docker.io") || strings.Contains(s, "://") {
			t.Skip("skipped: familiar names of such repositories are ambiguous; URLs have an error of their own")
		}
		expectSameAsDistribution(t, s)
	})
}

func TestReferenceErrors(t *testing.T) {
	for s, want := range map[string]string{
		"":                              `invalid reference "": it is empty`,
		"https://example.com/a":         `invalid reference "https://example.com/a": it is a URL; leave out what precedes the registry's name`,
		"Debian":                        `invalid reference "Debian": the repository name must be in lower case`,
		"a_b.c/d":                       `invalid reference "a_b.c/d": "a_b.c" is not a registry host`,
		"a:.b":                          `invalid reference "a:.b": the tag must be up to 128 letters, digits, and any of _ . - (not first . or -)`,
		"a@sha256:12":                   `invalid reference "a@sha256:12": what follows @ is not a sha256 or sha512 digest`,
		"a//b":                          `invalid reference "a//b": the repository name must be lower-case letters and digits, separated by one of . _ __ - or /`,
		strings.Repeat("0", 64):         `invalid reference "` + strings.Repeat("0", 64) + `": 64 hexadecimal digits are an image id, not a name`,
		"x/" + strings.Repeat("a", 254): `invalid reference "x/` + strings.Repeat("a", 158) + `...": the repository name is longer than 255 bytes`,
	} {
		_, err := ParseReference(s)
		expectError(t, err, ErrReference, want)
	}
}

func TestParseDigest(t *testing.T) {
	for s, want := range map[string]string{
		someDigest:                           "",
		"sha512:" + strings.Repeat("0", 128): "",
		"../../etc/passwd":                   `digest "../../etc/passwd" has no algorithm: invalid image`,
		"sha256:../../../../etc/passwd":      `digest "sha256:../../../../etc/passwd" has 22 digits, not 64: invalid image`,
		"md5:0":                              `digest "md5:0": algorithm is neither sha256 nor sha512: invalid image`,
		"sha256:" + strings.Repeat("G", 64):  `digest "sha256:` + strings.Repeat("G", 64) + `" is not in lower-case hexadecimal: invalid image`,
	} {
		_, err := ParseDigest(s)
		if want == "" && err != nil {
			t.Errorf("%q: %v", s, err)
		}
		if want != "" {
			expectError(t, err, ErrInvalid, want)
		}
	}
}

func BenchmarkParseReference(b *testing.B) {
	for b.Loop() {
		if _, err := ParseReference("registry.example.com:5000/team/app:v1.2"); err != nil {
			b.Fatal(err)
		}
	}
}
