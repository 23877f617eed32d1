package trust

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/containr/containr/pkg/image"
)

const zeros = digest.Digest("sha256:0000000000000000000000000000000000000000000000000000000000000000")

func parse(t *testing.T, name string) image.Reference {
	t.Helper()
	ref, err := image.ParseReference(name)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// load reads a policy from text.
func load(t *testing.T, text string) (*Policy, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load([]string{filepath.Join(t.TempDir(), "none"), file})
}

// The narrowest scope that a name is in counts, and alone.
func TestTheNarrowestScopeCounts(t *testing.T) {
	p, err := load(t, `{"default": [{"type": "default"}], "transports": {"docker": {
		"docker.io/library/app:1": [{"type": "tag"}], "docker.io/library/app": [{"type": "repository"}], "docker.io": [{"type": "registry"}],
		"example.com:5000/team": [{"type": "team"}], "*.example.com": [{"type": "domain"}]},
		"docker-daemon": {"": [{"type": "insecureAcceptAnything"}]}}}`)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"app:1": "tag", "app:2": "repository", "app@" + zeros.String(): "repository", "me/app": "registry", "apple": "registry",
		"example.com:5000/team/x/y": "team", "example.com:5000/teamwork": "default", "a.b.example.com/x": "domain", "a.example.com:1/x": "domain", "other.org/x": "default",
	} {
		if got := p.For(parse(t, name)); len(got) != 1 || got[0].Type != want {
			t.Errorf("%s: %+v, want %s", name, got, want)
		}
	}
	all, err := load(t, `{"default": [{"type": "reject"}], "transports": {"docker": {"": [{"type": "all"}]}}}`)
	if err != nil || all.For(parse(t, "app"))[0].Type != "all" {
		t.Errorf("%+v, %v", all, err)
	}
	if none, err := Load([]string{"/nowhere"}); none != nil || err != nil || none.For(parse(t, "app")) != nil {
		t.Errorf("%v, %v", none, err)
	}
}

// A file that is not understood to the last word is refused.
func TestPoliciesThatAreNone(t *testing.T) {
	for _, bad := range []string{
		"", "{}", "[]", `{"default": []}`, `{"default": [{"type": "reject"}]} x`, `{"default": [{"type": "reject"}], "more": 1}`,
		`{"default": [{"type": "reject", "unless": "x"}]}`, `{"default": [{"type": "reject"}], "transports": {"docker": {"x.io": []}}}`,
	} {
		if p, err := load(t, bad); !errors.Is(err, ErrPolicyFile) {
			t.Errorf("%q: %v, %v", bad, p, err)
		}
	}
}

// What cannot be checked is refused, whatever is signed.
func TestWhatCannotBeCheckedIsRefused(t *testing.T) {
	for _, r := range []string{
		`{"type": "reject"}`, `{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}`, `{"type": "new"}`, `{"type": ""}`,
		`{"type": "sigstoreSigned", "fulcio": {"caPath": "x"}}`, `{"type": "sigstoreSigned", "pki": {}}`,
		`{"type": "sigstoreSigned", "keyPath": "/k", "rekorPublicKeyPath": "/r"}`, `{"type": "sigstoreSigned", "keyPath": "/k", "rekorPublicKeyDatas": ["eA=="]}`,
		`{"type": "sigstoreSigned", "keyPath": "/k", "signedIdentity": {"type": "remapIdentity", "prefix": "a.io", "signedPrefix": "b.io"}}`,
		`{"type": "sigstoreSigned", "keyPath": "/k", "signedIdentity": {"type": "exactReference", "dockerReference": "NO"}}`,
	} {
		p, err := load(t, `{"default": [`+r+`]}`)
		if err != nil {
			t.Errorf("%s: %v", r, err)
			continue
		}
		if err := p.For(parse(t, "app"))[0].Refuses(); !errors.Is(err, ErrPolicy) {
			t.Errorf("%s: %v", r, err)
		}
	}
}

