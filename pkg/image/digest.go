package image

import (
	"fmt"
	"strings"

	_ "crypto/sha256" // digest.Digester finds its hash functions by import
	_ "crypto/sha512"

	"github.com/opencontainers/go-digest"
)

// digestLengths gives the number of hexadecimal digits of the algorithms that
// the image specification registers (descriptor.md, "Registered Algorithms").
func digestLength(algorithm string) int {
	switch algorithm {
	case "sha256":
		return 64
	case "sha512":
		return 128
	}
	return 0
}

// ParseDigest checks that s is "sha256:" or "sha512:" followed by the right
// number of lower-case hexadecimal digits. Only what passes here may become part
// of a path or URL (CVE-2024-3727). The error wraps [ErrInvalid].
func ParseDigest(s string) (digest.Digest, error) {
	algorithm, encoded, ok := strings.Cut(s, ":")
	want := digestLength(algorithm)
	switch {
	case !ok:
		return "", fmt.Errorf("digest %q has no algorithm: %w", cut(s), ErrInvalid)
	case want == 0:
		return "", fmt.Errorf("digest %q: algorithm is neither sha256 nor sha512: %w", cut(s), ErrInvalid)
	case len(encoded) != want:
		return "", fmt.Errorf("digest %q has %d digits, not %d: %w", cut(s), len(encoded), want, ErrInvalid)
	case !isHex(encoded):
		return "", fmt.Errorf("digest %q is not in lower-case hexadecimal: %w", cut(s), ErrInvalid)
	}
	return digest.Digest(s), nil
}

// isHex reports whether s consists of lower-case hexadecimal digits.
func isHex(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// cut shortens what somebody else wrote to a length fit for an error message.
func cut(s string) string {
	const longest = 160
	if len(s) <= longest {
		return s
	}
	return s[:longest] + "..."
}
