// Package trust decides by whose signature an image may be pulled.
//
// # Theory of operation
//
// The policy is a file that podman, buildah and skopeo read too, policy.json (containers-policy.json(5)). For a name it
// has a list of requirements, all of which must be met: those of the longest scope that the name is in
// (registry, path, repository, tag), or else the default. A requirement is one of
//
//   - insecureAcceptAnything: nothing is asked;
//   - reject: nothing of that name is pulled, and its registry is not even asked;
//   - sigstoreSigned: cosign has signed the image with one of some keys, and said that it is called
//     so (signedIdentity).
//
// What a file says and this package cannot check is refused in words when an image is pulled, and never taken for met:
// signatures of GnuPG (signedBy), and those of sigstore without a key of one's own (fulcio, pki) or with an entry in a
// log (rekor). A file with a word in it that is unknown is refused as a whole: the word may have been a condition.
//
// A cosign signature is over a small JSON document, the payload, that names the digest of the manifest and the
// image's name. [Requirement.Verify] checks, in this order, the signature over the bytes of the payload,
// and only then what the bytes say. The cryptography is Go's own; that a key signs as cosign has it
// sign (ECDSA, RSA PKCS #1 v1.5, Ed25519, over SHA-256) is all there is to the format, so no library of
// sigstore is linked, which would double the program.
package trust