// sign signs as cosign does, and returns the public key in PEM.
func sign(t *testing.T, kind string, payload []byte) (signature string, public []byte) {
	t.Helper()
	var key crypto.Signer
	var err error
	sum := sha256.Sum256(payload)
	message, o := sum[:], crypto.SignerOpts(crypto.SHA256)
	switch kind {
	case "ecdsa":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "rsa":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
		message, o = payload, crypto.Hash(0)
	}
	if err != nil {
		t.Fatal(err)
	}
	raw, err := key.Sign(rand.Reader, message, o)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(raw), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func document(kind, name, d string) []byte {
	return fmt.Appendf(nil, `{"critical": {"type": %q, "identity": {"docker-reference": %q}, "image": {"docker-manifest-digest": %q}}, "optional": null}`, kind, name, d)
}

const cosigned = "cosign container image signature"

// Signatures of each kind of keys hold, and fall with any change of payload, signature or key.
func TestSignatures(t *testing.T) {
	ref := parse(t, "example.com/app:1")
	payload := document(cosigned, "example.com/app:1", zeros.String())
	_, other := sign(t, "ecdsa", payload)
	for _, kind := range []string{"ecdsa", "rsa", "ed25519"} {
		signature, public := sign(t, kind, payload)
		r := Requirement{Type: "sigstoreSigned", KeyDatas: [][]byte{other, public}}
		if err := r.Verify(Signature{payload, signature}, ref, zeros); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		changed := []byte(strings.Replace(string(payload), "null", "{} ", 1))
		raw, _ := base64.StdEncoding.DecodeString(signature)
		raw[len(raw)-1] ^= 1
		for what, s := range map[string]Signature{
			"payload": {changed, signature}, "signature": {payload, base64.StdEncoding.EncodeToString(raw)}, "none": {payload, ""}, "not base64": {payload, "%"},
		} {
			if err := r.Verify(s, ref, zeros); !errors.Is(err, ErrPolicy) {
				t.Errorf("%s, %s: %v", kind, what, err)
			}
		}
		if err := (&Requirement{Type: "sigstoreSigned", KeyData: other}).Verify(Signature{payload, signature}, ref, zeros); !errors.Is(err, ErrPolicy) {
			t.Errorf("%s, another key: %v", kind, err)
		}
	}
	for _, r := range []Requirement{{Type: "sigstoreSigned"}, {Type: "sigstoreSigned", KeyData: []byte("x")}, {Type: "sigstoreSigned", KeyPath: "/nowhere"}} {
		if err := r.Verify(Signature{payload, ""}, ref, zeros); !errors.Is(err, ErrPolicyFile) {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

// What is signed right must also be of this image, under this name.
func TestWhatIsSigned(t *testing.T) {
	tag, byDigest := "example.com/app:1", "example.com/app@"+zeros.String()
	for _, c := range []struct {
		payload []byte
		name    string
		id      identity
		good    bool
	}{
		{document(cosigned, "example.com/app:1", zeros.String()), tag, identity{}, true},
		{document("atomic container signature", "example.com/app:1", zeros.String()), tag, identity{}, true},
		{document("something else", "example.com/app:1", zeros.String()), tag, identity{}, false},
		{document(cosigned, "example.com/app:1", strings.Replace(zeros.String(), "0", "1", 1)), tag, identity{}, false},
		{document(cosigned, "example.com/app:1", ""), tag, identity{}, false},
		{document(cosigned, "example.com/app:2", zeros.String()), tag, identity{}, false},
		{document(cosigned, "example.com/app", zeros.String()), tag, identity{}, false},
		{document(cosigned, "example.com/app", zeros.String()), "example.com/app:latest", identity{}, false},
		{document(cosigned, "example.com/app", zeros.String()), tag, identity{Type: "matchRepository"}, true},
		{document(cosigned, "example.com/other", zeros.String()), tag, identity{Type: "matchRepository"}, false},
		{document(cosigned, "example.com/app:2", zeros.String()), byDigest, identity{}, true},
		{document(cosigned, "example.com/app:2", zeros.String()), byDigest, identity{Type: "matchExact"}, false},
		{document(cosigned, "example.com/app:1", zeros.String()), tag, identity{Type: "matchExact"}, true},
		{document(cosigned, "build.org/app:1", zeros.String()), tag, identity{Type: "exactReference", Reference: "build.org/app:1"}, true},
		{document(cosigned, "build.org/app:2", zeros.String()), tag, identity{Type: "exactReference", Reference: "build.org/app:1"}, false},
		{document(cosigned, "build.org/app:2", zeros.String()), tag, identity{Type: "exactRepository", Repository: "build.org/app"}, true},
		{document(cosigned, "NO", zeros.String()), tag, identity{Type: "matchRepository"}, false},
		{[]byte("{"), tag, identity{}, false}, {[]byte("null"), tag, identity{}, false},
	} {
		signature, public := sign(t, "ecdsa", c.payload)
		r := Requirement{Type: "sigstoreSigned", KeyData: public, Identity: c.id}
		err := r.Verify(Signature{c.payload, signature}, parse(t, c.name), zeros)
		if (err == nil) != c.good || err != nil && !errors.Is(err, ErrPolicy) {
			t.Errorf("%s as %s, %+v: %v", c.payload, c.name, c.id, err)
		}
	}
}
