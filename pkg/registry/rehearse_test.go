package registry

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containr/containr/internal/testkit/fakeregistry"
	"github.com/containr/containr/internal/testkit/testimage"
)

// The script that explains a pull pulls: curl gets the very bytes, whoever must be asked
// for a token and wherever blobs are.
func TestExplainedPullCanBeDoneByHand(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skipf("skipped: %v", err)
	}
	for name, o := range map[string]fakeregistry.Options{
		"open": {}, "token": {Token: true}, "user's token": {Token: true, Username: "u", Password: "pass word"}, "basic": {Basic: true, Username: "u", Password: "pass word"},
		"identity token": {Token: true, Username: "u", Password: "x", IdentityToken: "refresh"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, o)
			arm := testimage.Build(testimage.Options{Platform: v1.Platform{OS: "linux", Architecture: "arm64"}})
			index := s.PushIndex("library/app", "1", arm, s.image)
			s.Fail(fakeregistry.Fault{Path: s.image.Layers[0].Digest.String(), Times: 1, Redirect: s.URL() + "/elsewhere%s"})
			r := s.request(t)
			r.Rehearse = true
			if o.IdentityToken != "" {
				r.Credential = &Credential{Username: "u", IdentityToken: o.IdentityToken}
			} else if o.Username != "" {
				r.Credential = &Credential{Username: o.Username, Password: o.Password}
			}
			var script bytes.Buffer
			curl := NewCurl(&script)
			r.Trace = curl.Tell
			if _, err := Pull(t.Context(), r); err != nil || curl.Err() != nil {
				t.Fatal(err, curl.Err())
			}
			s.expectEmpty(t)
			for _, l := range s.image.Layers {
				if n := len(s.Requests(l.Digest.String())); n > 0 {
					t.Errorf("a layer was asked for %d times", n)
				}
			}
			for _, secret := range []string{"pass word", "refresh", "fake-token"} {
				if strings.Contains(strings.ReplaceAll(script.String(), "refresh_token", ""), secret) {
					t.Errorf("the script tells %q", secret)
				}
			}
			dir := t.TempDir()
			cmd := exec.Command("sh", "-eu", "-c", script.String())
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "NAME=u", "PASSWORD="+o.Password, "IDENTITY_TOKEN="+o.IdentityToken)
			if said, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s\n%s", err, said, script.String())
			}
			for name, want := range map[string][]byte{
				"1.json": index.Data, s.image.Manifest.Digest.Encoded(): s.image.Manifest.Data, s.image.Config.Digest.Encoded(): s.image.Config.Data,
				s.image.Layers[0].Digest.Encoded(): s.image.Layers[0].Data, s.image.Layers[1].Digest.Encoded(): s.image.Layers[1].Data,
			} {
				if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %d bytes, %v\n%s", name, len(got), err, script.String())
				}
			}
		})
	}
}

// What is here is not asked for, and said so.
func TestExplainedPullKnowsWhatIsHere(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	s.mustPull(t, s.request(t))
	r := s.request(t)
	r.Rehearse = true
	var script bytes.Buffer
	r.Trace = NewCurl(&script).Tell
	if _, err := Pull(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(script.String(), "It is here already"); n != len(s.image.Layers) || strings.Contains(script.String(), "/blobs/") {
		t.Errorf("%s", script.String())
	}
	s.mustPull(t, s.request(t)) // and it is still here
}

// Nothing that a registry says becomes a command of the script.
func TestExplanationQuotes(t *testing.T) {
	var script bytes.Buffer
	c := NewCurl(&script)
	evil := "x'; touch evil; echo '\ntouch evil\n"
	c.Tell(Exchange{Why: evil, Method: "GET", URL: "http://a.example/v2/x/manifests/" + "$(touch evil)';touch evil;'", Status: 200})
	c.Tell(Exchange{Why: evil, Method: "GET", URL: "http://a.example/v2/", Status: 401, Challenge: evil})
	c.Tell(Exchange{Method: "GET", URL: "http://a.example/?service='`touch evil`'", Token: true, Form: map[string][]string{"scope": {evil}}, Status: 200})
	dir := t.TempDir()
	cmd := exec.Command("sh", "-c", "curl() { :; }\n"+script.String())
	cmd.Dir = dir
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, said)
	}
	if _, err := os.Stat(filepath.Join(dir, "evil")); err == nil {
		t.Errorf("it did:\n%s", script.String())
	}
}
