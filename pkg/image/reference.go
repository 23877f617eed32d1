package image

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Reference is a parsed image name: which repository of which registry, and
// which image in it, by tag or by digest.
type Reference struct {
	Domain string        // host[:port], "docker.io" by default
	Path   string        // repository within the registry, "library/debian"
	Tag    string        // "latest" by default; empty if Digest is set
	Digest digest.Digest // of the target; may be empty
}

// What an abbreviated name stands for, as docker has it.
const (
	defaultDomain   = "docker.io"
	legacyDomain    = "index.docker.io"
	officialPrefix  = "library/"
	defaultTag      = "latest"
	maxPathLength   = 255
	maxTagLength    = 128
	anonymousLength = 64 // digits of an image id, which no name may look like
)

// ParseReference parses an image name the way docker does. Its grammar is that
// of the module github.com/distribution/reference: "debian" means
// docker.io/library/debian:latest; the first component is a registry if it
// contains a dot, a colon or an upper-case letter or is "localhost". Of a name
// with both tag and digest the digest counts, and the tag is dropped. Names
// without a valid registry host are refused, which that module lets pass.
//
// The parser is written by hand, because compiling the regular expressions of
// the module costs every command 0.4 ms. The error wraps [ErrReference].
func ParseReference(s string) (Reference, error) {
	r, reason := parseReference(s)
	if reason != "" {
		return Reference{}, fmt.Errorf("%w %q: %s", ErrReference, cut(s), reason)
	}
	return r, nil
}

// parseReference returns the reason why s is no reference, or "".
func parseReference(s string) (r Reference, reason string) {
	switch {
	case s == "":
		return r, "it is empty"
	case strings.Contains(s, "://"):
		return r, "it is a URL; leave out what precedes the registry's name"
	case len(s) == anonymousLength && isHex(s):
		return r, "64 hexadecimal digits are an image id, not a name"
	}
	domain, rest := splitDomain(s)
	rest, dgst, hasDigest := strings.Cut(rest, "@")
	path, tag, hasTag := strings.Cut(rest, ":")
	switch {
	case !isDomain(domain):
		return r, fmt.Sprintf("%q is not a registry host", cut(domain))
	case strings.ToLower(path) != path:
		return r, "the repository name must be in lower case"
	case !isPath(path):
		return r, "the repository name must be lower-case letters and digits, separated by one of . _ __ - or /"
	case len(path) > maxPathLength:
		return r, fmt.Sprintf("the repository name is longer than %d bytes", maxPathLength)
	case hasTag && !isTag(tag):
		return r, "the tag must be up to 128 letters, digits, and any of _ . - (not first . or -)"
	}
	r = Reference{Domain: domain, Path: path, Tag: tag}
	if hasDigest {
		parsed, err := ParseDigest(dgst)
		if err != nil {
			return r, "what follows @ is not a sha256 or sha512 digest"
		}
		r.Tag, r.Digest = "", parsed
	} else if !hasTag {
		r.Tag = defaultTag
	}
	return r, ""
}

// splitDomain separates the registry from the rest, filling in docker's defaults.
func splitDomain(s string) (domain, rest string) {
	first, after, ok := strings.Cut(s, "/")
	switch {
	case !ok:
		return defaultDomain, officialPrefix + s
	case first == legacyDomain:
		domain, rest = defaultDomain, after
	case first == "localhost", strings.ContainsAny(first, ".:"), strings.ToLower(first) != first:
		domain, rest = first, after
	default:
		domain, rest = defaultDomain, s
	}
	if domain == defaultDomain && !strings.Contains(rest, "/") {
		rest = officialPrefix + rest
	}
	return domain, rest
}

// Name returns the repository with its registry, without tag and digest.
func (r Reference) Name() string { return r.Domain + "/" + r.Path }

// String returns the full, canonical name, under which a store keeps the image.
func (r Reference) String() string { return r.Name() + r.selector() }

// Familiar returns the shortest name that means the same, for people to read.
func (r Reference) Familiar() string {
	name := r.Name()
	if r.Domain == defaultDomain {
		name = strings.TrimPrefix(r.Path, officialPrefix)
		if strings.Contains(name, "/") {
			name = r.Path
		}
	}
	return name + r.selector()
}

// selector returns the part that chooses an image of a repository.
func (r Reference) selector() string {
	if r.Digest != "" {
		return "@" + r.Digest.String()
	}
	return ":" + r.Tag
}

// isDomain checks host[:port], where host is a DNS name, an IPv4 address, or an
// IPv6 address between brackets.
func isDomain(s string) bool {
	host, port, hasPort := s, "", false
	if strings.HasPrefix(s, "[") {
		address, after, closed := strings.Cut(s[1:], "]")
		if !closed || address == "" || strings.Trim(address, "0123456789abcdefABCDEF:") != "" {
			return false
		}
		if after == "" {
			return true
		}
		port, hasPort = strings.CutPrefix(after, ":")
		return hasPort && isNumber(port)
	}
	host, port, hasPort = strings.Cut(s, ":")
	if hasPort && !isNumber(port) {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if !isLabel(label) {
			return false
		}
	}
	return true
}

// isLabel checks one component of a DNS name.
func isLabel(s string) bool {
	if s == "" || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if !isLower(c) && !isUpper(c) && !isDigit(c) && c != '-' {
			return false
		}
	}
	return true
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// isPath checks the components of a repository name.
func isPath(s string) bool {
	for component := range strings.SplitSeq(s, "/") {
		if !isComponent(component) {
			return false
		}
	}
	return true
}

// isComponent checks runs of letters and digits with single separators between
// them: one dot, one or two underscores, or any number of dashes.
func isComponent(s string) bool {
	separator := "." // nothing precedes the first run
	for s != "" {
		run := 0
		for run < len(s) && (isLower(s[run]) || isDigit(s[run])) {
			run++
		}
		if run == 0 {
			return false
		}
		rest := strings.TrimLeft(s[run:], "._-")
		separator = s[run : len(s)-len(rest)]
		if separator != "" && separator != "." && separator != "_" && separator != "__" && strings.Trim(separator, "-") != "" {
			return false
		}
		s = rest
	}
	return separator == "" // ends with a run
}

// IsTag reports whether a string can be a tag.
func IsTag(s string) bool { return isTag(s) }

func isTag(s string) bool {
	if s == "" || len(s) > maxTagLength || s[0] == '.' || s[0] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if !isLower(c) && !isUpper(c) && !isDigit(c) && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }
