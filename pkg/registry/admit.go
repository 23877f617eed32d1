package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/registry/trust"
)

// Bounds on the signatures of one image.
const (
	maxSignatures = 64
	maxPayload    = 64 << 10 // bytes
)

// What cosign calls its signatures.
const (
	payloadType         = "application/vnd.dev.cosign.simplesigning.v1+json"
	signatureAnnotation = "dev.cosignproject.cosign/signature"
)

// mayAsk refuses names of which the policy allows nothing, before anything is asked.
func (a *Access) mayAsk(ref image.Reference) error {
	for _, r := range a.Policy.For(ref) {
		if err := r.Refuses(); err != nil {
			return fmt.Errorf("policy %s: %w", a.Policy.File(), err)
		}
	}
	return nil
}

// admit checks that the policy allows what a name means: digests are those of the index and of the manifest in it, and
// a signature of either will do, as the one has the other's digest in it.
func (p *puller) admit(ctx context.Context, digests ...digest.Digest) error {
	var signatures []trust.Signature
	fetched := false
	policy := p.request.Policy
	for _, r := range policy.For(p.request.Ref) {
		if !r.Signed() {
			continue
		}
		if !fetched {
			var err error
			if signatures, err = p.signatures(ctx, digests); err != nil {
				return err
			}
			fetched = true
		}
		if err := met(r, signatures, p.request.Ref, digests); err != nil {
			return fmt.Errorf("policy %s: %w", policy.File(), err)
		}
	}
	return nil
}

// met reports whether one of the signatures meets a requirement, or else why the last did not.
func met(r trust.Requirement, signatures []trust.Signature, ref image.Reference, digests []digest.Digest) error {
	err := fmt.Errorf("it wants a signature of cosign, and the image has none (a bundle, as cosign 3 makes it without --new-bundle-format=false, is not read): %w", trust.ErrPolicy)
	for _, s := range signatures {
		if err = r.Verify(s, ref, digests...); err == nil {
			return nil
		}
	}
	return err
}

// signatures fetches what cosign has put beside a manifest: an image under a tag made of its digest, with a payload for each
// layer. Whether they are right says trust.
func (p *puller) signatures(ctx context.Context, digests []digest.Digest) (found []trust.Signature, err error) {
	for i, d := range digests {
		if i > 0 && d == digests[0] {
			continue
		}
		ctx := because(ctx, "The signatures of cosign, which the policy wants.")
		got, err := p.source.manifest(ctx, tagOf(d)+".sig", v1.Descriptor{})
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var m v1.Manifest
		if json.Unmarshal(got.data, &m) != nil {
			return nil, fmt.Errorf("registry %s: signatures: %w", p.source.name(), image.ErrInvalid)
		}
		for _, l := range m.Layers {
			if l.MediaType != payloadType {
				continue
			}
			if len(found) == maxSignatures || l.Size > maxPayload {
				return nil, fmt.Errorf("registry %s: more than %d signatures, or one over %d bytes: %w", p.source.name(), maxSignatures, maxPayload, image.ErrLimit)
			}
			if _, err := image.ParseDigest(l.Digest.String()); err != nil {
				return nil, fmt.Errorf("registry %s: signatures: %w", p.source.name(), err)
			}
			data, err := p.source.document(ctx, l)
			if err != nil {
				return nil, err
			}
			found = append(found, trust.Signature{Payload: data.data, Signature: l.Annotations[signatureAnnotation]})
		}
	}
	return found, nil
}
