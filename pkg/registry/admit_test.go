package registry

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containr/containr/internal/testkit/realregistry"
	"github.com/containr/containr/internal/testkit/testimage"
	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/registry/trust"
)

// signer signs as cosign does, with a key of its own.
type signer struct {
	key    *ecdsa.PrivateKey
	public string // the file of the public key
}

func newSigner(t *testing.T) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	public := filepath.Join(t.TempDir(), "key.pub")
	if err := os.WriteFile(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return signer{key, public}
}

// sign puts a signature of a manifest beside it: an image under a tag made of its digest, whose layer is what is signed
// (cosign's SIGNATURE_SPEC.md).
func (s signer) sign(t *testing.T, r *realregistry.Registry, repository, name string, d digest.Digest) {
	t.Helper()
	payload := testimage.NewBlob(payloadType, fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, name, d))
	sum := sha256.Sum256(payload.Data)
	signature, err := ecdsa.SignASN1(rand.Reader, s.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	config := testimage.NewBlob(v1.MediaTypeImageConfig, []byte(`{"architecture":"","os":"","rootfs":{"type":"layers","diff_ids":[]}}`))
	layer := payload.Descriptor
	layer.Annotations = map[string]string{signatureAnnotation: base64.StdEncoding.EncodeToString(signature)}
	m := v1.Manifest{MediaType: v1.MediaTypeImageManifest, Config: config.Descriptor, Layers: []v1.Descriptor{layer}}
	m.SchemaVersion = 2
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []testimage.Blob{payload, config} {
		r.PushBlob(t, repository, b.Descriptor, bytes.NewReader(b.Data))
	}
	r.PushManifest(t, repository, tagOf(d)+".sig", m.MediaType, data)
}

// policyOf makes a policy of one requirement.
func policyOf(t *testing.T, requirement string) *trust.Policy {
	t.Helper()
	file := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(file, fmt.Appendf(nil, `{"default": [%s]}`, requirement), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := trust.Load([]string{file})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What is signed is pulled under a policy that wants the signature, whether the index was signed or the image in it. Without
// one, by another key or under another name it is not, and nothing of it stays.
func TestPolicyWantsSignatures(t *testing.T) { registries(t, pullSigned) }

func pullSigned(t *testing.T, r *realregistry.Registry) {
	mine := newSigner(t)
	public, stranger := mine.public, newSigner(t).public
	img := testimage.Build(testimage.Options{})
	r.Push(t, "app", "unsigned", testimage.Build(testimage.Options{Compress: "zstd"}))
	r.Push(t, "signed", "1", img)
	mine.sign(t, r, "signed", r.Host()+"/signed:1", img.Manifest.Digest)
	index := r.PushIndex(t, "index", "1", img)
	mine.sign(t, r, "index", r.Host()+"/index:1", index.Digest)
	r.PushIndex(t, "inner", "1", img)
	mine.sign(t, r, "inner", r.Host()+"/inner:1", img.Manifest.Digest)
	r.Push(t, "stolen", "1", img) // a signature that was made for another name
	mine.sign(t, r, "stolen", r.Host()+"/signed:1", img.Manifest.Digest)
	wants := func(key, identity string) *trust.Policy {
		return policyOf(t, fmt.Sprintf(`{"type": "sigstoreSigned", "keyPath": %q, "signedIdentity": {"type": %q}}`, key, identity))
	}
	for _, c := range []struct {
		name   string
		policy *trust.Policy
		good   bool
	}{
		{"/signed:1", nil, true}, {"/signed:1", wants(public, "matchRepository"), true}, {"/signed:1", wants(public, "matchExact"), true},
		{"/signed:1", wants(stranger, "matchRepository"), false}, {"/app:unsigned", wants(public, "matchRepository"), false},
		{"/signed:1", wants(public, "remapIdentity"), false}, {"/signed:1", policyOf(t, `{"type": "reject"}`), false},
		{"/index:1", wants(public, "matchRepository"), true}, {"/inner:1", wants(public, "matchRepository"), true},
		{"/index:1", wants(stranger, "matchRepository"), false}, {"/stolen:1", wants(public, "matchRepository"), false},
		{"/app:unsigned", policyOf(t, `{"type": "insecureAcceptAnything"}`), true},
	} {
		store, err := image.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		ref, err := image.ParseReference(r.Host() + c.name)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Pull(t.Context(), PullRequest{Ref: ref, Store: store, Platform: amd64, Access: Access{Policy: c.policy, Retry: quick}})
		if (err == nil) != c.good || err != nil && !errors.Is(err, trust.ErrPolicy) {
			t.Errorf("%s: %v, want %v", c.name, err, c.good)
		}
		if blobs, listErr := store.Blobs(); err != nil && (listErr != nil || len(blobs) > 0) {
			t.Errorf("%s: left %v, %v", c.name, blobs, listErr)
		}
	}
}

// A registry whose images are rejected is not even asked.
func TestRejectedRegistryIsNotAsked(t *testing.T) {
	asked := false
	a := Access{Policy: policyOf(t, `{"type": "reject"}`), Trace: func(Exchange) { asked = true }}
	store, err := image.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ref := image.Reference{Domain: "127.0.0.1:1", Path: "app", Tag: "1"}
	_, pullErr := Pull(t.Context(), PullRequest{Ref: ref, Store: store, Access: a})
	_, artifactErr := PullArtifact(t.Context(), PullRequest{Ref: ref, Store: store, Access: a})
	if !errors.Is(pullErr, trust.ErrPolicy) || !errors.Is(artifactErr, trust.ErrPolicy) || asked {
		t.Errorf("%v, %v, asked: %v", pullErr, artifactErr, asked)
	}
}
