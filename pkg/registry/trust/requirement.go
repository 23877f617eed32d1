package trust

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/containr/containr/pkg/image"
)

// Requirement is one thing that is wanted of an image.
type Requirement struct {
	Type      string   `json:"type"`
	KeyPath   string   `json:"keyPath"`
	KeyPaths  []string `json:"keyPaths"`
	KeyData   []byte   `json:"keyData"`
	KeyDatas  [][]byte `json:"keyDatas"`
	KeyType   string   `json:"keyType"` // of signedBy
	Identity  identity `json:"signedIdentity"`
	Fulcio    any      `json:"fulcio"`
	PKI       any      `json:"pki"`
	Rekor     string   `json:"rekorPublicKeyPath"`
	Rekors    []string `json:"rekorPublicKeyPaths"`
	RekorData []byte   `json:"rekorPublicKeyData"`
	RekorMany [][]byte `json:"rekorPublicKeyDatas"`
}

// identity says how the name in a signature must relate to the name that is pulled.
type identity struct {
	Type       string `json:"type"` // matchRepoDigestOrExact if empty
	Reference  string `json:"dockerReference"`
	Repository string `json:"dockerRepository"`
	Prefix     string `json:"prefix"`       // of remapIdentity, which is refused
	Signed     string `json:"signedPrefix"` // the same
}

// Refuses returns why nothing of a name may be pulled, whatever is signed; nil if it depends. The error wraps ErrPolicy.
func (r *Requirement) Refuses() error {
	switch {
	case r.Type == "insecureAcceptAnything":
		return nil
	case r.Type == "reject":
		return fmt.Errorf("it rejects images of this name: %w", ErrPolicy)
	case r.Type == "signedBy":
		return fmt.Errorf("it wants a signature of GnuPG, which containr cannot check: %w", ErrPolicy)
	case r.Type != "sigstoreSigned":
		return fmt.Errorf("it has a requirement of the unknown type %q: %w", r.Type, ErrPolicy)
	case r.Fulcio != nil || r.PKI != nil:
		return fmt.Errorf("it wants a signature by a certificate, which containr cannot check: %w", ErrPolicy)
	case r.Rekor != "" || len(r.Rekors) > 0 || len(r.RekorData) > 0 || len(r.RekorMany) > 0:
		return fmt.Errorf("it wants an entry in a log of signatures, which containr cannot check: %w", ErrPolicy)
	}
	return r.Identity.check()
}

// Signed reports whether the requirement wants a signature.
func (r *Requirement) Signed() bool { return r.Type != "insecureAcceptAnything" }

// Signature is one signature of cosign.
type Signature struct {
	Payload   []byte
	Signature string // in base64
}

// Verify checks a signature of the image that ref means: of the index or manifest with one of these digests. The error
// wraps ErrPolicy, or ErrPolicyFile if there is no usable key.
func (r *Requirement) Verify(s Signature, ref image.Reference, digests ...digest.Digest) error {
	if err := r.Refuses(); err != nil {
		return err
	}
	keys, err := r.keys()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPolicyFile, err)
	}
	raw, err := base64.StdEncoding.DecodeString(s.Signature)
	if err != nil {
		return fmt.Errorf("a signature is not in base64: %w", ErrPolicy)
	}
	signed := false
	for _, k := range keys {
		signed = signed || verifies(k, s.Payload, raw)
	}
	if !signed {
		return fmt.Errorf("a signature is by none of the keys: %w", ErrPolicy)
	}
	return r.Identity.checkPayload(s.Payload, ref, digests)
}

// keys reads the public keys, at least one.
func (r *Requirement) keys() ([]crypto.PublicKey, error) {
	texts := r.KeyDatas
	if len(r.KeyData) > 0 {
		texts = append(texts, r.KeyData)
	}
	for _, path := range append(r.KeyPaths, r.KeyPath) {
		if path == "" {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	var keys []crypto.PublicKey
	for _, text := range texts {
		block, _ := pem.Decode(text)
		if block == nil {
			return nil, errors.New("a key is not in PEM")
		}
		k, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, errors.New("a requirement sigstoreSigned has no key")
	}
	return keys, nil
}

// verifies checks a signature with one key.
func verifies(key crypto.PublicKey, payload, signature []byte) bool {
	sum := sha256.Sum256(payload)
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, sum[:], signature)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, crypto.SHA256, sum[:], signature) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(k, payload, signature)
	}
	return false
}

// payload is what is signed.
type payload struct {
	Critical struct {
		Type  string
		Image struct {
			Digest string `json:"docker-manifest-digest"`
		}
		Identity struct {
			Reference string `json:"docker-reference"`
		}
	}
}

// checkPayload checks what a payload says, whose signature is right.
func (i identity) checkPayload(data []byte, ref image.Reference, digests []digest.Digest) error {
	var p payload
	if err := json.Unmarshal(data, &p); err != nil {
		return fmt.Errorf("what is signed is no document of a signature: %w", ErrPolicy)
	}
	if t := p.Critical.Type; t != "cosign container image signature" && t != "atomic container signature" {
		return fmt.Errorf("what is signed is a %q and no image: %w", t, ErrPolicy)
	}
	same := false
	for _, d := range digests {
		same = same || d.String() == p.Critical.Image.Digest
	}
	if !same {
		return fmt.Errorf("what is signed is another image, %q: %w", p.Critical.Image.Digest, ErrPolicy)
	}
	if !i.matches(p.Critical.Identity.Reference, ref) {
		return fmt.Errorf("the image was signed as %q: %w", p.Critical.Identity.Reference, ErrPolicy)
	}
	return nil
}

// check refuses ways of comparing names that are not known here.
func (i identity) check() error {
	switch i.Type {
	case "", "matchRepoDigestOrExact", "matchRepository", "matchExact":
		return nil
	case "exactReference", "exactRepository":
		if _, err := image.ParseReference(cmp.Or(i.Reference, i.Repository)); err == nil {
			return nil
		}
	}
	return fmt.Errorf("it has a signedIdentity that containr cannot check, %q: %w", i.Type, ErrPolicy)
}

// matches reports whether the name in a signature is good for the name that is pulled. cosign signs repositories
// without a tag.
func (i identity) matches(signed string, ref image.Reference) bool {
	got, err := image.ParseReference(signed)
	if err != nil {
		return false
	}
	_, err = image.ParseReference(signed + ":x")
	bare := err == nil // there is no tag, and no digest, behind which another could not stand
	switch i.Type {
	case "matchRepository":
		return got.Name() == ref.Name()
	case "exactReference":
		want, err := image.ParseReference(i.Reference)
		return err == nil && !bare && got == want
	case "exactRepository":
		want, err := image.ParseReference(i.Repository)
		return err == nil && got.Name() == want.Name()
	case "matchExact":
		return !bare && ref.Digest == "" && got == ref
	}
	// matchRepoDigestOrExact: of a name by digest the repository counts, as the digest was signed.
	return got.Name() == ref.Name() && (ref.Digest != "" || !bare && got == ref)
}
